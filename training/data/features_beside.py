"""Speech features beside a shard, which take the place of those inside: a data set gets another encoder's.

`train-00000.1a2b3c4d.features.safetensors` holds the features (F, D) of every clip of `train-00000.tar` as float16;
the eight digits stand for the encoder, so that those of another one can be written meanwhile.
"""

import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

LABEL = "audio_features"
SUFFIX = ".features.safetensors"


def features_path(shard: Path, encoder: str) -> Path:
    """Name the file of an encoder's features beside a shard.

    Args:
        shard: The tar file.
        encoder: Name of the encoder, as `dataset.json` says it.

    Returns:
        The file, which need not be there.
    """
    return shard.with_suffix(f".{zlib.crc32(encoder.encode()):08x}{SUFFIX}")


def write_features(path: Path, features: dict[str, np.ndarray]) -> None:
    """Write the features of a shard's clips, so that a killed run leaves all or none.

    Args:
        path: Result of `features_path`.
        features: Features (F, D) by clip.
    """
    partial = path.with_name(path.name + ".partial")
    save_file({clip_id: values.astype(np.float16) for clip_id, values in features.items()}, partial)
    partial.replace(path)


def read_features(path: Path, clip_id: str) -> np.ndarray:
    """Read the features of a clip.

    Args:
        path: Result of `features_path`.
        clip_id: The clip.

    Returns:
        Float16 array (F, D).

    Raises:
        ValueError: The file is damaged, or does not know the clip.
    """
    try:
        with safe_open(path, "numpy") as file:
            return file.get_tensor(clip_id)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); add_speech_features.py writes it anew") from error


def remove_other_features(folder: Path, kept: set[Path]) -> None:
    """Remove the features of other encoders.

    Args:
        folder: The data set's folder.
        kept: Files that stay.
    """
    for path in folder.glob(f"*{SUFFIX}"):
        if path not in kept:
            path.unlink()
