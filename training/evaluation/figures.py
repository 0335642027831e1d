"""Figures that judge clips, with confidence intervals; nothing here reads or renders anything."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.evaluation.face_reader import MIN_SEEN_SHARE, FaceReadings
from training.evaluation.metrics.image_quality import gradient_energy
from training.evaluation.metrics.track_agreement import best_lag, pearson_correlation

ANGLES = ("yaw", "pitch", "roll")
# a mouth whose opening has a smaller standard deviation hardly moves
MIN_OPENING_STD = 0.005
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
NUM_RESAMPLES = 2000
MAX_LAG_FRAMES = 5
# lags can be told from so many frames
FEWEST_FRAMES = 2 * MAX_LAG_FRAMES + 3
# shares of the 95th percentile of the energy: below the first nobody speaks, above the second somebody does
PAUSE_SHARE, VOICE_SHARE = 0.1, 0.3
# shorter gaps are closures inside of words
FEWEST_PAUSE_FRAMES = 4


def mean_over_clips(values: np.ndarray) -> float:
    """Average the first column of the clips' values."""
    return float(values[:, 0].mean())


def finite_mean(values: Iterable[float]) -> float:
    """Average the values that are finite; NaN if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def quotient(numerator: float, denominator: float) -> float:
    """Divide by something positive; NaN where it is not."""
    return numerator / denominator if denominator > 0 else math.nan


def mean_quotient(values: np.ndarray) -> float:
    """Divide the mean of the first column by that of the second; NaN where that is not positive."""
    return quotient(float(values[:, 0].mean()), float(values[:, 1].mean()))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    seed: int = 0,
    statistic: Callable[[np.ndarray], float] = mean_over_clips,
    coverage: float = 0.95,
) -> tuple[float, float] | None:
    """Compute the percentile bootstrap interval of a statistic over clips (Efron 1979).

    Args:
        values: One number (N,), or K of them (N, K), per clip.
        seed: Seed of the resampling.
        statistic: From what clips drawn with replacement say (N, K) to a number.
        coverage: Share of the resamples inside the interval.

    Returns:
        Lower and upper end; None for fewer than two clips, or where the statistic is not finite.
    """
    values = np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) < 2:
        return None
    draws = np.random.default_rng(seed).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    found = np.array([statistic(values[draw]) for draw in draws])
    if not np.isfinite(found).all():
        return None
    low, high = np.percentile(found, (50 * (1 - coverage), 50 * (1 + coverage)))
    return float(low), float(high)


def derangement(count: int, seed: int = 0) -> list[int]:
    """Assign another clip to every clip: a random cycle through all of them (Sattolo 1986).

    Args:
        count: Number of clips, at least 2.
        seed: Same seed, same partners.

    Returns:
        The other clip of each.

    Raises:
        ValueError: There are fewer than two.
    """
    if count < 2:
        raise ValueError(f"`count` is {count}; only of two or more clips each can have another one")
    rng = np.random.default_rng(seed)
    partners = list(range(count))
    for last in range(count - 1, 0, -1):
        chosen = int(rng.integers(last))
        partners[last], partners[chosen] = partners[chosen], partners[last]
    return partners


def spread_evenly(count: int, wanted: int) -> list[int]:
    """Choose evenly spaced items of a sequence.

    Args:
        count: How many there are.
        wanted: How many to choose, at most.

    Returns:
        Their indices, in order.
    """
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()


def correlation_where_seen(truth: np.ndarray, read: np.ndarray) -> float:
    """Correlate readings with the truth over the frames that show a face.

    Args:
        truth: Track (F,).
        read: What was read in its place (F,). Of both, NaN where no face is seen.

    Returns:
        The correlation. 0 where the face is seen in less than 90 % of the frames, or a track does not move there: such
        a clip must not improve a mean.
    """
    seen = np.isfinite(truth) & np.isfinite(read)
    if seen.sum() < max(MIN_SEEN_SHARE * len(seen), 2):
        return 0.0
    correlation = float(pearson_correlation(truth[seen], read[seen]))
    return correlation if math.isfinite(correlation) else 0.0


def slope_where_seen(truth: np.ndarray, read: np.ndarray) -> float:
    """Measure how far readings move for each unit that the truth moves, over the frames that show a face.

    Args:
        truth: Track (F,).
        read: What was read in its place (F,). Of both, NaN where no face is seen.

    Returns:
        The slope of the line of least squares: 1 where readings move as far. 0 where the face is seen in less than
        90 % of the frames, or the truth does not move there.
    """
    seen = np.isfinite(truth) & np.isfinite(read)
    if seen.sum() < max(MIN_SEEN_SHARE * len(seen), 2):
        return 0.0
    moved = truth[seen] - truth[seen].mean()
    return quotient(float(moved @ read[seen]), float(moved @ moved)) if moved.any() else 0.0


def opening_correlation(truth: np.ndarray, readings: FaceReadings) -> float:
    """Correlate the mouth's opening with the truth.

    Args:
        truth: How far it should be open (F,).
        readings: What was read.

    Returns:
        The correlation, see `correlation_where_seen`; NaN, not to be counted, where the truth hardly opens.
    """
    return correlation_where_seen(truth, readings.opening) if truth.std() >= MIN_OPENING_STD else math.nan


def opening_lag(truth: np.ndarray, readings: FaceReadings) -> float:
    """Find the mouth's lag.

    Args:
        truth: How far the mouth should be open (F,).
        readings: What was read.

    Returns:
        Lag [frames] at which the two agree most, positive where the mouth is late; NaN where that cannot be told.
    """
    if not readings.show_face(FEWEST_FRAMES):
        return math.nan
    lag, correlation = best_lag(truth[readings.seen], readings.opening[readings.seen], MAX_LAG_FRAMES)
    return float(lag) if math.isfinite(correlation) else math.nan


def face_sharpness(pictures: np.ndarray, face_box_px: np.ndarray) -> float:
    """Measure the sharpness of faces: the gradient energy inside of their boxes.

    Args:
        pictures: uint8 pictures (F, H, W, 3).
        face_box_px: x_min, x_max, y_min, y_max (F, 4) [px]; NaN where there is no face.

    Returns:
        Mean over the frames that show a face; NaN if none does.
    """
    height, width = pictures.shape[1:3]
    energies = []
    for picture, box_px in zip(pictures, face_box_px, strict=True):
        if not np.isfinite(box_px).all():
            continue
        x_min, x_max, y_min, y_max = (round(float(side)) for side in box_px)
        left, top = min(max(x_min, 0), width - 2), min(max(y_min, 0), height - 2)
        face = picture[top : max(y_max, top + 2), left : max(x_max, left + 2)]
        energies.append(float(gradient_energy(torch.from_numpy(face / 255).permute(2, 0, 1))))
    return float(np.mean(energies)) if energies else math.nan


def angular_speed(pose: np.ndarray) -> np.ndarray:
    """Compute how fast a head turns.

    Args:
        pose: Array (F, 6), as `records.POSE_NAMES`.

    Returns:
        Array (F - 1, 3): speed of yaw, pitch and roll [deg/s].
    """
    return np.abs(np.diff(pose[:, :3], axis=0)) * FPS


def sound_energy(samples: np.ndarray, num_frames: int) -> np.ndarray:
    """Measure how loud a recording is in every video frame.

    Args:
        samples: Array (640 F,) at 16 kHz.
        num_frames: Frames F.

    Returns:
        Float64 array (F,): root mean square of each frame, averaged with its two neighbours.

    Raises:
        ValueError: There are not 640 samples per frame.
    """
    if num_frames < 1 or samples.shape != (num_frames * SAMPLES_PER_FRAME,):
        raise ValueError(
            f"`samples` has shape {samples.shape}; {num_frames} frames have {num_frames * SAMPLES_PER_FRAME} samples"
        )
    rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64).reshape(num_frames, -1), axis=1))
    return np.convolve(np.pad(rms, 1, mode="edge"), np.ones(3) / 3, mode="valid")


def pauses_and_voice(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where somebody speaks, and where nobody does.

    Args:
        energy: Array (F,), see `sound_energy`.

    Returns:
        Pauses: bool (F,), where the energy is below a tenth of its 95th percentile for 0.16 s or more. Voice: bool
        (F,), where it is above three tenths. What lies between is neither.
    """
    loud = np.percentile(energy, 95)
    is_quiet = energy < PAUSE_SHARE * loud
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_quiet, [False])).astype(int)))
    pauses = np.zeros(len(energy), bool)
    for start, end in edges.reshape(-1, 2):
        pauses[start:end] = end - start >= FEWEST_PAUSE_FRAMES
    return pauses, energy > VOICE_SHARE * loud


def consecutive_groups(lengths: Sequence[int], total: int) -> list[list[int]]:
    """Join neighbouring clips until they last long enough.

    Args:
        lengths: Lengths of the clips.
        total: How long a group must last.

    Returns:
        Indices of the clips of each group; no clip is in two groups.
    """
    groups: list[list[int]] = []
    group: list[int] = []
    for index in range(len(lengths)):
        group.append(index)
        if sum(lengths[member] for member in group) >= total:
            groups.append(group)
            group = []
    return groups
