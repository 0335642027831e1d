"""Where pictures, recordings and videos come from: files, bytes, streams, arrays."""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np

from .file_ends import warn_of_ends

if TYPE_CHECKING:
    import av

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

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
    """Open a file for decoding; decoding errors inside the block become ValueErrors that name the argument.

    Playlists and session descriptions, which would open other files of this machine or wait for the network, are
    refused.
    """
    av = import_av()
    hint = "; it is damaged, cut off or a playlist, must hold sound or pictures itself"
    # FFmpeg gets neither a path nor a protocol, so that what a file says cannot make it open anything else
    options = {"protocol_whitelist": "none"}
    with open_binary(source, name) as file:
        warn_of_ends(file, name)
        try:
            with av.open(file, options=options, metadata_errors="replace") as container:
                hint = ""
                yield container
        except (av.FFmpegError, OSError, IndexError) as error:
            # PyAV has no class of its own for some error codes, and does not expect tracks that show up late
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"`{name}` cannot be decoded ({describe_source(source)}): {reason}{hint}") from error


@contextmanager
def open_binary(source: MediaSource, name: str) -> Iterator[BinaryIO]:
    """Open a path or bytes for reading, by the argument's name; a stream stays as it is, and open."""
    if isinstance(source, io.TextIOBase):
        raise TypeError(f"`{name}` is a stream of text, must be one of bytes: open it with mode 'rb'")
    if not (isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read")):
        raise TypeError(f"`{name}` is of type {type(source).__name__}, which cannot be read")
    if isinstance(source, bytes):
        if not source:
            raise ValueError(f"`{name}` is empty: it has 0 bytes")
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = existing_file(source, name)
        try:
            file = path.open("rb")
        except OSError as error:
            raise ValueError(f"`{name}` cannot be opened ({path}): {error.strerror}") from error
        with file:
            yield file
    else:
        yield source


def rewound(file: BinaryIO) -> BinaryIO:
    """Go back to a stream's start; what is left of one that cannot go back is read into another that can."""
    try:
        file.seek(0)
    except (AttributeError, OSError):
        return io.BytesIO(file.read())
    return file


def time_s_of(frame: "av.frame.Frame | av.Packet", container: "av.container.InputContainer") -> float | None:
    """Tell when a frame or packet begins [s from the container's start]; None where it does not say."""
    if frame.pts is None:
        return None
    return float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6


def is_default(track: "av.stream.Stream") -> bool:
    """Tell whether a file marks one of its tracks as the one to be played."""
    return bool(track.disposition & import_av().stream.Disposition.default)


def existing_file(path: str | os.PathLike, name: str) -> Path:
    """Refuse a path that is no file, or an empty one, by the argument's name."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"`{name}` is of type {type(path).__name__}, which names no file")
    if ADDRESS.match(os.fspath(path)):
        raise ValueError(f"`{name}` is a URL, must be a file: {path}; download it first")
    path = Path(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"`{name}` does not exist: {path}") from error
    except (OSError, ValueError) as error:  # a name that is too long or holds a zero, a folder that is closed
        raise ValueError(f"`{name}` cannot be opened ({path}): {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"`{name}` is a directory: {path}; a file is needed")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise ValueError(f"`{name}` is empty: {path} has 0 bytes")
    return path


def describe_source(source: object) -> str:
    """Name a source in an error message: the path, or what kind of object it is."""
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def as_array(source: object, name: str) -> np.ndarray:
    """A numpy array from an array or a torch tensor (on any device, of any float type)."""
    if isinstance(source, np.ndarray):
        return source
    # a tensor is recognised by its methods, so that reading files does not import torch; streams, too, can `detach`
    if hasattr(source, "detach") and hasattr(source, "cpu"):
        try:
            source = source.detach().cpu()
            return (source.float() if source.is_floating_point() else source).numpy()
        except (NotImplementedError, RuntimeError, TypeError) as error:  # sparse ones, and those without values
            raise TypeError(f"`{name}` is a tensor that cannot be read: {error}") from error
    raise TypeError(f"`{name}` is of type {type(source).__name__}, which cannot be read")
