"""Curves over time that motion is made of; every one begins and ends at rest, so that nothing jerks."""

from collections.abc import Sequence

import numpy as np

from ..records import FPS


def frame_times(num_frames: int, first_frame: int = 0) -> np.ndarray:
    """List when frames are shown, from the number of the first one on [s]: array (F,)."""
    return np.arange(first_frame, first_frame + num_frames) / FPS


def ease(share: np.ndarray) -> np.ndarray:
    """Go from 0 to 1 while the share does, slowly at both ends; the share may lie beyond."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3 - 2 * share)


def ease_through(times_s: np.ndarray, knots_s: Sequence[float], values: Sequence[float | np.ndarray]) -> np.ndarray:
    """Go through values at given times, at rest in each; before the first and after the last they stay.

    Args:
        times_s: Times that are asked for (N,) [s].
        knots_s: Times of the values, rising [s].
        values: The values; an array (N,) is one that changes over time itself.

    Returns:
        Array (N,).
    """
    knots = np.asarray(knots_s, float)
    # numbers stay numbers: a table of every value at every time would be large for a long clip
    columns = [np.arange(len(times_s))] if any(np.ndim(value) for value in values) else []
    shape = [len(column) for column in columns]
    values = np.stack([np.broadcast_to(np.asarray(value, float), shape) for value in values])
    if len(knots) == 1:
        return np.broadcast_to(values[0], len(times_s)).copy()
    index = np.clip(np.searchsorted(knots, times_s, side="right") - 1, 0, len(knots) - 2)
    share = ease((times_s - knots[index]) / (knots[index + 1] - knots[index]))
    before, after = (values[(index + later, *columns)] for later in (0, 1))
    return before + share * (after - before)


def hold(times_s: np.ndarray, start_s: float, end_s: float, ease_s: float) -> np.ndarray:
    """Go from 0 to 1 behind a start and back to 0 before an end: array (N,); shorter stretches are eased faster."""
    ease_s = min(ease_s, (end_s - start_s) / 2)
    return ease((times_s - start_s) / ease_s) * ease((end_s - times_s) / ease_s)


def smooth(values: np.ndarray, duration_s: float) -> np.ndarray:
    """Take the mean over neighbouring frames, weighted by a Gaussian; the ends are repeated.

    Args:
        values: Array (F, N).
        duration_s: Full width of the Gaussian at half its height [s].

    Returns:
        Array (F, N).
    """
    sigma = duration_s * FPS / np.sqrt(8 * np.log(2))
    # beyond four deviations, and beyond the clip on both sides, weights no longer matter
    reach = min(int(np.ceil(4 * sigma)), len(values))
    if reach == 0:
        return values.copy()
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, weights / weights.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)
