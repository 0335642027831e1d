"""Phonemes to the mouth's shape in every frame of a video.

A frame shows the mouth as it is in the middle of the time for which it is shown: frame i at (i + 1/2) / 25 s. The
audio feature of that frame is centred at i / 25 + 0.0125 s (`diffusers_dawn.speech.features`), 7.5 ms earlier.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffusers_dawn.records import FPS
from training.synthetic.phonemes import CLASS_INDEX, MOUTH_SHAPE_NAMES, PHONEME_CLASSES, ClassSegment

STEPS_PER_S = 500
# lips and jaw begin to move before the sound that they shape is heard
LEAD_S = 0.03
# one articulation's share of time, as seen on the lips: what is shorter merges with its neighbours
BLENDING_S = 0.12
# closed lips are heard at once: closures lead less
CLOSURE_LEAD_S = 0.01
CLOSURE_RAMP_S = 0.04
# a vowel without stress opens the mouth less
UNSTRESSED_OPENING = 0.8
# after the closure of a p breath streams, as in h
_BREATH = CLASS_INDEX["hh"]
_JAW, _WIDTH, _ROUND, _PRESS = range(len(MOUTH_SHAPE_NAMES))


def mouth_track(segments: Sequence[ClassSegment], num_frames: int) -> np.ndarray:
    """Compute the mouth's shape in every frame.

    Targets of the classes blend with their neighbours by dominance (after Cohen and Massaro's model of
    coarticulation, 1993), and lead the sound by 30 ms. Lips meet completely in the closures of p, b and m: one that
    falls between two frames is moved to the nearer one.

    Args:
        segments: What sounds when, in order; silence outside of them.
        num_frames: Frames F, 25 per second, the first shown from 0 s.

    Returns:
        Float32 array (F, 4) in [0, 1]: jaw, width, round, press.

    Raises:
        ValueError: `num_frames` is not positive.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` is {num_frames}, must be positive")
    times_s = (np.arange(num_frames * STEPS_PER_S // FPS) + 0.5) / STEPS_PER_S
    shapes = _blended_shapes(segments, times_s + LEAD_S)
    centres_s = (np.arange(num_frames) + 0.5) / FPS
    track = np.stack([np.interp(centres_s, times_s, column) for column in shapes.T], axis=1)
    return _close_lips(track, segments, centres_s).clip(0, 1).astype(np.float32)


def _blended_shapes(segments: Sequence[ClassSegment], times_s: np.ndarray) -> np.ndarray:
    """Mouth shape (N, 4) at each of the equidistant times."""
    silence = PHONEME_CLASSES[0]
    targets = np.tile(np.array(silence.mouth), (len(times_s), 1))
    dominance = np.full((len(times_s), 1), silence.dominance)
    for segment in _with_releases(segments):
        phoneme_class = PHONEME_CLASSES[segment.class_index]
        first, last = np.searchsorted(times_s, (segment.start_s, segment.end_s))
        targets[first:last] = phoneme_class.mouth
        dominance[first:last] = phoneme_class.dominance
        if not segment.stressed:
            targets[first:last, _JAW] *= UNSTRESSED_OPENING
    kernel = np.hanning(round(BLENDING_S * STEPS_PER_S) + 2)[1:-1]
    return _smoothed(targets * dominance, kernel) / _smoothed(dominance, kernel)


def _with_releases(segments: Sequence[ClassSegment]) -> list[ClassSegment]:
    """Split what is closed for a part of its time only."""
    split = []
    for segment in segments:
        share = PHONEME_CLASSES[segment.class_index].closure_share or 1.0
        release_s = segment.start_s + share * (segment.end_s - segment.start_s)
        split.append(replace(segment, end_s=release_s))
        split.append(ClassSegment(_BREATH, release_s, segment.end_s))
    return split


def _smoothed(signals: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    before, after = len(kernel) // 2, (len(kernel) - 1) // 2
    padded = np.pad(signals, ((before, after), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T], axis=1)


def _close_lips(track: np.ndarray, segments: Sequence[ClassSegment], centres_s: np.ndarray) -> np.ndarray:
    """Bring the lips together in every closure, and fade that out within `CLOSURE_RAMP_S` around it."""
    track = track.copy()
    for segment in _with_releases(segments):
        phoneme_class = PHONEME_CLASSES[segment.class_index]
        if not phoneme_class.closure_share:
            continue
        start_s, end_s = segment.start_s - CLOSURE_LEAD_S, segment.end_s - CLOSURE_LEAD_S
        distance_s = np.maximum(np.maximum(start_s - centres_s, centres_s - end_s), 0)
        nearest = np.abs(centres_s - (start_s + end_s) / 2).argmin()
        distance_s[nearest] = 0
        closing = (0.5 + 0.5 * np.cos(np.pi * np.minimum(distance_s / CLOSURE_RAMP_S, 1)))[:, None]
        closed = track.copy()
        closed[:, [_JAW, _PRESS]] = phoneme_class.mouth[_JAW], phoneme_class.mouth[_PRESS]
        track += closing * (closed - track)
    return track
