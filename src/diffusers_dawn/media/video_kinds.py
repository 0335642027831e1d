"""What a path's suffix says about a video: which container, codecs and sizes; no suffix is a folder of pictures."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..machine.output_places import check_place
from .frame_folder import check_folder_of_frames

AAC_SAMPLE_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# of level 6.2, the highest of H.264 (ITU-T H.264, table A-1) and of VP9, which 8192x4320 keep; the side is what
# libx264 takes
MOST_PIXELS, MOST_SIDE_PX = 139_264 * 256, 16_384
GIF_SIDE_PX = 65_535
# browsers show GIFs with shorter delays at a tenth of their speed
LEAST_FPS, MOST_FPS, MOST_GIF_FPS = 0.001, 1000, 50


@dataclass(frozen=True)
class VideoKind:
    """How files of one suffix hold pictures and sound.

    Attributes:
        title: The codec's name for people.
        container: Container format, in FFmpeg's words, as all that follow.
        codec: Codec of the pictures.
        pixel_format: Form of their pixels.
        codec_options: Options of the codec.
        container_options: Options of the container.
        sound_codec: Codec of the sound; None: the file holds none.
        sound_rates_hz: Sampling rates that it takes; others become 48 kHz.
        needs_even_sizes: Whether height and width must be even.
        most_pixels: Most pixels of a picture.
        most_side_px: Longest side of a picture.
        most_fps: Most frames per second.
    """

    title: str
    container: str
    codec: str
    pixel_format: str
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    sound_codec: str | None = "aac"
    sound_rates_hz: tuple[int, ...] = AAC_SAMPLE_RATES_HZ
    needs_even_sizes: bool = False
    most_pixels: int = MOST_PIXELS
    most_side_px: int = MOST_SIDE_PX
    most_fps: int = MOST_FPS


_X264 = {"crf": "18"}
_VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_FIRST = {"movflags": "+faststart"}  # what players need first comes first
# Matroska draws random numbers for its tracks otherwise, and equal videos would not be equal files
_WEBM = {"fflags": "+bitexact"}
_OPUS = {"sound_codec": "libopus", "sound_rates_hz": (48_000,)}
# Matroska cannot end AAC sound exactly with the last frame, so .mkv is not here; WebM's Opus can
VIDEO_KINDS = {
    ".mp4": VideoKind("H.264", "mp4", "libx264", "yuv420p", _X264, _FIRST, needs_even_sizes=True),
    ".mov": VideoKind("H.264", "mov", "libx264", "yuv420p", _X264, _FIRST, needs_even_sizes=True),
    ".webm": VideoKind("VP9", "webm", "libvpx-vp9", "yuv420p", _VP9, _WEBM, **_OPUS),
    ".gif": VideoKind(
        "GIF",
        "gif",
        "gif",
        "pal8",
        sound_codec=None,
        most_pixels=GIF_SIDE_PX**2,
        most_side_px=GIF_SIDE_PX,
        most_fps=MOST_GIF_FPS,
    ),
}
# the same for pictures with opacity, where there is such a codec
TRANSPARENT_KINDS = {
    ".mov": VideoKind("ProRes 4444", "mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, _FIRST),
    ".webm": VideoKind("VP9", "webm", "libvpx-vp9", "yuva420p", _VP9, _WEBM, **_OPUS),
}
KINDS_WORDS = f"{', '.join(VIDEO_KINDS)}, or have no suffix: a folder of pictures"


def kind_of(path: str | os.PathLike, has_opacity: bool = False, name: str = "output") -> VideoKind | None:
    """Tell what a path is to hold.

    Args:
        path: Where a video shall go.
        has_opacity: Whether its pictures have a fourth channel.
        name: Argument name for error messages.

    Returns:
        The kind; None: a folder of pictures.

    Raises:
        ValueError: The suffix is of no known kind, or of one that holds no opacity.
    """
    suffix = Path(path).suffix.lower()
    if not suffix:
        return None
    if suffix not in VIDEO_KINDS:
        raise ValueError(f"`{name}` ends in {suffix!r}: {path}, must end in one of {KINDS_WORDS}")
    if has_opacity and suffix not in TRANSPARENT_KINDS:
        raise ValueError(
            f"`{name}` ends in {suffix!r}: {path}, which holds no transparency; must end in"
            f" {' or '.join(TRANSPARENT_KINDS)}, or have no suffix: a folder of pictures"
        )
    return (TRANSPARENT_KINDS if has_opacity else VIDEO_KINDS)[suffix]


def holds_opacity(path: str | os.PathLike) -> bool:
    """Tell whether a video at a path can have pictures with opacity."""
    return not Path(path).suffix or Path(path).suffix.lower() in TRANSPARENT_KINDS


def check_output_path(path: str | os.PathLike, name: str = "output", has_opacity: bool = False) -> None:
    """Check before the work that a video can be written to a path.

    Args:
        path: Where the video shall go.
        name: Argument name for error messages.
        has_opacity: Whether its pictures have a fourth channel.

    Raises:
        ValueError: The path is a directory or another special file, cannot be written to (see
            `output_places.check_place`), or its suffix is of no known kind (see `kind_of`). Without a suffix: there
            is a file, or a folder with other things in it than frames.
    """
    check_place(path, name)
    path = Path(path)
    if path.name.lower() in VIDEO_KINDS:
        raise ValueError(f"`{name}` is {path}, must have a name before {path.name}")
    if not path.suffix:
        check_folder_of_frames(path, name)
        return
    if path.is_dir():
        raise ValueError(f"`{name}` is a directory: {path}; the name of a file is needed")
    kind_of(path, has_opacity, name)
    if path.exists() and not path.is_file():
        raise ValueError(f"`{name}` is not a regular file: {path}")


def check_frame_size(
    height: int, width: int, name: str = "frames", kind: VideoKind | None = VIDEO_KINDS[".mp4"]
) -> None:
    """Refuse frames that a kind of video cannot hold.

    Args:
        height: Their height [px].
        width: Their width [px].
        name: Argument name for error messages.
        kind: The kind; None: a folder of pictures, which may have any size.

    Raises:
        ValueError: They are too large.
    """
    if kind is None:
        return
    # codecs count in squares of 16 px
    num_pixels = 256 * math.ceil(height / 16) * math.ceil(width / 16)
    if num_pixels > kind.most_pixels or max(height, width) > kind.most_side_px:
        raise ValueError(
            f"`{name}` would be {width}x{height} px, more than {kind.title} holds: up to"
            f" {kind.most_pixels / 1e6:.0f} megapixels, such as 8192x4320, and {kind.most_side_px} to a side"
        )
