"""Clips of real speech with phoneme labels, cut from recordings that `align_speech.py` aligned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.synthetic.phonemes import ClassSegment
from training.synthetic.voice.aligned_recording import AlignedRecording, read_aligned

# the same voice faster and higher, or slower and lower: as from a smaller or larger head
SPEEDS = (0.88, 1.14)
# how much silence may precede and follow a recording
MOST_SILENCE_S = 0.6
# hours of speech at 16 kHz and 16 bits: some 100 MB each
KEPT_RECORDINGS = 4096


@dataclass(frozen=True)
class RealClip:
    """A clip of a real voice.

    Attributes:
        samples: Float32 array (N,), 16 kHz.
        segments: Which class of phonemes sounds when, in order; silence outside of them.
    """

    samples: np.ndarray
    segments: tuple[ClassSegment, ...]


class RealVoices:
    """Aligned recordings, apart by whether their speakers are held out.

    Args:
        folders: Results of `align_speech.py`.
        held_out_speakers: Speakers that nothing is trained on.

    Attributes:
        train: Recordings of the other speakers.
        test: Recordings of those that are held out.

    Raises:
        ValueError: A folder holds no aligned recordings, a speaker is not among them, or nobody is left for training.
    """

    def __init__(self, folders: Sequence[str], held_out_speakers: Sequence[str]) -> None:
        found: list[AlignedRecording] = []
        for folder in folders:
            paths = sorted(Path(folder).glob("*.npz"))
            if not paths:
                raise ValueError(f"`aligned_speech` names {folder}, must be folders of align_speech.py's results")
            found += map(read_aligned, paths)
        unknown = sorted(set(held_out_speakers) - {aligned.speaker for aligned in found})
        if unknown:
            raise ValueError(f"`held_out_speakers` has {unknown[0]!r}, must be speakers of `aligned_speech`")
        self.train = [aligned for aligned in found if aligned.speaker not in held_out_speakers]
        self.test = [aligned for aligned in found if aligned.speaker in held_out_speakers]
        if not self.train:
            raise ValueError("`held_out_speakers` has every speaker, must leave at least one to train on")
        self._shares = _recording_shares(self.train)

    def draw(self, rng: np.random.Generator, num_samples: int) -> RealClip:
        """Draw a stretch of somebody's speech, at a speed of its own.

        Speakers are drawn by the root of how long they speak, their recordings by length.

        Args:
            rng: Draws who, where and how fast.
            num_samples: Length of the clip.

        Returns:
            The clip; where it begins before the recording or ends after it, there is silence.
        """
        aligned = self.train[rng.choice(len(self.train), p=self._shares)]
        speed = rng.uniform(*SPEEDS)
        samples = read_samples(aligned.recording).astype(np.float32) / 2**15
        samples = resample(Waveform(samples, round(SAMPLE_RATE_HZ * speed)), SAMPLE_RATE_HZ).samples
        silence = min(round(rng.uniform(0, MOST_SILENCE_S) * SAMPLE_RATE_HZ), num_samples)
        first = int(rng.integers(-silence, max(len(samples) - num_samples + silence, -silence) + 1))
        clip = np.zeros(num_samples, np.float32)
        start, end = max(first, 0), min(first + num_samples, len(samples))
        clip[start - first : end - first] = samples[start:end]
        shift_s = first / SAMPLE_RATE_HZ
        segments = (
            replace(part, start_s=part.start_s / speed - shift_s, end_s=part.end_s / speed - shift_s)
            for part in aligned.segments
        )
        return RealClip(clip, tuple(part for part in segments if part.end_s > 0))


@lru_cache(maxsize=KEPT_RECORDINGS)
def read_samples(recording: Path) -> np.ndarray:
    """Read a recording, or remember it.

    Args:
        recording: Its file.

    Returns:
        int16 array (N,), 16 kHz.
    """
    samples = resample(read_waveform(recording), SAMPLE_RATE_HZ).samples
    return (samples.clip(-1, 1) * (2**15 - 1)).astype(np.int16)


def _recording_shares(recordings: Sequence[AlignedRecording]) -> np.ndarray:
    lengths_s = np.array([aligned.segments[-1].end_s for aligned in recordings])
    speakers = np.array([aligned.speaker for aligned in recordings])
    totals_s = {speaker: lengths_s[speakers == speaker].sum() for speaker in np.unique(speakers)}
    weights = lengths_s / np.sqrt([totals_s[speaker] for speaker in speakers])
    return weights / weights.sum()
