"""Endless speech with phoneme labels, synthetic and real: what the small audio encoder learns from."""

from functools import cache

import numpy as np
import torch
from torch.utils.data import Dataset

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.data.draw import Draw
from training.synthetic.audio_augmentation import augment, noise_alone
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import LABEL_REACH_SAMPLES, LABEL_STRIDE_SAMPLES, SILENCE_INDEX, frame_labels
from training.synthetic.speakers import WORLD_SHARES, draw_speaker
from training.synthetic.spoken_clip import SpokenClip, speak_clip
from training.synthetic.voice.real_voices import RealClip, RealVoices

SEED_LIMIT = 2**32
# as transformers' feature extractor
VARIANCE_FLOOR = 1e-7
# share of clips in which nobody speaks
NOBODY_SHARE = 0.08
NUM_BANDS = 40
# energy of a band below which it counts as silent, where the clip's mean energy per band is about 1
BAND_FLOOR = 1e-4
_FFT_SAMPLES = 512


def speak(draw: Draw, seconds: float, split: str) -> SpokenClip:
    """Let a new speaker say new sentences, two thirds of the time in English.

    Args:
        draw: Decides who and what.
        seconds: Length of the clip.
        split: "train" or "test": whose sentences.

    Returns:
        The clean sound and what sounds when.
    """
    rng = draw.random()
    speaker = draw_speaker(int(rng.integers(SEED_LIMIT)), bool(rng.integers(2)), WORLD_SHARES)
    return speak_clip(Espeak(), speaker, round(seconds * FPS), int(rng.integers(SEED_LIMIT)), split)


def normalised(samples: np.ndarray) -> np.ndarray:
    """Scale a recording as the feature extractor of HuBERT does with `do_normalize`: mean 0, variance 1."""
    return ((samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)).astype(np.float32)


def phonemes_of(spoken: SpokenClip | RealClip) -> np.ndarray:
    """Label every frame that HuBERT makes of a clip; int64 (T,)."""
    return frame_labels(spoken.segments, _num_labels(spoken.samples)).astype(np.int64)


def log_bands(samples: np.ndarray) -> np.ndarray:
    """Measure how loud each band of the mel scale is in every frame of HuBERT.

    Args:
        samples: Normalised samples (N,), 16 kHz.

    Returns:
        Float32 array (T, 40): decimal logarithm of the mean energy, -4 at least.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, LABEL_REACH_SAMPLES)[::LABEL_STRIDE_SAMPLES]
    window = np.hanning(LABEL_REACH_SAMPLES + 2)[1:-1].astype(np.float32)
    energies = np.abs(np.fft.rfft(frames * window, _FFT_SAMPLES)) ** 2 / np.square(window).sum()
    return np.log10(np.maximum(energies @ _band_weights().T, BAND_FLOOR)).astype(np.float32)


class SpokenPhonemes(Dataset):
    """Speech that is made, or cut from recordings, when it is asked for, never twice the same.

    Args:
        num_clips: How many clips count as one pass.
        seconds: Length of a clip.
        augment_share: Share of clips that sound like recordings (see `audio_augmentation`), the others are clean; in
            some of them nobody speaks.
        voices: Real voices; None: all are synthetic.
        real_share: Share of clips with real voices.
    """

    def __init__(
        self,
        num_clips: int,
        seconds: float,
        augment_share: float,
        voices: RealVoices | None = None,
        real_share: float = 0.0,
    ) -> None:
        self.num_clips, self.seconds, self.augment_share = num_clips, seconds, augment_share
        self.voices, self.real_share = voices, real_share

    def __len__(self) -> int:
        """Count the clips of a pass."""
        return self.num_clips

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Make a clip.

        Returns:
            "samples" (N,), normalised; "phonemes" (T,), one per frame of HuBERT; "bands" (T, 40), see `log_bands`, of
            the speech alone.
        """
        rng = np.random.default_rng((*draw.seed, 1))
        is_augmented = rng.random() < self.augment_share
        if is_augmented and rng.random() < NOBODY_SHARE:
            samples = noise_alone(round(self.seconds * SAMPLE_RATE_HZ), int(rng.integers(SEED_LIMIT)))
            num_labels = _num_labels(samples)
            phonemes = np.full(num_labels, SILENCE_INDEX, np.int64)
            bands = np.full((num_labels, NUM_BANDS), np.log10(BAND_FLOOR), np.float32)
        else:
            clip = self._clip(draw, rng)
            samples, phonemes, bands = clip.samples, phonemes_of(clip), log_bands(normalised(clip.samples))
            if is_augmented:
                samples = augment(samples, int(rng.integers(SEED_LIMIT)))
        parts = {"samples": normalised(samples), "phonemes": phonemes, "bands": bands}
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    def _clip(self, draw: Draw, rng: np.random.Generator) -> SpokenClip | RealClip:
        if self.voices is not None and rng.random() < self.real_share:
            return self.voices.draw(rng, round(self.seconds * FPS) * SAMPLE_RATE_HZ // FPS)
        return speak(draw, self.seconds, "train")


def _num_labels(samples: np.ndarray) -> int:
    return (len(samples) - LABEL_REACH_SAMPLES) // LABEL_STRIDE_SAMPLES + 1


@cache
def _band_weights() -> np.ndarray:
    """Weights (bands, frequencies) of each band's mean."""
    import librosa

    weights = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=_FFT_SAMPLES, n_mels=NUM_BANDS, norm=None)
    return weights / weights.sum(axis=1, keepdims=True)
