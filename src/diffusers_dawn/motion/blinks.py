"""Blinks in tracks of eye openness: found, taken out, put in at a rate."""

import numpy as np

from ..records import FPS
from .curves import ease, frame_times

# a blink closes the eye in a third of its time and opens it slower, as people do
BLINK_S, CLOSING_SHARE = 0.32, 1 / 3
# openness of a shut eye as a share of the open one: the lids meet
SHUT = 0.0
# below this share of how open it usually is, an eye is in a blink
BLINK_SHARE = 0.7
# frames around such a dip that belong to it
DIP_MARGIN_FRAMES = 3
MOST_BLINKS_PER_S = 1.25


def usual_openness(blink: np.ndarray) -> np.ndarray:
    """Measure how open each eye is when it does not blink: the upper quarter (2,) of a track (F, 2)."""
    return np.quantile(blink, 0.75, axis=0)


def find_blinks(blink: np.ndarray) -> list[tuple[int, int]]:
    """Find the blinks of both eyes together.

    Args:
        blink: Openness per frame (F, 2).

    Returns:
        First frame, and the one behind the last, of each.
    """
    usual = max(float(usual_openness(blink).mean()), 1e-6)
    is_shut = np.concatenate([[False], blink.mean(axis=1) < BLINK_SHARE * usual, [False]])
    edges = np.flatnonzero(is_shut[1:] != is_shut[:-1])
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def without_blinks(blink: np.ndarray) -> np.ndarray:
    """Replace blinks by what is open around them: openness per frame (F, 2)."""
    is_open = np.ones(len(blink), bool)
    for start, stop in find_blinks(blink):
        is_open[max(start - DIP_MARGIN_FRAMES, 0) : stop + DIP_MARGIN_FRAMES] = False
    if not is_open.any():
        return np.tile(usual_openness(blink), (len(blink), 1))
    frames = np.arange(len(blink))
    return np.stack([np.interp(frames, frames[is_open], eye[is_open]) for eye in blink.T], axis=1)


def with_blinks(
    blink: np.ndarray, starts_s: np.ndarray, duration_s: float = BLINK_S, first_frame: int = 0
) -> np.ndarray:
    """Shut the eyes at given times.

    Args:
        blink: Openness per frame (F, 2).
        starts_s: When each blink begins [s].
        duration_s: How long each takes [s].
        first_frame: Number of the first frame.

    Returns:
        Openness per frame (F, 2).
    """
    since_s = frame_times(len(blink), first_frame)[:, None] - np.asarray(starts_s, float)[None]
    closing_s = CLOSING_SHARE * duration_s
    # the frame nearest to the moment when they are shut shows them shut: a frame lasts almost as long as that
    shut = ease(since_s / closing_s) * ease((duration_s - since_s) / (duration_s - closing_s))
    for column, at_s in enumerate(np.asarray(starts_s, float) + closing_s):
        frame = round(at_s * FPS) - first_frame
        if 0 <= frame < len(blink):
            shut[frame, column] = 1.0
    closure = shut.max(axis=1, initial=0.0)
    return blink * (1 - (1 - SHUT) * closure[:, None])


def blink_starts(duration_s: float, per_s: float, seed: int = 0) -> np.ndarray:
    """Choose when to blink: in an uneven beat, as often as is asked for.

    Args:
        duration_s: Length of the clip [s].
        per_s: Blinks per second.
        seed: Another seed, other times.

    Returns:
        Starts (N,) [s], N the nearest whole number, of blinks that end within the clip.
    """
    count = round(per_s * duration_s)
    if count == 0 or duration_s < BLINK_S:
        return np.zeros(0)
    beat_s = (duration_s - BLINK_S) / count
    # as uneven as it may be without one blink beginning before the one before ends
    most_s = max(beat_s - BLINK_S, 0.0) / 2
    return (np.arange(count) + 0.5) * beat_s + np.random.default_rng(seed).uniform(-most_s, most_s, count)


def blink_starts_within(start_s: float, stop_s: float, per_s: float, seed: int = 0) -> np.ndarray:
    """Choose when to blink in a stretch of a track without end: in an uneven beat, the same whatever the stretch.

    Args:
        start_s: Where the stretch begins [s].
        stop_s: Where it ends [s].
        per_s: Blinks per second.
        seed: Another seed, other times.

    Returns:
        Starts (N,) [s] of all blinks that may be seen in it.
    """
    if per_s == 0:
        return np.zeros(0)
    beat_s = 1 / per_s
    most_s = max(beat_s - BLINK_S, 0.0) / 2
    beats = range(max(int(start_s / beat_s) - 1, 0), int(stop_s / beat_s) + 2)
    return np.array([
        (beat + 0.5) * beat_s + np.random.default_rng((seed, beat)).uniform(-most_s, most_s) for beat in beats
    ])
