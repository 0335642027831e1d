"""A denoiser's version of known motion beside a shard, from which LFG learns to draw what denoisers say.

`train-00000.denoised.safetensors` holds for each clip of `train-00000.tar` `NAME/motion`, positions in grid_sample
units and visibility (F, 3, h, w) as float16, and `NAME/window`: which of the clip's references it begins with, and the
first of its frames.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SUFFIX = ".denoised.safetensors"


class DenoisedMotion(NamedTuple):
    """A denoiser's version of the motion of some frames of a clip.

    Attributes:
        which: Number of the reference among the clip's `motion_references`.
        first: The first frame.
        motion: Positions in grid_sample units, and visibility (F, 3, h, w).
    """

    which: int
    first: int
    motion: np.ndarray


def denoised_path(shard: Path) -> Path:
    """Name the file beside a shard, which need not be there.

    Args:
        shard: The tar file.

    Returns:
        The file.
    """
    return shard.with_suffix(SUFFIX)


def write_denoised(path: Path, found: dict[str, DenoisedMotion], origin: str) -> None:
    """Write the motion of a shard's clips, so that a killed run leaves all or none.

    Args:
        path: Result of `denoised_path`.
        found: The motion by clip.
        origin: What it was made by; see `is_denoised_by`.
    """
    tensors = {}
    for clip_id, (which, first, motion) in found.items():
        tensors[f"{clip_id}/motion"] = np.ascontiguousarray(motion, np.float16)
        tensors[f"{clip_id}/window"] = np.array([which, first], np.int32)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {"origin": origin})
    partial.replace(path)


def is_denoised_by(path: Path, origin: str) -> bool:
    """Tell whether a file is there, whole and of the same origin.

    Args:
        path: Result of `denoised_path`.
        origin: As given to `write_denoised`.

    Returns:
        Whether it is.
    """
    try:
        with safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get("origin") == origin
    except (SafetensorError, OSError):
        return False


def read_denoised(path: Path, clip_id: str) -> DenoisedMotion:
    """Read the motion of a clip.

    Args:
        path: Result of `denoised_path`.
        clip_id: The clip.

    Returns:
        The motion, float32.

    Raises:
        ValueError: The file is missing or damaged, or does not know the clip.
    """
    try:
        with safe_open(path, "numpy") as file:
            which, first = file.get_tensor(f"{clip_id}/window").tolist()
            return DenoisedMotion(which, first, file.get_tensor(f"{clip_id}/motion").astype(np.float32))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); add_denoised_motion.py writes it") from error
