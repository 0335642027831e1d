"""How heads and eyes move: blinks, diversity, jerk."""

import math

import numpy as np
import torch

# a blink begins below the first share of the usual openness, and is over above the second
CLOSED_SHARE, OPEN_SHARE = 0.5, 0.7


def blink_rate(blink: torch.Tensor, fps: float) -> float:
    """Count blinks per second (Blink/s of the paper's tables): at least 0, better nearer to that of real clips.

    A blink begins when the mean openness of both eyes falls below half of its usual value, the median over the clip,
    and is over when it rises above 0.7 of it: openness that trembles around one threshold is not counted twice. Eyes
    that are closed in the first frame do not blink until they were open.

    Args:
        blink: Eye openness (F, 2).
        fps: Frames per second.

    Returns:
        Blinks per second.

    Raises:
        ValueError: The shape does not fit, or `fps` is not positive.
    """
    blink = torch.as_tensor(blink).float()
    if blink.ndim != 2 or blink.shape[1] != 2 or len(blink) == 0:
        raise ValueError(f"`blink` is {tuple(blink.shape)}, must be (F, 2) with F at least 1")
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}, must be positive")
    openness = blink.mean(dim=1)
    usual = openness.median()
    falls = (openness < CLOSED_SHARE * usual).tolist()
    rises = (openness > OPEN_SHARE * usual).tolist()
    num_blinks, is_open = 0, False
    for closes, opens in zip(falls, rises, strict=True):
        num_blinks += is_open and closes
        is_open = opens or (is_open and not closes)
    return num_blinks * fps / len(blink)


def motion_diversity(track: np.ndarray) -> float:
    """Measure how varied a movement is: its standard deviation over time, the mean over its columns.

    At least 0, in the track's unit; better nearer to that of real clips, which is reported beside it. SadTalker (Zhang
    et al. 2023) reports the same of its head poses' embeddings; this is that of the angles themselves.

    Args:
        track: Track (F,) or (F, K), such as yaw, pitch and roll [deg]; frames that are not finite do not count.

    Returns:
        The standard deviation; NaN where fewer than two frames count.

    Raises:
        ValueError: The shape does not fit.
    """
    track = _columns(track)
    track = track[np.isfinite(track).all(axis=1)]
    return float(track.std(axis=0).mean()) if len(track) > 1 else math.nan


def mean_jerk(track: np.ndarray, fps: float) -> float:
    """Measure how abruptly something moves: the mean length of the third derivative of its place.

    Estimated as the third difference of four neighbouring frames times fps^3 (jerk as the measure of smoothness: Flash
    and Hogan 1985). At least 0, 0 for a constant acceleration; lower is smoother, and better only down to that of real
    clips.

    Args:
        track: Track (F,) or (F, K); four neighbouring frames count where all are finite.
        fps: Frames per second.

    Returns:
        The jerk [unit of the track / s^3]; NaN where no four neighbouring frames count.

    Raises:
        ValueError: The shape does not fit, or `fps` is not positive.
    """
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}, must be positive")
    lengths = np.linalg.norm(np.diff(_columns(track), n=3, axis=0), axis=1) * fps**3
    lengths = lengths[np.isfinite(lengths)]
    return float(lengths.mean()) if len(lengths) else math.nan


def _columns(track: np.ndarray) -> np.ndarray:
    track = np.asarray(track, np.float64)
    if track.ndim not in (1, 2) or 0 in track.shape:
        raise ValueError(f"`track` is {track.shape}, must be (F,) or (F, K) with F and K at least 1")
    return track.reshape(len(track), -1)
