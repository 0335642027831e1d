"""Kinds of files that are made of chunks, each of which says how long it is, and how FFmpeg reads them."""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

# the longest: that of an Ogg page, with the lengths of what it holds
CHUNK_HEAD_BYTES = 27 + 255
# four hours of sound in the table of a TTA file
LONGEST_HEAD_BYTES = 2**16
# programs that write into a pipe do not know a size yet, and put 0 or a number near the largest one
UNKNOWN_SIZE = 0x7FFF_0000
# less may be padding that was counted but not written
LEAST_MISSING_BYTES = 1024
# first bytes of Sony's Wave64, and of its chunk of samples
W64_GUID, W64_SAMPLES = bytes.fromhex("726966662e91cf11a5d628db04c10000"), b"data"
# first bytes of Windows Media
ASF_GUID = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
# of every key of MXF: SMPTE's part of the world's labels
SMPTE_LABEL = bytes.fromhex("060e2b34")
FLV_TAGS = (8, 9, 18)
MPEG_START_CODE, PACK, END_OF_PACKS = b"\0\0\1", 0xBA, 0xB9
# ATSC A/52, table 5.18: kbit/s by half of a frame's code of size
AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
# ISO/IEC 11172-3, section 2.4.2.3, and 13818-3: kbit/s by a frame's code, from 1; of layers I, II and III
MPEG1_KBPS = (
    tuple(range(32, 449, 32)),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
MPEG2_KBPS = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    *2 * ((8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),),
)
MPEG_RATES_HZ = (44_100, 48_000, 32_000)
MPEG_INDEXES = (b"Xing", b"Info", b"VBRI")


class ChunkedForm(NamedTuple):
    """How a kind of file is made of chunks.

    Attributes:
        titles: What it holds at its beginning, by place.
        head_bytes: What comes before the chunks that are counted.
        length_of: Bytes of a chunk from its first ones, head and padding included; None: it does not say.
        least_missing_bytes: From how many missing bytes on it is cut off; None where the time that was read tells.
        reads_first_only: Whether FFmpeg stops behind the first of several joined files.
        seen_bytes: How many of its first bytes a chunk's length may need.
    """

    titles: Mapping[int, bytes]
    head_bytes: int
    length_of: Callable[[bytes], int | None]
    least_missing_bytes: int | None
    reads_first_only: bool = True
    seen_bytes: int = CHUNK_HEAD_BYTES

    def begins(self, head: bytes) -> bool:
        """Tell whether a file of this kind begins with these bytes."""
        return all(head[place : place + len(title)] == title for place, title in self.titles.items())


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


def _in_transport_stream(head: bytes) -> int | None:
    """ISO/IEC 13818-1, section 2.4.3: packets of 188 bytes; those of Blu-ray begin with a time of 4."""
    return 188 if head[:1] == b"G" else 192 if head[4:5] == b"G" or len(head) < 5 else None


def _in_program_stream(head: bytes) -> int | None:
    """ISO/IEC 13818-1, section 2.5.3, and 11172-1: packs, and packets of one length each."""
    if len(head) < 4 or head[:3] != MPEG_START_CODE or head[3] < END_OF_PACKS:
        return None
    if head[3] == END_OF_PACKS:
        return 4
    if head[3] == PACK:
        is_mpeg2 = head[4:5] >= b"\x40"
        return 14 + (head[13] & 7 if len(head) > 13 else 0) if is_mpeg2 else 12
    return 6 + int.from_bytes(head[4:6], "big") if len(head) >= 6 else 6


def ac3_length(head: bytes) -> int | None:
    """Read the length of a frame of AC-3 or E-AC-3 (ATSC A/52, sections 5.4.1 and E.2.3.1).

    Args:
        head: The first bytes.

    Returns:
        Bytes; None: it is none.
    """
    if head[:2] != b"\x0bw"[: len(head)]:
        return None
    if len(head) < 6:
        return 6
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, size = head[4] >> 6, head[4] & 63
    if rate > 2 or size // 2 >= len(AC3_KBPS):
        return None
    kbps = AC3_KBPS[size // 2]
    return 2 * (2 * kbps, kbps * 320 // 147 + size % 2, 3 * kbps)[rate]


def mpeg_audio_length(head: bytes) -> int | None:
    """Read the length of a frame of MP1, MP2 or MP3 (ISO/IEC 11172-3, section 2.4.3.1), or of a tag beside them.

    Args:
        head: The first bytes.

    Returns:
        Bytes; None: it is neither, or holds an index.
    """
    tag_bytes = tag_length(head)
    if tag_bytes is not None:
        return tag_bytes
    if head[0] != 0xFF or head[1:2] < b"\xe0"[: len(head) - 1]:
        return None
    if len(head) < 4:
        return 4
    version, layer, kbps_code, rate_code = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    # what has an index says how long it lasts
    if (
        version == 1
        or layer == 4
        or kbps_code in (0, 15)
        or rate_code == 3
        or any(t in head[4:44] for t in MPEG_INDEXES)
    ):
        return None
    kbps = (MPEG1_KBPS if version == 3 else MPEG2_KBPS)[layer - 1][kbps_code - 1]
    rate_hz, padding = MPEG_RATES_HZ[rate_code] >> (2, 2, 1, 0)[version], head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12_000 * kbps // rate_hz + padding)
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbps // rate_hz + padding


def tag_length(head: bytes) -> int | None:
    """Read the length of what names a piece, before or behind its sound: ID3v2 (section 3.1), ID3v1, APEv2.

    Args:
        head: The first bytes.

    Returns:
        Bytes; None: it is none.
    """
    if len(head) >= 10 and head[:3] == b"ID3":
        return 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    if len(head) >= 24 and head[:8] == b"APETAGEX":
        num_bytes, flags = struct.unpack_from("<I4xI", head, 12)
        # a tag's foot looks like its head, and is counted with what stands between them
        return 32 + (num_bytes if flags >> 29 & 1 else 0)
    return 128 if head[:3] == b"TAG" else None


def _in_material_exchange(head: bytes) -> int | None:
    """SMPTE 377-1: a key of 16 bytes, a length in BER, what it says."""
    if head[:4] != SMPTE_LABEL[: len(head)]:
        return None
    if len(head) < 17 or head[16] < 128:
        return 17 + (head[16] if len(head) > 16 else 0)
    num_bytes = head[16] & 127
    return 17 + num_bytes + int.from_bytes(head[17 : 17 + num_bytes], "big") if 0 < num_bytes < 9 else None


def _in_general_exchange(head: bytes) -> int | None:
    """SMPTE 360M: packets that say their length."""
    if head[:5] != b"\0\0\0\0\1"[: len(head)]:
        return None
    length = int.from_bytes(head[6:10], "big") if len(head) >= 10 else 16
    return length if length >= 16 else None


def _in_digital_video(head: bytes) -> int | None:
    """IEC 61834: frames of 525 or 625 lines."""
    return None if head[:3] != b"\x1f\7\0"[: len(head)] else 144_000 if head[3:4] >= b"\x80" else 120_000


def _in_png(head: bytes) -> int | None:
    """PNG, section 5.3: a chunk with its length before its name, and its sum behind it."""
    if len(head) < 8:
        return 12
    return 12 + int.from_bytes(head[:4], "big") if head[4:8].isalpha() else None


def _in_ivf(head: bytes) -> int | None:
    return 12 + (int.from_bytes(head[:4], "little") if len(head) >= 12 else 0)


def _in_tta(head: bytes) -> int | None:
    """True Audio: all of a file, by its table of frames, each of which lasts 256/245 s."""
    if len(head) < 22 or head[:4] != b"TTA1":
        return tag_length(head)
    rate_hz, num_samples = struct.unpack_from("<II", head, 10)
    frame_samples = 256 * rate_hz // 245
    num_frames = -(-num_samples // frame_samples) if frame_samples else 0
    table = head[22 : 22 + 4 * num_frames]
    return (
        22 + 4 * num_frames + 4 + sum(struct.unpack(f"<{num_frames}I", table))
        if len(table) == 4 * num_frames
        else None
    )


def _in_ringtone(head: bytes) -> int | None:
    return 8 + int.from_bytes(head[4:8], "big") if head[:4] == b"MMMD" else None


def _in_sox(head: bytes) -> int | None:
    header, num_samples = struct.unpack_from("<IQ", head, 4) if len(head) >= 16 and head[:4] == b".SoX" else (0, 0)
    return 4 + header + 4 * num_samples if 0 < num_samples < 2**62 else None


def _in_game_stream(head: bytes) -> int | None:
    return 64 + int.from_bytes(head[4:8], "big") if head[:4] == b"STRM" else None


# a frame's first two bytes, by its version (but 1), its layer (but 0) and whether a sum follows
MPEG_AUDIO_TITLES = (b"ID3", *(bytes((0xFF, b)) for b in range(0xE0, 0x100) if b >> 3 & 3 != 1 and b >> 1 & 3 != 0))

ISO_MEDIA = ChunkedForm({4: b"ftyp"}, 0, _in_iso_media, None)
# recorders and streams write a film piece by piece, and the first ones say nothing of how long it will be
FRAGMENTED_ISO_MEDIA = ISO_MEDIA._replace(least_missing_bytes=1)
FRAGMENT_TITLE = b"moof"

CHUNKED_FORMS = (
    ChunkedForm({0: b"RIFF", 8: b"WAVE"}, 12, _in_wave, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"RF64", 8: b"WAVE"}, 0, _in_rf64, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"RIFF", 8: b"AVI "}, 0, _in_wave, LEAST_MISSING_BYTES, reads_first_only=False),
    ChunkedForm({0: W64_GUID}, 40, _in_wave64, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"caff\0\1"}, 8, _in_caf, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"Creative Voice File\x1a"}, 26, _in_creative_voice, 1),
    ChunkedForm({0: b"OggS"}, 0, _in_ogg, 1, reads_first_only=False),
    ChunkedForm({0: ASF_GUID}, 0, _in_asf, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"FORM", 8: b"AIF"}, 12, _in_aiff, None),
    ISO_MEDIA,
    ChunkedForm({0: b"FLV\1"}, 13, _in_flash, None),
    ChunkedForm({0: b"TTA1"}, 0, _in_tta, None, seen_bytes=LONGEST_HEAD_BYTES),
    ChunkedForm({0: b"MMMD"}, 0, _in_ringtone, LEAST_MISSING_BYTES),
    ChunkedForm({0: b"STRM"}, 0, _in_game_stream, LEAST_MISSING_BYTES),
    ChunkedForm({0: b".SoX"}, 0, _in_sox, LEAST_MISSING_BYTES, reads_first_only=False),
    ChunkedForm({0: b"DKIF"}, 32, _in_ivf, 1),
    ChunkedForm({0: b"\x89PNG\r\n\x1a\n"}, 8, _in_png, 1),
    ChunkedForm({0: SMPTE_LABEL}, 0, _in_material_exchange, 1, reads_first_only=False),
    ChunkedForm({0: b"\0\0\0\0\1\xbc"}, 0, _in_general_exchange, 1, reads_first_only=False),
    ChunkedForm({0: MPEG_START_CODE + bytes((PACK,))}, 0, _in_program_stream, 1, reads_first_only=False),
    ChunkedForm({0: b"\x0bw"}, 0, ac3_length, 1, reads_first_only=False),
    *(ChunkedForm({0: title}, 0, mpeg_audio_length, 1, reads_first_only=False) for title in MPEG_AUDIO_TITLES),
)
# whose chunks have one length, so that the end alone tells
EVEN_FORMS = (
    ChunkedForm({0: b"G", 188: b"G"}, 0, _in_transport_stream, 1, reads_first_only=False),
    ChunkedForm({4: b"G", 196: b"G"}, 0, _in_transport_stream, 1, reads_first_only=False),
    ChunkedForm({0: b"\x1f\7\0", 80: b"\x3f\7\0"}, 0, _in_digital_video, 1, reads_first_only=False),
)
