"""Write videos whose sound is exactly as long as the frames: files of several kinds, or folders of pictures."""

import os
import warnings
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from ..machine.output_places import naming_place, part_beside, put_in_place
from ..ranges import check_class, is_between
from ..records import FPS, Waveform
from .film_file import FilmFile
from .frame_folder import FrameFolder
from .recordings import check_waveform, resample
from .sources import import_av
from .video_kinds import LEAST_FPS, MOST_FPS, check_frame_size, check_output_path, kind_of

# what writing holds, measured with libx264's defaults: it looks 40 frames ahead, at about 4 bytes a pixel
LOOKAHEAD_FRAMES, LOOKAHEAD_BYTES_PER_PX, WRITER_BYTES_PER_PX = 42, 4, 50
# sound of a rate that the file does not take becomes one of this rate, with two copies of its samples then (measured)
OTHER_RATE_HZ, RESAMPLED_BYTES = 48_000, 8
SYNTHETIC_COMMENT = "synthetic video made by diffusers_dawn"


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


def resampled_bytes(path: str | os.PathLike, num_frames: int, rate_hz: int) -> int:
    """Estimate the memory that `VideoWriter` takes for sound of a rate that its file does not take.

    Args:
        path: Where the video goes.
        num_frames: How many frames there are, at 25 per second.
        rate_hz: Rate of the sound.

    Returns:
        Bytes; none where the rate stays.
    """
    kind = kind_of(path, name="path")
    stays = kind is None or kind.sound_codec is None or rate_hz in kind.sound_rates_hz
    return 0 if stays else RESAMPLED_BYTES * OTHER_RATE_HZ * num_frames // FPS


class VideoWriter:
    """Write frames, as they come, to a video whose sound is exactly as long as the frames.

    The path's suffix says what is written: .mp4 or .mov (H.264 and AAC), .webm (VP9 and Opus), .gif (without sound),
    or, without a suffix, a folder of pictures `frame_000000.png`, ... and `sound.wav`. Frames with a fourth channel,
    opacity, keep it in .mov (ProRes 4444), .webm and in pictures.

    Use as a context manager. The video grows in a hidden place beside the destination, which it replaces only when
    the block ends without an exception; otherwise nothing is left behind. H.264 needs even sizes: odd ones are
    extended by one row or column of edge pixels, with a warning.

    Args:
        path: Destination.
        fps: Frames per second; a folder of pictures does not say it.
        waveform: Sound; cut, or extended by silence, to the length of the frames. None writes no sound.
        metadata: Container tags, such as `{"comment": "..."}`. None says in the comment that the video is synthetic
            and made by this package; give `{}` for one that is not. A GIF keeps the comment only.

    Raises:
        ValueError: `path` cannot be written to (see `check_output_path`), `fps` is below 0.001 or above 1000 (50
            for a GIF), `waveform` is no sound, or `metadata` holds anything but texts.
        OSError: Writing fails, as on a full disk; also of `write` and at the end of the block.
        ImportError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float = FPS,
        waveform: Waveform | None = None,
        metadata: dict[str, str] | None = None,
    ):
        check_output_path(path, "path")
        kind = kind_of(path, name="path")
        most_fps = MOST_FPS if kind is None else kind.most_fps
        if not is_between(fps, LEAST_FPS, most_fps):
            raise ValueError(f"`fps` is {fps!r}, must be a number from {LEAST_FPS} to {most_fps}")
        _check_metadata(metadata)
        if waveform is not None:
            check_waveform(waveform, "waveform")
        if waveform is not None and kind is not None:
            if kind.sound_codec is None:
                warnings.warn(f"a {kind.title} holds no sound; it is left out of {path}", stacklevel=2)
                waveform = None
            elif waveform.sample_rate_hz not in kind.sound_rates_hz:
                waveform = resample(waveform, OTHER_RATE_HZ)
        self.path = Path(path)
        self.num_frames = 0
        self._fps = Fraction(float(fps)).limit_denominator(1001)
        self._waveform = waveform
        self._num_samples = 0
        self._metadata = {"comment": SYNTHETIC_COMMENT} if metadata is None else dict(metadata)
        self._frame_shape: tuple[int, ...] | None = None
        self._target: FilmFile | FrameFolder | None = None
        self._partial_path: Path | None = None
        self._place = ExitStack()

    def __enter__(self) -> "VideoWriter":
        """Choose the hidden place."""
        import_av()
        if self._partial_path is not None or self.num_frames:
            raise RuntimeError("a VideoWriter writes one video: make another one for the next")
        self._partial_path = self._place.enter_context(part_beside(self.path))
        return self

    def write(self, frames: np.ndarray) -> None:
        """Append frames.

        Args:
            frames: uint8 array (N, H, W, 3), RGB, or (N, H, W, 4) with opacity; each of one shape.

        Raises:
            ValueError: Shape or type are others, they are larger than the codec allows, or have an opacity that the
                file cannot hold.
            OSError: Writing fails.
            RuntimeError: Called outside of the `with` block.
        """
        if self._partial_path is None:
            raise RuntimeError("VideoWriter.write works only inside `with VideoWriter(...) as writer:`")
        check_class("frames", frames, np.ndarray)
        if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or 0 in frames.shape[1:] or frames.dtype != np.uint8:
            raise ValueError(f"`frames` is {frames.dtype} {frames.shape}, must be uint8 (N, H, W, 3) or (N, H, W, 4)")
        if len(frames) == 0:
            return
        with naming_place(self.path):
            if self._frame_shape is None:
                self._begin(frames.shape[1:])
            if frames.shape[1:] != self._frame_shape:
                raise ValueError(f"`frames` has frames of {frames.shape[1:]}, earlier ones were {self._frame_shape}")
            for picture in frames:
                padded = np.pad(picture, self._padding, mode="edge") if self._is_odd else picture
                self._target.write(self.num_frames, padded)
                self.num_frames += 1
                self._write_sound_so_far()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the video and move it to its place, or remove what was written."""
        target, self._target = self._target, None
        part, self._partial_path = self._partial_path, None
        try:
            if exception_type is None:
                with naming_place(self.path):
                    self._finish(target, part)
            elif isinstance(target, FilmFile):
                with suppress(OSError):  # what went wrong first is what counts
                    target.close()
        finally:
            self._place.close()

    def _finish(self, target: "FilmFile | FrameFolder | None", part: Path) -> None:
        if target is None:
            raise ValueError(f"`frames` are missing: no frames were written to {self.path}")
        if isinstance(target, FilmFile):
            target.finish(self._waveform is not None)
        elif self._waveform is not None:
            target.write_sound(self._next_sound())
        put_in_place(part, self.path)

    def _begin(self, frame_shape: tuple[int, ...]) -> None:
        height, width, num_channels = frame_shape
        kind = kind_of(self.path, num_channels == 4, "path")
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._is_odd = kind is not None and kind.needs_even_sizes and (height % 2 or width % 2)
        if kind is None:
            self._target = FrameFolder(self._partial_path, self._metadata)
        else:
            check_frame_size(height, width, kind=kind)
            if self._is_odd:
                warnings.warn(
                    f"H.264 needs even sizes: {height}x{width} frames are extended at the edge to "
                    f"{height + height % 2}x{width + width % 2}",
                    stacklevel=3,
                )
                height, width = height + height % 2, width + width % 2
            rate_hz = None if self._waveform is None else self._waveform.sample_rate_hz
            self._target = FilmFile(self._partial_path, kind, self._fps, (height, width), self._metadata, rate_hz)
        self._frame_shape = frame_shape

    def _write_sound_so_far(self) -> None:
        """Write the sound up to the end of the last written frame, so that both stay interleaved."""
        if self._waveform is not None and isinstance(self._target, FilmFile):
            first_sample = self._num_samples
            self._target.write_sound(self._next_sound(), first_sample)

    def _next_sound(self) -> Waveform:
        """Cut out, or extend by silence, the sound from what was taken before to the end of the last written frame."""
        rate_hz = self._waveform.sample_rate_hz
        end = round(self.num_frames / self._fps * rate_hz)
        samples = self._waveform.samples[self._num_samples : end]
        samples = np.pad(samples, (0, end - self._num_samples - len(samples))).astype(np.float32)
        self._num_samples = end
        return Waveform(samples, rate_hz)


def _check_metadata(metadata: dict[str, str] | None) -> None:
    if not (metadata is None or isinstance(metadata, dict)):
        raise ValueError(f"`metadata` is {metadata!r}, must be texts by texts, or None")
    for key, value in (metadata or {}).items():
        is_text = isinstance(key, str) and isinstance(value, str)
        # containers cut texts at a zero, and know UTF-8 only, which has no surrogates
        if not is_text or any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in key + value):
            raise ValueError(f"`metadata` has {key!r}: {value!r}, must be texts by texts, of UTF-8 and without zeros")


def write_video(
    path: str | os.PathLike,
    frames: np.ndarray,
    waveform: Waveform | None = None,
    fps: float = FPS,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write frames and sound to a video file, or to a folder of pictures; see `VideoWriter`.

    Args:
        path: Destination; .mp4, .mov, .webm, .gif, or without a suffix.
        frames: uint8 array (F, H, W, 3), RGB, or (F, H, W, 4) with opacity.
        waveform: Sound, or None.
        fps: Frames per second.
        metadata: Container tags; None says in the comment that the video is synthetic.
    """
    with VideoWriter(path, fps=fps, waveform=waveform, metadata=metadata) as writer:
        writer.write(frames)
