"""Whether a head moves with the beats of the speech: the beat align score BAS."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

# of Bailando's evaluation: beats 3 frames apart count exp(-1/2)
TOLERANCE_FRAMES = 3.0
# the head's speed is smoothed so far [s], as that evaluation does at 60 frames per second (5 frames)
SMOOTHING_S = 5 / 60
# speeds that differ by less [deg/s] make no beat: the rounding of a head that stands still
LEAST_DIP_DEG_PER_S = 1e-3


def sound_beats(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Find the beats of a recording: where its spectrum grows suddenly, by librosa's onsets.

    Args:
        samples: Mono samples (N,).
        sample_rate_hz: Samples per second.

    Returns:
        Times [s], in order; none in silence.

    Raises:
        ValueError: The shape does not fit, or a sample is not finite.
    """
    import librosa

    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"`samples` has shape {samples.shape}, must be (N,) and finite")
    if not samples.any():
        return np.zeros(0)
    return librosa.onset.onset_detect(y=samples, sr=sample_rate_hz, hop_length=sample_rate_hz // 100, units="time")


def head_beats(angles_deg: np.ndarray, fps: float) -> np.ndarray:
    """Find the beats of a head's movement: where its smoothed angular speed is least.

    Args:
        angles_deg: Yaw, pitch and roll (F, 3) [deg], finite.
        fps: Frames per second.

    Returns:
        Times [s], in order; none of a head that stands still.

    Raises:
        ValueError: The shape does not fit, an angle is not finite, or `fps` is not positive.
    """
    angles_deg = np.asarray(angles_deg, np.float64)
    if angles_deg.ndim != 2 or angles_deg.shape[1] != 3 or not np.isfinite(angles_deg).all():
        raise ValueError(f"`angles_deg` is {angles_deg.shape}, must be (F, 3) and finite")
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}, must be positive")
    speed = np.linalg.norm(np.diff(angles_deg, axis=0), axis=1) * fps
    if len(speed) < 3:
        return np.zeros(0)
    speed = gaussian_filter1d(speed, SMOOTHING_S * fps)
    dips, _ = find_peaks(-speed, prominence=LEAST_DIP_DEG_PER_S)
    # the speed between two frames is that half-way
    return (dips + 0.5) / fps


def beat_align_score(beats_s: np.ndarray, head_beats_s: np.ndarray, fps: float) -> float:
    """Measure how near each beat of the sound is to one of the head (BAS; Siyao et al. 2022, Bailando).

    The mean over the beats of the sound of exp(-d^2 / 2 sigma^2), d being the distance [frames] to the head's nearest
    beat, sigma 3 frames. From 0 to 1 (coincident); better nearer to that of real clips. It depends on how beats are
    found: compare only figures that one program computed.

    Args:
        beats_s: Beats of the sound (N,) [s].
        head_beats_s: Beats of the head (M,) [s].
        fps: Frames per second.

    Returns:
        The score: 0 for a head without beats, NaN for a sound without.

    Raises:
        ValueError: A shape does not fit, or `fps` is not positive.
    """
    beats_s, head_beats_s = np.asarray(beats_s, np.float64), np.asarray(head_beats_s, np.float64)
    if beats_s.ndim != 1 or head_beats_s.ndim != 1:
        raise ValueError(f"`beats_s` is {beats_s.shape} and `head_beats_s` {head_beats_s.shape}, must be (N,), (M,)")
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}, must be positive")
    if not len(beats_s):
        return math.nan
    if not len(head_beats_s):
        return 0.0
    distances = np.abs(beats_s[:, None] - head_beats_s).min(axis=1) * fps
    return float(np.exp(-np.square(distances / TOLERANCE_FRAMES) / 2).mean())
