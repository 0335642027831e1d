"""Output files: checked before the work, written beside the destination, and cleaned of what killed runs left."""

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
    """Refuse a path that cannot be created or replaced.

    Args:
        path: Where something shall be written.
        name: Argument name for error messages.

    Raises:
        ValueError: It is no path or empty, its name is not UTF-8 or longer than 255 bytes, its folder does not exist,
            cannot be looked into or is not writable, or another user's file there cannot be replaced.
    """
    check_path(path, name)
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
    _try_writing(path, f"`{name}` lies in a folder that cannot be written")


def check_path(path: str | os.PathLike, name: str) -> None:
    """Refuse what is no path, or an empty one.

    Args:
        path: Where something shall be written.
        name: Argument name for error messages.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ValueError(f"`{name}` is a {type(path).__name__}, must be a path")
    if not os.fspath(path):
        raise ValueError(f"`{name}` is empty, must be a name")


def check_folder(path: str | os.PathLike, name: str) -> None:
    """Refuse a path at which no folder can be filled; it, and folders above it, need not exist yet.

    Args:
        path: The folder.
        name: Argument name for error messages.

    Raises:
        ValueError: It is a file, is not writable, or cannot be made (see `check_place`).
    """
    check_path(path, name)
    path = Path(path).absolute()
    # asked first: another process may make the folder now, which is then one that is there
    is_taken = os.path.lexists(path)
    if os.path.isdir(path):
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(f"`{name}` is a folder that is not writable: {path}")
        _try_writing(path / "x", f"`{name}` is a folder that cannot be written")
        return
    if is_taken:
        raise ValueError(f"`{name}` is not a folder: {path}")
    # the lowest folder that is not there yet
    check_place(next(place for place in (path, *path.parents) if os.path.lexists(place.parent)), name)


def _try_writing(path: Path, refusal: str) -> None:
    """Refuse a folder in which no file can be made: on shared disks and what systems fill, rights do not tell all."""
    try:
        with part_beside(path) as part:
            part.touch()
    except OSError as error:
        raise ValueError(f"{refusal} ({error.strerror or error}): {path.parent}") from error


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


def put_in_place(part: Path, path: Path) -> None:
    """Move what is finished to its destination, in place of what is there.

    Args:
        part: A hidden file or folder, see `part_beside`.
        path: The destination.

    Raises:
        OSError: It cannot be moved.
    """
    if not (part.is_dir() and path.is_dir()):
        os.replace(part, path)
        return
    # a folder replaces only an empty one
    with part_beside(path) as old:
        os.rename(path, old)
        try:
            os.rename(part, path)
        except OSError:
            os.rename(old, path)
            raise


@contextmanager
def naming_place(path: str | os.PathLike) -> Iterator[None]:
    """Name a destination in errors of writing, which know at most the hidden part.

    Args:
        path: The destination.

    Yields:
        Nothing.

    Raises:
        OSError: Writing fails.
    """
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error


def remove_abandoned(folder: Path) -> None:
    """Remove half-written files that dead processes of this machine left in a folder.

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
