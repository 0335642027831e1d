"""Write H.264 video with AAC sound of exactly the frames' length."""

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from ..machine.output_places import check_place, part_beside
from ..records import FPS, Waveform
from .recordings import resample
from .sources import import_av

if TYPE_CHECKING:
    import av

AAC_SAMPLE_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# output suffix -> container format; Matroska cannot end AAC sound exactly with the last frame, so it is not here
VIDEO_CONTAINERS = {".mp4": "mp4", ".mov": "mov"}
# ITU-R BT.709, limited range, in FFmpeg's numbering: what players assume of video without a tag above 576 lines
BT709, LIMITED_RANGE = 1, 1
# of level 6.2, the highest (ITU-T H.264, table A-1), which 8192x4320 keep; the side is what libx264 takes
MOST_MACROBLOCKS, MOST_SIDE_PX = 139_264, 16_384
# what writing holds, measured with libx264's defaults: it looks 40 frames ahead, at about 4 bytes a pixel
LOOKAHEAD_FRAMES, LOOKAHEAD_BYTES_PER_PX, WRITER_BYTES_PER_PX = 42, 4, 50
MOST_FPS = 1000
SYNTHETIC_COMMENT = "synthetic video made by diffusers_dawn"


def check_output_path(path: str | os.PathLike, name: str = "output") -> None:
    """Find out before the work whether a video can be written to a path.

    Args:
        path: Where the video shall go.
        name: Argument name for error messages.

    Raises:
        ValueError: If the path is a directory or another special file, cannot be written to (see
            `output_places.check_place`), or its suffix is neither .mp4 nor .mov.
    """
    path = Path(path)
    check_place(path, name)
    if path.is_dir():
        raise ValueError(f"`{name}` is a directory: {path}; the name of a file is needed")
    if path.suffix.lower() not in VIDEO_CONTAINERS:
        raise ValueError(f"`{name}` ends in {path.suffix!r}: {path}; allowed are {', '.join(VIDEO_CONTAINERS)}")
    if path.exists() and not path.is_file():
        raise ValueError(f"`{name}` is not a regular file: {path}")


def check_frame_size(height: int, width: int, name: str = "frames") -> None:
    """Refuse frames that H.264 cannot hold.

    Args:
        height: Their height [px].
        width: Their width [px].
        name: Argument name for error messages.

    Raises:
        ValueError: They are too large.
    """
    macroblocks = math.ceil(height / 16) * math.ceil(width / 16)
    if macroblocks > MOST_MACROBLOCKS or max(height, width) > MOST_SIDE_PX:
        raise ValueError(
            f"`{name}` would be {width}x{height} px, more than H.264 holds: up to {MOST_MACROBLOCKS * 256 / 1e6:.0f}"
            f" megapixels, such as 8192x4320, and {MOST_SIDE_PX} to a side"
        )


def writer_bytes(height: int, width: int, num_frames: int) -> int:
    """Estimate the memory that `VideoWriter` takes, most of it for the frames that the encoder looks ahead.

    Args:
        height: Height of the frames [px].
        width: Width of the frames [px].
        num_frames: How many there are.

    Returns:
        Bytes.
    """
    held_bytes = LOOKAHEAD_BYTES_PER_PX * min(num_frames, LOOKAHEAD_FRAMES)
    return (WRITER_BYTES_PER_PX + held_bytes) * height * width


class VideoWriter:
    """Write frames, as they come, to an H.264 video with AAC sound of exactly the frames' length.

    Use as a context manager. The video grows in a hidden file beside the destination, which it replaces only when
    the block ends without an exception; otherwise nothing is left behind. H.264 needs even sizes: odd ones are
    extended by one row or column of edge pixels, with a warning.

    Args:
        path: Destination; .mp4 or .mov.
        fps: Frames per second.
        waveform: Sound; cut, or extended by silence, to the length of the frames. None writes no sound.
        metadata: Container tags, such as `{"comment": "..."}`. None says in the comment that the video is synthetic
            and made by this package; give `{}` for one that is not.

    Raises:
        ValueError: If `path` cannot be written to (see `check_output_path`) `fps` is not positive or
            above 1000, or `metadata` holds anything but texts.
        OSError: If writing fails, as on a full disk; also of `write` and at the end of the block.
        ImportError: If PyAV is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float = FPS,
        waveform: Waveform | None = None,
        metadata: dict[str, str] | None = None,
    ):
        if not (isinstance(fps, Real) and not isinstance(fps, bool) and 0 < fps <= MOST_FPS):
            raise ValueError(f"`fps` is {fps!r}, must be a number above 0, up to {MOST_FPS}")
        for key, value in (metadata or {}).items():
            if not (isinstance(key, str) and isinstance(value, str)):
                raise ValueError(f"`metadata` has {key!r}: {value!r}, must be texts by texts")
        check_output_path(path, "path")
        self.path = Path(path)
        self.num_frames = 0
        self._fps = Fraction(fps).limit_denominator(1001)
        if waveform is not None and waveform.sample_rate_hz not in AAC_SAMPLE_RATES_HZ:
            waveform = resample(waveform, 48_000)
        self._waveform = waveform
        self._num_samples = 0
        self._metadata = {"comment": SYNTHETIC_COMMENT} if metadata is None else dict(metadata)
        self._frame_shape: tuple[int, ...] | None = None
        self._container = None
        self._place = ExitStack()

    def __enter__(self) -> "VideoWriter":
        """Open the hidden file."""
        av = import_av()
        container_format = VIDEO_CONTAINERS[self.path.suffix.lower()]
        options = {"movflags": "+faststart"}
        # absolute: FFmpeg would take a folder with a colon in its name for a protocol
        self._partial_path = self._place.enter_context(part_beside(self.path))
        with self._failures_named(), self._place_freed_on_failure():
            self._container = av.open(str(self._partial_path), "w", format=container_format, options=options)
        self._container.metadata.update(self._metadata)
        return self

    def write(self, frames: np.ndarray) -> None:
        """Append frames.

        Args:
            frames: uint8 array (N, H, W, 3), RGB; H and W as in the first call.

        Raises:
            ValueError: If shape or type are others, or they are larger than H.264 allows.
            OSError: If writing fails.
            RuntimeError: If called outside of the `with` block.
        """
        import av

        if self._container is None:
            raise RuntimeError("VideoWriter.write works only inside `with VideoWriter(...) as writer:`")
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:] or frames.dtype != np.uint8:
            raise ValueError(f"`frames` is {frames.dtype} {frames.shape}; allowed is uint8 (N, H, W, 3)")
        if self._frame_shape is None:
            self._add_streams(frames.shape[1:])
        if frames.shape[1:] != self._frame_shape:
            raise ValueError(f"`frames` has frames of {frames.shape[1:]}, earlier ones were {self._frame_shape}")
        padding = ((0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0))
        is_odd = padding != ((0, 0),) * 3
        for picture in frames:
            padded = np.pad(picture, padding, mode="edge") if is_odd else picture
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = self.num_frames, 1 / self._fps
            with self._failures_named():
                self._container.mux(self._video.encode(frame))
                self.num_frames += 1
                self._write_audio_so_far()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the video and move it to its place, or remove what was written."""
        container, self._container = self._container, None
        try:
            if exception_type is None:
                with self._failures_named():
                    self._finish(container)
            else:
                with suppress(OSError):  # what went wrong first is what counts
                    container.close()
        finally:
            self._place.close()

    @contextmanager
    def _place_freed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._place.close()
            raise

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """Name the destination in errors of writing, not the hidden file."""
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _finish(self, container: "av.container.OutputContainer") -> None:
        if self.num_frames == 0:
            container.close()
            raise ValueError(f"no frames were written to {self.path}")
        container.mux(self._video.encode(None))
        if self._waveform is not None:
            container.mux(self._audio.encode(None))
        container.close()
        os.replace(self._partial_path, self.path)

    def _add_streams(self, frame_shape: tuple[int, ...]) -> None:
        height, width = frame_shape[:2]
        check_frame_size(height, width)
        if height % 2 or width % 2:
            warnings.warn(
                f"H.264 needs even sizes: {height}x{width} frames are extended at the edge to "
                f"{height + height % 2}x{width + width % 2}",
                stacklevel=3,
            )
        self._video = self._container.add_stream("libx264", rate=self._fps, options={"crf": "18"})
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = 1 / self._fps
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        if self._waveform is not None:
            self._audio = self._container.add_stream("aac", rate=self._waveform.sample_rate_hz, layout="mono")
            self._audio.bit_rate = 128_000
        self._frame_shape = frame_shape

    def _write_audio_so_far(self) -> None:
        """Write the sound up to the end of the last written frame, so that both stay interleaved."""
        if self._waveform is None:
            return
        import av

        rate_hz = self._waveform.sample_rate_hz
        end = round(self.num_frames / self._fps * rate_hz)
        samples = self._waveform.samples[self._num_samples : end]
        samples = np.pad(samples, (0, end - self._num_samples - len(samples))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, self._num_samples, Fraction(1, rate_hz)
        self._container.mux(self._audio.encode(frame))
        self._num_samples = end


def write_video(
    path: str | os.PathLike,
    frames: np.ndarray,
    waveform: Waveform | None = None,
    fps: float = FPS,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write frames and sound to a video file; see `VideoWriter`.

    Args:
        path: Destination; .mp4 or .mov.
        frames: uint8 array (F, H, W, 3), RGB.
        waveform: Sound, or None.
        fps: Frames per second.
        metadata: Container tags; None says in the comment that the video is synthetic.
    """
    with VideoWriter(path, fps=fps, waveform=waveform, metadata=metadata) as writer:
        writer.write(frames)
