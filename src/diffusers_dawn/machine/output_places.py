"""Places to write to: checked before the work, filled beside the destination, and cleared of what killed runs left."""

import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MOST_NAME_BYTES = 255
_PART = re.compile(r"\.dawn-(\w+)-(\d+)-[0-9a-f]{16}(\.\w+)?")


def check_place(path: str | os.PathLike, name: str) -> None:
    """Refuse a path at which nothing can be made or replaced.

    Args:
        path: Where something shall be written.
        name: Argument name for error messages.

    Raises:
        ValueError: If its name is not UTF-8 or longer than 255 bytes, its folder does not exist, cannot be looked
            into or is not writable, or another user's file there cannot be replaced.
    """
    path = Path(path).absolute()
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"`{name}` has a name that is not UTF-8: {os.fsencode(path)!r}") from error
    if "\0" in str(path):
        raise ValueError(f"`{name}` has a name with a zero byte: {str(path)!r}")
    length = len(os.fsencode(path.name))
    if length > MOST_NAME_BYTES:
        raise ValueError(f"`{name}` has a name of {length} bytes; file systems allow {MOST_NAME_BYTES}")
    try:
        folder = path.parent.stat()
        there = path.lstat() if os.path.lexists(path) else None
    except (FileNotFoundError, NotADirectoryError):
        folder = there = None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"`{name}` lies in a folder that cannot be used ({reason}): {path.parent}") from error
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise ValueError(f"`{name}` lies in a folder that does not exist: {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"`{name}` lies in a folder that is not writable: {path.parent}")
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    if there is not None and folder.st_mode & stat.S_ISVTX and user not in (0, there.st_uid, folder.st_uid):
        raise ValueError(f"`{name}` is another user's, who alone can replace it in this folder: {path}")


@contextmanager
def part_beside(path: Path) -> Iterator[Path]:
    """Give a hidden name beside a destination, which is free again at the end of the block.

    The name says which process fills it: what such processes left that were killed is removed first.

    Args:
        path: The destination.

    Yields:
        Absolute path for a file or folder that does not exist yet.
    """
    folder = path.absolute().parent
    remove_abandoned(folder)
    part = folder / f".dawn-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}{path.suffix}"
    try:
        yield part
    finally:
        _remove(part)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that are gone left half-written in a folder.

    Args:
        folder: The folder.
    """
    for path in folder.glob(".dawn-*"):
        match = _PART.fullmatch(path.name)
        if match is not None and match[1] == _machine() and not psutil.pid_exists(int(match[2])):
            _remove(path)


def _machine() -> str:
    return re.sub(r"\W", "_", platform.node()) or "here"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
