"""Poses without what shakes the landmarks they were measured from: a mouth that opens moves the chin, and so the pose.

Networks that see such poses read lips from them, or make heads tremble.
"""

import numpy as np

from diffusers_dawn.motion.curves import smooth
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards

# a pose that is smoothed for longer is none any more
LONGEST_SMOOTHING_S = 2.0


def check_smoothing(seconds: float) -> None:
    """Refuse a setting `pose_smoothing_s` that is out of range.

    Args:
        seconds: The setting.

    Raises:
        ValueError: It is.
    """
    if not 0 <= seconds <= LONGEST_SMOOTHING_S:
        raise ValueError(f"`pose_smoothing_s` is {seconds}, must be in [0, {LONGEST_SMOOTHING_S:g}] seconds")


def steady_pose(clips: ClipShards | ClipMixture, index: int, pose: np.ndarray, seconds: float) -> np.ndarray:
    """Smooth a clip's poses, unless they are exact, as those of synthetic clips.

    Args:
        clips: The prepared clips.
        index: Which clip.
        pose: Its poses (F, 6).
        seconds: Width, at half its height, of the Gaussian [s]; 0: poses stay.

    Returns:
        Poses (F, 6).
    """
    return smooth(pose, seconds) if seconds and not clips.has_exact_pose(index) else pose
