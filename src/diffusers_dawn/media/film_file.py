"""One video file while it is written: its container, pictures and sound, through PyAV."""

import os
import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..machine.output_places import part_beside
from ..records import Waveform
from .sources import import_av
from .video_kinds import VideoKind

if TYPE_CHECKING:
    import av

# ITU-R BT.709, limited range, in FFmpeg's numbering: what players assume of video without a tag above 576 lines
BT709, LIMITED_RANGE = 1, 1
# fixed, because x264 gives other bytes with another number of threads
ENCODER_THREADS = 4
# x264 looks ahead at half the width, and there it also reads what fills lines up to whole 64 px, which nobody writes:
# what it finds there changes the file, unless the width is a multiple of this. Measured with widths from 64 to 1024 px
# and memory filled with other bytes
LOOKAHEAD_MULTIPLE_PX = 128
MOST_COMMENT_BYTES = 255  # of one block of a GIF's comment


class FilmFile:
    """Write pictures and sound into one file.

    Args:
        path: The file; absolute, because FFmpeg would take a folder with a colon in its name for a protocol.
        kind: What it holds.
        fps: Pictures per second.
        size: Height and width of the pictures [px].
        metadata: Container tags.
        sample_rate_hz: Rate of the sound; None: there is none.

    Raises:
        OSError: Writing fails; also of the methods.
    """

    def __init__(
        self,
        path: Path,
        kind: VideoKind,
        fps: Fraction,
        size: tuple[int, int],
        metadata: Mapping[str, str],
        sample_rate_hz: int | None,
    ) -> None:
        av = import_av()
        self._path, self._kind, self._fps, self._metadata = path, kind, fps, metadata
        container_options = dict(kind.container_options)
        self._container = av.open(str(path), "w", format=kind.container, container_options=container_options)
        self._container.metadata.update(metadata)
        codec_options = dict(kind.codec_options)
        if kind.codec == "libx264" and size[1] % LOOKAHEAD_MULTIPLE_PX:
            codec_options["rc-lookahead"] = "0"
        self._video = self._container.add_stream(kind.codec, rate=fps, options=codec_options)
        self._video.height, self._video.width = size
        self._video.pix_fmt = kind.pixel_format
        context = self._video.codec_context
        context.time_base, context.thread_count = 1 / fps, ENCODER_THREADS
        self._palette = _PaletteFilter(size, fps) if kind.codec == "gif" else None
        if self._palette is None:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE
        if sample_rate_hz is not None:
            self._audio = self._container.add_stream(kind.sound_codec, rate=sample_rate_hz, layout="mono")
            self._audio.bit_rate = 128_000

    def write(self, index: int, picture: np.ndarray) -> None:
        """Write a picture.

        Args:
            index: Its number, from 0.
            picture: uint8 array (H, W, 3) or (H, W, 4).
        """
        import av

        frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.shape[-1] == 3 else "rgba")
        frame.pts, frame.time_base = index, 1 / self._fps
        if self._palette is not None:
            for reduced in self._palette.push(frame):
                self._container.mux(self._video.encode(reduced))
            return
        frame = frame.reformat(format=self._kind.pixel_format, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = index, 1 / self._fps
        self._container.mux(self._video.encode(frame))

    def write_sound(self, waveform: Waveform, first_sample: int) -> None:
        """Write the next piece of the sound, which begins at a sample."""
        import av

        frame = av.AudioFrame.from_ndarray(waveform.samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = waveform.sample_rate_hz, first_sample
        frame.time_base = Fraction(1, waveform.sample_rate_hz)
        self._container.mux(self._audio.encode(frame))

    def finish(self, has_sound: bool) -> None:
        """Write what the encoders still hold, and close the file."""
        self._container.mux(self._video.encode(None))
        if has_sound:
            self._container.mux(self._audio.encode(None))
        self._container.close()
        if self._kind.codec == "gif" and "comment" in self._metadata:
            _write_gif_comment(self._path, self._metadata["comment"])

    def close(self) -> None:
        """Close the file as it is."""
        self._container.close()


class _PaletteFilter:
    """Reduce each picture to its own 256 colours; the pattern between them lies still, so that nothing flickers."""

    def __init__(self, size: tuple[int, int], fps: Fraction) -> None:
        import av

        height, width = size
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps)
        split = self._graph.add("split")
        palette = self._graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = self._graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
        sink = self._graph.add("buffersink")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        self._graph.configure()

    def push(self, frame: "av.VideoFrame") -> "Iterator[av.VideoFrame]":
        """Give a picture, and take those that are done."""
        import av

        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return


def _write_gif_comment(path: Path, comment: str) -> None:
    """Put a comment behind the head of a GIF (GIF89a, section 24), where FFmpeg writes none."""
    text = comment.encode("utf-8")
    blocks = [text[first : first + MOST_COMMENT_BYTES] for first in range(0, len(text), MOST_COMMENT_BYTES)]
    extension = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    with part_beside(path) as commented:
        with path.open("rb") as source, commented.open("wb") as target:
            head = source.read(13)
            has_palette, size_bits = head[10] >> 7, head[10] & 7
            target.write(head + source.read(has_palette * 3 * 2 ** (size_bits + 1)) + extension)
            shutil.copyfileobj(source, target)
        os.replace(commented, path)
