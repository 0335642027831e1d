"""Speech features beside a shard, which take the place of those inside: a data set gets another encoder's.

`train-00000.features.safetensors` holds the features (F, D) of every clip of `train-00000.tar`, float16, and the
encoder's name as its metadata.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

LABEL = "audio_features"


def features_path(shard: Path) -> Path:
    """Name the file of features beside a shard's tar file."""
    return shard.with_suffix(".features.safetensors")


def write_features(shard: Path, features: dict[str, np.ndarray], encoder: str) -> None:
    """Write the features of a shard's clips.

    Args:
        shard: The tar file.
        features: Features (F, D) by clip.
        encoder: Name of the encoder, as `dataset.json` says it.
    """
    path = features_path(shard)
    partial = path.with_name(path.name + ".partial")
    save_file({clip_id: values.astype(np.float16) for clip_id, values in features.items()}, partial, {LABEL: encoder})
    partial.replace(path)


def encoder_beside(shard: Path) -> str | None:
    """Tell which encoder's features lie beside a shard.

    Args:
        shard: The tar file.

    Returns:
        Name of the encoder; None: there are none.

    Raises:
        ValueError: The file is damaged.
    """
    path = features_path(shard)
    return _open(path, lambda file: file.metadata()[LABEL]) if path.is_file() else None


def read_features(shard: Path, clip_id: str) -> np.ndarray:
    """Read the features of a clip.

    Args:
        shard: The tar file.
        clip_id: The clip.

    Returns:
        Float16 array (F, D).

    Raises:
        ValueError: The file is damaged, or does not know the clip.
    """
    return _open(features_path(shard), lambda file: file.get_tensor(clip_id))


def _open(path: Path, read: Callable[[safe_open], object]) -> object:
    try:
        with safe_open(path, "numpy") as file:
            return read(file)
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); add_speech_features.py writes it anew") from error
