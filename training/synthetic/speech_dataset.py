"""Endless synthetic speech with exact phoneme labels: what the small audio encoder learns from."""

import numpy as np
import torch
from torch.utils.data import Dataset

from diffusers_dawn.records import FPS
from training.data.draw import Draw
from training.synthetic.audio_augmentation import augment
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import LABEL_REACH_SAMPLES, LABEL_STRIDE_SAMPLES, frame_labels
from training.synthetic.speakers import draw_speaker
from training.synthetic.spoken_clip import SpokenClip, speak_clip

SEED_LIMIT = 2**32
# as transformers' feature extractor
VARIANCE_FLOOR = 1e-7


def speak(draw: Draw, seconds: float, split: str) -> SpokenClip:
    """Let a new speaker say new sentences.

    Args:
        draw: Decides who and what.
        seconds: Length of the clip.
        split: "train" or "test": whose sentences.

    Returns:
        The clean sound and what sounds when.
    """
    rng = draw.random()
    speaker = draw_speaker(int(rng.integers(SEED_LIMIT)), is_feminine=bool(rng.integers(2)))
    return speak_clip(Espeak(), speaker, round(seconds * FPS), int(rng.integers(SEED_LIMIT)), split)


def normalised(samples: np.ndarray) -> np.ndarray:
    """Scale a recording as the feature extractor of HuBERT does with `do_normalize`: mean 0, variance 1."""
    return ((samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)).astype(np.float32)


def phonemes_of(spoken: SpokenClip) -> np.ndarray:
    """Label every frame that HuBERT makes of a clip; int64 (T,)."""
    num_labels = (len(spoken.samples) - LABEL_REACH_SAMPLES) // LABEL_STRIDE_SAMPLES + 1
    return frame_labels(spoken.segments, num_labels).astype(np.int64)


class SpokenPhonemes(Dataset):
    """Speech that is made when it is asked for, never twice the same.

    Args:
        num_clips: How many clips count as one pass.
        seconds: Length of a clip.
        augment_share: Share of clips that sound like recordings (see `audio_augmentation`), the others are clean.
    """

    def __init__(self, num_clips: int, seconds: float, augment_share: float) -> None:
        self.num_clips, self.seconds, self.augment_share = num_clips, seconds, augment_share

    def __len__(self) -> int:
        """Count the clips of a pass."""
        return self.num_clips

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Make a clip: samples (N,), normalised, and phonemes (T,), one per frame of HuBERT."""
        spoken = speak(draw, self.seconds, "train")
        samples = spoken.samples
        rng = np.random.default_rng((*draw.seed, 1))
        if rng.random() < self.augment_share:
            samples = augment(samples, int(rng.integers(SEED_LIMIT)))
        return {
            "samples": torch.from_numpy(normalised(samples)),
            "phonemes": torch.from_numpy(phonemes_of(spoken)),
        }
