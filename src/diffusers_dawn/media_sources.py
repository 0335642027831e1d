"""Where pictures, recordings and videos come from: files, bytes, streams, arrays."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import av

MediaSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO"


def import_av() -> ModuleType:
    """Import PyAV, which saved pipelines do without until they meet a file.

    Returns:
        The module.

    Raises:
        ImportError: It is not installed, or cannot be loaded; the message says what to do.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"sound and video files are read and written by PyAV, which cannot be loaded ({error}): pip install av"
        ) from error
    return av


@contextmanager
def open_container(source: MediaSource, name: str) -> Iterator["av.container.InputContainer"]:
    """Open a file for decoding; decoding errors inside the block become ValueErrors that name the argument."""
    av = import_av()
    if isinstance(source, (str, os.PathLike)):
        source = str(existing_file(source, name))
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with av.open(opened) as container:
            yield container
    except (av.FFmpegError, OSError, IndexError) as error:
        # PyAV has no class of its own for some error codes, and does not expect tracks that show up late
        raise ValueError(f"`{name}` cannot be decoded ({describe_source(source)}): {error}") from error


def time_s_of(frame: "av.frame.Frame | av.Packet", container: "av.container.InputContainer") -> float | None:
    """Tell when a frame or packet begins [s from the container's start]; None where it does not say."""
    if frame.pts is None:
        return None
    return float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6


def existing_file(path: str | os.PathLike, name: str) -> Path:
    """Refuse a path that is no file, by the argument's name."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"`{name}` is a directory: {path}; a file is needed")
    if not path.exists():
        raise FileNotFoundError(f"`{name}` does not exist: {path}")
    return path


def describe_source(source: object) -> str:
    """Name a source in an error message: the path, or what kind of object it is."""
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def as_array(source: object, name: str) -> np.ndarray:
    """A numpy array from an array or a torch tensor (on any device, of any float type)."""
    if isinstance(source, np.ndarray):
        return source
    # a tensor is recognised by its methods, so that reading files does not import torch
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        return (source.float() if source.is_floating_point() else source).numpy()
    raise TypeError(f"`{name}` is of type {type(source).__name__}, which cannot be read")
