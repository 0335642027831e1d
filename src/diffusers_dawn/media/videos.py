"""Read the pictures of videos at any rate, through PyAV; times count from the start of the container."""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..records import FPS
from .sources import MediaSource, describe_source, open_container, time_s_of

if TYPE_CHECKING:
    import av


def read_video(
    source: MediaSource, fps: float | None = None, max_frames: int | None = None, name: str = "video"
) -> tuple[np.ndarray, float]:
    """Read the pictures of a video, turned upright as its metadata says.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is then the one shown at i / fps s after the container's start.
            None keeps the frames as they are stored.
        max_frames: Stop after so many frames; None reads all.
        name: Argument name for error messages.

    Returns:
        uint8 array (F, H, W, 3), and its frames per second (the average rate when `fps` is None).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be decoded or has no pictures, or `fps` or `max_frames` is not positive.
    """
    if (fps is not None and fps <= 0) or (max_frames is not None and max_frames <= 0):
        raise ValueError(f"`fps` ({fps}) and `max_frames` ({max_frames}) must be positive where they are given")
    if fps is not None:
        return np.stack(list(itertools.islice(stream_video(source, fps, name=name), max_frames))), fps
    shots = list(
        itertools.islice(((_upright(shot.frame), shot.native_fps) for shot in _shots(source, name)), max_frames)
    )
    return np.stack([picture for picture, _ in shots]), shots[0][1]


def stream_video(source: MediaSource, fps: float, first_frame: int = 0, name: str = "video") -> Iterator[np.ndarray]:
    """Read the pictures of a video one by one, so that its length does not matter.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is the one shown at i / fps s after the container's start.
        first_frame: Index of the first frame to give; those before it are decoded, but not converted.
        name: Argument name for error messages.

    Yields:
        uint8 arrays (H, W, 3), turned upright as the metadata says. Neighbours may be the same object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be decoded or has no pictures, `fps` is not positive or `first_frame` negative.
    """
    if fps <= 0 or first_frame < 0:
        raise ValueError(f"`fps` ({fps}) must be positive, `first_frame` ({first_frame}) 0 or more")
    index, shown, picture = 0, None, None
    for shot in _shots(source, name):
        # what was shown until now fills the time up to this frame; 1 us absorbs rounded time stamps
        while shown is not None and index / fps < shot.time_s - 1e-6:
            if index >= first_frame:
                picture = _upright(shown.frame) if picture is None else picture
                yield picture
            index += 1
        shown, picture = shot, None
    for _ in range(max(index, first_frame), _num_frames_until(shown.time_s, shown.native_fps, fps)):
        picture = _upright(shown.frame) if picture is None else picture
        yield picture


def count_video_frames(source: MediaSource, fps: float, name: str = "video") -> int:
    """Count how many frames `stream_video` gives, without decoding any.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second.
        name: Argument name for error messages.

    Returns:
        Number of frames; more than `stream_video` gives where a part of the file cannot be decoded.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be read or has no pictures, or `fps` is not positive.
    """
    if fps <= 0:
        raise ValueError(f"`fps` is {fps}; it must be positive")
    with open_container(source, name) as container:
        stream, native_fps = _video_stream(container, source, name)
        packets = [packet for packet in container.demux(stream) if packet.size > 0 and not packet.is_discard]
        times_s = [time_s_of(packet, container) for packet in packets]
    if not packets:
        raise ValueError(f"`{name}` holds no pictures ({describe_source(source)})")
    last_s = max(index / native_fps if time_s is None else time_s for index, time_s in enumerate(times_s))
    return _num_frames_until(last_s, native_fps, fps)


class _Shot(NamedTuple):
    """A stored picture, when it is shown, and how many there are per second on average."""

    frame: "av.VideoFrame"
    time_s: float
    native_fps: float


def _shots(source: MediaSource, name: str) -> Iterator[_Shot]:
    shot = None
    with open_container(source, name) as container:
        stream, native_fps = _video_stream(container, source, name)
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            time_s = time_s_of(frame, container)
            shot = _Shot(frame, index / native_fps if time_s is None else time_s, native_fps)
            yield shot
    if shot is None:
        raise ValueError(f"`{name}` holds no pictures ({describe_source(source)})")


def _video_stream(
    container: "av.container.InputContainer", source: MediaSource, name: str
) -> "tuple[av.video.stream.VideoStream, float]":
    """The video track, and its average frames per second."""
    if not container.streams.video:
        raise ValueError(f"`{name}` has no video track ({describe_source(source)})")
    stream = container.streams.video[0]
    return stream, float(stream.average_rate or stream.guessed_rate or FPS)


def _upright(frame: "av.VideoFrame") -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _num_frames_until(last_s: float, native_fps: float, fps: float) -> int:
    """Frames until the end of the last picture, which is shown for an average time; those before it all count."""
    return max(round((last_s + 1 / native_fps) * fps), math.ceil((last_s - 1e-6) * fps), 1)
