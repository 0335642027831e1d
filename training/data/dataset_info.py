"""What all clips of a prepared data set have in common: dataset.json."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ

FORMAT = 1


@dataclass(frozen=True)
class DatasetInfo:
    """What all clips of a prepared data set have in common.

    Attributes:
        size_px: Width and height of the frames.
        audio_encoder: Hub id of the encoder that made `audio_features`, or its path, relative to the data set's folder
            or absolute; None: no features are stored.
        audio_dim: Width of the features; None: none are stored.
        exact_pose: Whether poses are known, as those of synthetic clips are, instead of measured in pictures.
        fps: Frames per second.
        sample_rate_hz: Samples per second.
        format: Version of the storage format.
    """

    size_px: int
    audio_encoder: str | None = None
    audio_dim: int | None = None
    exact_pose: bool = False
    fps: int = FPS
    sample_rate_hz: int = SAMPLE_RATE_HZ
    format: int = FORMAT


def write_dataset_info(folder: str | os.PathLike, info: DatasetInfo) -> None:
    """Write dataset.json.

    Args:
        folder: The data set's folder.
        info: Its content.

    Raises:
        ValueError: The folder holds another data set already.
    """
    path = Path(folder) / "dataset.json"
    if path.exists() and read_dataset_info(folder) != info:
        raise ValueError(f"`folder` holds another data set already, see {path}; choose a new folder")
    replace_dataset_info(folder, info)


def replace_dataset_info(folder: str | os.PathLike, info: DatasetInfo) -> None:
    """Write dataset.json, also where there is another one.

    Args:
        folder: The data set's folder.
        info: Its content.
    """
    write_text_atomically(Path(folder) / "dataset.json", json.dumps(asdict(info), indent=2) + "\n")


def read_dataset_info(folder: str | os.PathLike) -> DatasetInfo:
    """Read dataset.json.

    Args:
        folder: The data set's folder.

    Returns:
        Its content.

    Raises:
        ValueError: The folder holds no finished data set, or the file's content is not as it should be.
    """
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        raise ValueError(f"`dataset` {folder} holds no finished data set: there is no {path}")
    names = {field.name for field in fields(DatasetInfo)}
    content, info = read_record(
        path,
        "dataset",
        lambda content: (content, DatasetInfo(**{name: content[name] for name in names & content.keys()})),
    )
    if info.format != FORMAT:
        raise ValueError(f"`dataset`: {path} has format {info.format}, must have {FORMAT}")
    numbers = (info.size_px, info.fps, info.sample_rate_hz, 1 if info.audio_dim is None else info.audio_dim)
    texts = "" if info.audio_encoder is None else info.audio_encoder
    if (
        not names.issuperset(content)
        or not isinstance(texts, str)
        or not isinstance(info.exact_pose, bool)
        or not all(isinstance(value, int) and value > 0 for value in numbers)
    ):
        raise ValueError(f"`dataset`: {path} holds entries that are unknown or of another kind: {content}")
    return info


def read_record(path: Path, argument: str, understand: Callable[[Any], Any]) -> Any:
    """Read a JSON file that a command wrote, or that came with a data set, whatever became of it since.

    Args:
        path: The file.
        argument: Argument name for the error message.
        understand: Makes of its content what is wanted.

    Returns:
        What was made of it.

    Raises:
        ValueError: It is damaged, or holds something else.
    """
    try:
        return understand(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"`{argument}`: {path} cannot be understood: {error}") from error


def write_text_atomically(path: Path, text: str) -> None:
    """Write a small file so that a killed run leaves the old one or the new one.

    Args:
        path: The file.
        text: Its content.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
