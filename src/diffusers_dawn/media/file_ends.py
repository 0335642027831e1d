"""Say where a file holds more than is read, or less than it says: files joined byte by byte, and cut-off ones.

Of some kinds of files FFmpeg takes the first of several joined ones for all, and a sound that is cut off for a whole
one, without a word.
"""

import os
import warnings
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .chunked_files import (
    CHUNK_HEAD_BYTES,
    CHUNKED_FORMS,
    EVEN_FORMS,
    FRAGMENT_TITLE,
    FRAGMENTED_ISO_MEDIA,
    ISO_MEDIA,
    ChunkedForm,
)

# a hostile file may be nothing but heads of chunks
MOST_CHUNKS = 100_000
NUT_TITLE, NUT_INDEX = b"nut/multimedia container\0", bytes.fromhex("4e58dd672f23e64e")
GIF_TITLE, GIF_TRAILER = b"GIF8", b";"
# what may follow a GIF's trailer, to fill a block
MOST_PADDING_BYTES = 512


def warn_of_ends(file: BinaryIO, name: str) -> None:
    """Warn where only the first of several joined files is read, or where the end of a sound or film is missing.

    Args:
        file: The open file, whose place stays; of one that cannot go back nothing is said.
        name: Argument name for the warning.
    """
    try:
        place = file.tell()
        size = file.seek(0, os.SEEK_END)
    except (AttributeError, OSError, ValueError):
        return
    file.seek(0)
    message = _message_of_end(file, file.read(CHUNK_HEAD_BYTES), size)
    file.seek(place)
    if message:
        warnings.warn(f"`{name}` is {message}", stacklevel=6)


def _message_of_end(file: BinaryIO, head: bytes, size: int) -> str:
    """What is to be said of a file of some bytes that begins in this way."""
    if head.startswith(NUT_TITLE):
        return "" if _has_nut_index(file, size) else "cut off: the index at its end is missing"
    if head.startswith(GIF_TITLE):
        return "" if _has_gif_trailer(file, size) else "cut off: the mark of its end is missing"
    even = next((form for form in EVEN_FORMS if form.begins(head)), None)
    if even is not None:
        return _message_of_missing(_missing_of_last(file, even, even.length_of(head), size))
    form = next((form for form in CHUNKED_FORMS if form.begins(head)), None)
    if form is None:
        return ""
    num_files, end = 1, 0
    for chunk in _chunks(file, form):
        num_files, end = num_files + chunk.begins_anew, chunk.start + chunk.length
        if form is ISO_MEDIA and chunk.title == FRAGMENT_TITLE:
            form = FRAGMENTED_ISO_MEDIA
    if num_files > 1 and form.reads_first_only:
        read = "which are read in part" if form is FRAGMENTED_ISO_MEDIA else "of which the first is read"
        return (
            f"{num_files} files that were joined byte by byte, {read}; join them with a program that knows such files,"
            " as FFmpeg does"
        )
    is_cut = form.least_missing_bytes is not None and end - size >= form.least_missing_bytes
    return _message_of_missing(end - size) if is_cut else ""


def _message_of_missing(num_bytes: int) -> str:
    return f"cut off: {num_bytes} bytes or more are missing at its end" if num_bytes else ""


class _Chunk(NamedTuple):
    """A chunk's place, bytes and name, and whether another file begins with it."""

    start: int
    length: int
    title: bytes
    begins_anew: bool


def _chunks(file: BinaryIO, form: ChunkedForm) -> Iterator[_Chunk]:
    start = 0
    for index in range(MOST_CHUNKS):
        file.seek(start)
        head = file.read(form.seen_bytes)
        begins_anew = form.begins(head)
        if begins_anew and form.head_bytes:
            length = form.head_bytes
        else:
            length = form.length_of(head) if head else None
        if length is None:
            return
        yield _Chunk(start, length, head[4:8], begins_anew and index > 0)
        start += length


def _missing_of_last(file: BinaryIO, form: ChunkedForm, length: int, size: int) -> int:
    """Bytes that the last of equally long chunks lacks; 0 where something else stands there."""
    start = size - size % length
    file.seek(start)
    head = file.read(CHUNK_HEAD_BYTES)
    return length - len(head) if head and form.length_of(head) == length and size - start < length else 0


def _has_nut_index(file: BinaryIO, size: int) -> bool:
    """NUT, section "index": the last 12 bytes are how far back it begins, and a sum."""
    file.seek(max(size - 12, 0))
    length = int.from_bytes(file.read(8), "big")
    if not 12 <= length <= size:
        return False
    file.seek(size - length)
    return file.read(len(NUT_INDEX)) == NUT_INDEX


def _has_gif_trailer(file: BinaryIO, size: int) -> bool:
    """GIF89a, section 27."""
    file.seek(max(size - MOST_PADDING_BYTES, 0))
    return file.read().rstrip(b"\0").endswith(GIF_TRAILER)
