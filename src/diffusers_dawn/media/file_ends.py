"""Say where a file holds more than is read, or less than it says: files joined byte by byte, and cut-off ones.

Of some kinds of files FFmpeg takes the first of several joined ones for all, and a sound that is cut off for a whole
one, without a word. These are made of chunks that say how long they are.
"""

import os
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

# the longest: that of an Ogg page, with the lengths of what it holds
CHUNK_HEAD_BYTES = 27 + 255
# a hostile file may be nothing but heads of chunks
MOST_CHUNKS = 100_000
# programs that write into a pipe do not know a size yet, and put 0 or a number near the largest one
UNKNOWN_SIZE = 0x7FFF_0000
# less may be padding that was counted but not written
LEAST_MISSING_BYTES = 1024
# first bytes of Sony's Wave64, and of its chunk of samples
W64_GUID, W64_SAMPLES = bytes.fromhex("726966662e91cf11a5d628db04c10000"), b"data"
# first bytes of Windows Media
ASF_GUID = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
FLV_TAGS = (8, 9, 18)


def warn_of_ends(file: BinaryIO, name: str) -> None:
    """Warn where only the first of several joined files is read, or where the end of a sound is missing.

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
    head = file.read(CHUNK_HEAD_BYTES)
    form = next((form for form in _FORMS if form.begins(head)), None)
    num_files, end = 1, 0
    if form is not None:
        for start, length, begins_anew in _chunks(file, form):
            num_files, end = num_files + begins_anew, start + length
    file.seek(place)
    if num_files > 1 and form.reads_first_only:
        warnings.warn(
            f"`{name}` is {num_files} files that were joined byte by byte, of which the first is read; join them with"
            " a program that knows such files, as FFmpeg does",
            stacklevel=6,
        )
    elif form is not None and form.least_missing_bytes is not None and end - size >= form.least_missing_bytes:
        warnings.warn(f"`{name}` is cut off: {end - size} bytes or more are missing at its end", stacklevel=6)


class _Form(NamedTuple):
    """How a kind of file is made of chunks.

    Attributes:
        titles: What it holds at its beginning, by place.
        head_bytes: What comes before the chunks that are counted.
        length_of: Bytes of a chunk from its first ones, head and padding included; None: it does not say.
        least_missing_bytes: From how many missing bytes on it is cut off; None where the time that was read tells.
        reads_first_only: Whether FFmpeg stops behind the first of several joined files.
    """

    titles: Mapping[int, bytes]
    head_bytes: int
    length_of: Callable[[bytes], int | None]
    least_missing_bytes: int | None
    reads_first_only: bool = True

    def begins(self, head: bytes) -> bool:
        """Tell whether a file of this kind begins with these bytes."""
        return all(head[place : place + len(title)] == title for place, title in self.titles.items())


def _chunks(file: BinaryIO, form: _Form) -> Iterator[tuple[int, int, bool]]:
    """Place and bytes of every chunk, and whether another file begins with it."""
    start = 0
    for index in range(MOST_CHUNKS):
        file.seek(start)
        head = file.read(CHUNK_HEAD_BYTES)
        begins_anew = form.begins(head)
        if begins_anew and form.head_bytes:
            length = form.head_bytes
        else:
            length = form.length_of(head) if head else None
        if length is None:
            return
        yield start, length, begins_anew and index > 0
        start += length


def _in_wave(head: bytes) -> int | None:
    return _padded_chunk(head, *struct.unpack_from("<I", head, 4)) if len(head) >= 8 else None


def _in_rf64(head: bytes) -> int | None:
    """EBU 3306: the bytes of all of it are in the first chunk, those of the chunk of samples are not in its head."""
    (num_bytes,) = struct.unpack_from("<Q", head, 20) if head[12:16] == b"ds64" and len(head) >= 28 else (0,)
    return 8 + num_bytes if 0 < num_bytes < 2**62 else None


def _in_aiff(head: bytes) -> int | None:
    return _padded_chunk(head, *struct.unpack_from(">I", head, 4)) if len(head) >= 8 else None


def _padded_chunk(head: bytes, num_bytes: int) -> int | None:
    """RIFF and IFF: 8 bytes of head, the content, up to an even place."""
    is_unknown = num_bytes >= UNKNOWN_SIZE or (head[:4] == b"data" and num_bytes == 0)
    return None if is_unknown or not head[:4].isascii() else 8 + num_bytes + num_bytes % 2


def _in_wave64(head: bytes) -> int | None:
    if len(head) < 24:
        return None
    (length,) = struct.unpack_from("<Q", head, 16)
    is_unknown = length >= 2**62 or length < 24 or (head[:4] == W64_SAMPLES and length == 24)
    return None if is_unknown else length + -length % 8


def _in_asf(head: bytes) -> int | None:
    (length,) = struct.unpack_from("<Q", head, 16) if len(head) >= 24 else (0,)
    return length if 24 <= length < 2**62 else None


def _in_caf(head: bytes) -> int | None:
    if len(head) < 12 or not head[:4].isascii():
        return None
    (num_bytes,) = struct.unpack_from(">q", head, 4)
    return None if not 0 <= num_bytes < 2**62 else 12 + num_bytes


def _in_iso_media(head: bytes) -> int | None:
    """ISO/IEC 14496-12: mp4, mov, m4a, 3gp."""
    if len(head) < 8 or not head[4:8].isascii():
        return None
    (length,) = struct.unpack_from(">I", head)
    if length == 1 and len(head) >= 16:
        (length,) = struct.unpack_from(">Q", head, 8)
    return length if 8 <= length < 2**62 else None


def _in_flash(head: bytes) -> int | None:
    is_tag = len(head) >= 11 and head[0] in FLV_TAGS
    return 11 + int.from_bytes(head[1:4], "big") + 4 if is_tag else None


def _in_creative_voice(head: bytes) -> int | None:
    is_block = len(head) >= 4 and 1 <= head[0] <= 9
    return 4 + int.from_bytes(head[1:4], "little") if is_block else 1 if head[:1] == b"\0" else None


def _in_ogg(head: bytes) -> int | None:
    """RFC 3533: a page, whose head may be cut off, too."""
    if head[:4] != b"OggS"[: len(head)]:
        return None
    return 27 + head[26] + sum(head[27 : 27 + head[26]]) if len(head) > 26 else 27


_FORMS = (
    _Form({0: b"RIFF", 8: b"WAVE"}, 12, _in_wave, LEAST_MISSING_BYTES),
    _Form({0: b"RF64", 8: b"WAVE"}, 0, _in_rf64, LEAST_MISSING_BYTES),
    _Form({0: b"RIFF", 8: b"AVI "}, 0, _in_wave, LEAST_MISSING_BYTES, reads_first_only=False),
    _Form({0: W64_GUID}, 40, _in_wave64, LEAST_MISSING_BYTES),
    _Form({0: b"caff\0\1"}, 8, _in_caf, LEAST_MISSING_BYTES),
    _Form({0: b"Creative Voice File\x1a"}, 26, _in_creative_voice, 1),
    _Form({0: b"OggS"}, 0, _in_ogg, 1, reads_first_only=False),
    _Form({0: ASF_GUID}, 0, _in_asf, LEAST_MISSING_BYTES),
    _Form({0: b"FORM", 8: b"AIF"}, 12, _in_aiff, None),
    _Form({4: b"ftyp"}, 0, _in_iso_media, None),
    _Form({0: b"FLV\1"}, 13, _in_flash, None),
)
