"""Read the pictures of videos at any rate, through PyAV; times count from the start of the container."""

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..machine.free_memory import free_bytes
from ..ranges import check_counts, is_between, is_whole_number
from ..records import FPS
from .damaged_files import PacketDecoder
from .shown_colours import has_high_dynamic_range, to_srgb
from .sources import MediaSource, describe_source, import_av, is_default, open_container, time_s_of

if TYPE_CHECKING:
    import av

# as much as the largest cameras film, and what decoding holds: H.264 up to 16 frames to which others refer, and more
# for threads. 49 were measured; the same in 10 bits is twice that, which films of such a size do not use
MOST_FRAME_PIXELS, FRAME_BYTES_PER_PX = 120_000_000, 60
# a matrix whose smaller part is above this share of the larger turns by no right angle
SLANT_SHARE = 0.02
# a still comes with the first packets of a film, or is one long before
PROBED_PACKETS = 50
# pictures are stored before others that are shown earlier, but never by so much; then the time begins anew
MOST_REORDERED_S = 1.0


def read_video(
    source: MediaSource, fps: float | None = None, max_frames: int | None = None, name: str = "video"
) -> tuple[np.ndarray, float]:
    """Read the pictures of a video as players show them.

    They are turned and mirrored as the metadata says, widened where pixels are not square, converted to sRGB where
    the range is high (HLG, PQ) or the gamut wide. What cannot be decoded is left out with a warning.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is then the one shown at i / fps s after the container's start.
            None keeps the frames as they are stored.
        max_frames: Stop after so many frames; None reads all.
        name: Argument name for error messages.

    Returns:
        uint8 array (F, H, W, 3), and its frames per second (the average rate when `fps` is None).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` cannot be decoded, has no pictures or more than fit in memory, or `fps` is not positive
            or `max_frames` no whole number from 1.
    """
    if max_frames is not None:
        check_counts(max_frames=max_frames)
    if fps is not None:
        return _collect(itertools.islice(stream_video(source, fps, name=name), max_frames), name), fps
    shots = _shots(source, name)
    first = next(shots)
    pictures = (_as_shown(shot) for shot in itertools.chain([first], shots) if not shot.is_repeated)
    return _collect(itertools.islice(pictures, max_frames), name), first.native_fps


def stream_video(source: MediaSource, fps: float, first_frame: int = 0, name: str = "video") -> Iterator[np.ndarray]:
    """Read the pictures of a video one by one, so that its length does not matter.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is the one shown at i / fps s after the container's start.
        first_frame: Index of the first frame to give; those before it are decoded, but not converted.
        name: Argument name for error messages.

    Yields:
        uint8 arrays (H, W, 3), as `read_video` gives. Neighbours may be the same object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` cannot be decoded or has no pictures, `fps` is not positive or `first_frame` negative.
    """
    _check_fps(fps)
    if not is_whole_number(first_frame) or first_frame < 0:
        raise ValueError(f"`first_frame` is {first_frame!r}, must be a whole number from 0")
    index, shown, picture = 0, None, None
    for shot in _shots(source, name):
        # what was shown until now fills the time up to this frame; 1 us absorbs rounded time stamps
        while shown is not None and index / fps < shot.time_s - 1e-6:
            if index >= first_frame:
                picture = _as_shown(shown) if picture is None else picture
                yield picture
            index += 1
        shown, picture = shot, None
    for _ in range(max(index, first_frame), _num_frames_until(shown.time_s, shown.native_fps, fps)):
        picture = _as_shown(shown) if picture is None else picture
        yield picture


def _check_fps(fps: float) -> None:
    if not (is_between(fps, 0, math.inf) and 0 < fps < math.inf):
        raise ValueError(f"`fps` is {fps!r}, must be positive and finite")


def _collect(pictures: Iterable[np.ndarray], name: str) -> np.ndarray:
    collected, most = [], 0
    for picture in pictures:
        # each is there twice while they are joined
        most = most or int(free_bytes() / (2 * picture.nbytes))
        if len(collected) >= most:
            raise ValueError(f"`{name}` has more frames than fit in memory: {most} of {picture.shape[:2]} px")
        if collected and picture.shape != collected[0].shape:
            raise ValueError(f"`{name}` changes its size from {collected[0].shape[:2]} to {picture.shape[:2]} px")
        collected.append(picture)
    return np.stack(collected)


def count_video_frames(source: MediaSource, fps: float, name: str = "video") -> int:
    """Count how many frames `stream_video` gives, without decoding any.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second.
        name: Argument name for error messages.

    Returns:
        Number of frames; more than `stream_video` gives where a part of the file cannot be decoded.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` cannot be read or has no pictures, or `fps` is not positive.
    """
    _check_fps(fps)
    last_s = None
    with _open_film(source, name) as (container, stream):
        native_fps = _frame_rate(stream)
        clock = _Clock(native_fps)
        for packet in container.demux(stream):  # not all at once: they hold what they say
            if packet.size > 0 and not packet.is_discard:
                time_s = clock.read(time_s_of(packet, container))
                last_s = time_s if last_s is None else max(last_s, time_s)
    if last_s is None:
        raise ValueError(f"`{name}` holds no pictures ({describe_source(source)})")
    return _num_frames_until(last_s, native_fps, fps)


class _Clock:
    """Times that go on where a file begins to count anew, as joined files do, or does not say the time."""

    def __init__(self, native_fps: float) -> None:
        self.num_restarts = 0
        self._native_fps, self._num_read, self._last_s, self._shift_s = native_fps, 0, None, 0.0

    def read(self, time_s: float | None) -> float:
        """Give the time of the next picture [s] from what the file says."""
        time_s = self._num_read / self._native_fps if time_s is None else time_s + self._shift_s
        if self._last_s is not None and time_s < self._last_s - MOST_REORDERED_S:
            shift_s = self._last_s + 1 / self._native_fps - time_s
            self._shift_s, self.num_restarts, time_s = self._shift_s + shift_s, self.num_restarts + 1, time_s + shift_s
        self._num_read += 1
        self._last_s = time_s if self._last_s is None else max(self._last_s, time_s)
        return time_s


class _Shot(NamedTuple):
    """A stored picture, when it is shown, how many there are per second on average, and the shape of its pixels."""

    frame: "av.VideoFrame"
    time_s: float
    native_fps: float
    pixel_aspect: Fraction
    is_repeated: bool = False


def _shots(source: MediaSource, name: str) -> Iterator[_Shot]:
    shot = None
    with _open_film(source, name) as (container, stream):
        stream.thread_type, native_fps = "AUTO", _frame_rate(stream)
        pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        _check_video_size(*_shown_size(stream.height, stream.width, pixel_aspect), name)
        decoder = PacketDecoder(container, stream, name, "the picture before stays instead")
        clock = _Clock(native_fps)
        for frame in decoder:
            if shot is None:
                _warn_of_changes(frame, name)
            shot = _Shot(frame, clock.read(time_s_of(frame, container)), native_fps, pixel_aspect)
            yield shot
        if shot is not None and decoder.num_damaged and not clock.num_restarts and decoder.end_s is not None:
            # what is damaged at the end lasts as well
            yield shot._replace(time_s=max(shot.time_s, decoder.end_s - 1 / native_fps), is_repeated=True)
        if clock.num_restarts:
            warnings.warn(
                f"`{name}` begins to count its time anew {clock.num_restarts} times, and is joined there", stacklevel=3
            )
    if shot is None:
        raise ValueError(f"`{name}` holds no pictures ({describe_source(source)})")


@contextmanager
def _open_film(
    source: MediaSource, name: str
) -> "Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]":
    """Open a file at the track that holds the film: not a cover or another still, the default one before others."""
    with open_container(source, name) as container:
        tracks = container.streams.video
        if not tracks:
            raise ValueError(f"`{name}` has no video track ({describe_source(source)})")
        films = [track.index for track in tracks if not _is_cover(track)] or [tracks[0].index]
        if len(films) == 1:
            yield container, container.streams[films[0]]
            return
        films.sort(key=lambda index: not is_default(container.streams[index]))
        moving = _tracks_with_several_pictures(container, films)
    films = [index for index in films if index in moving] or films
    if len(films) > 1:
        warnings.warn(f"`{name}` has {len(films)} films, the default or first one is used", stacklevel=4)
    if hasattr(source, "seek"):
        source.seek(0)
    with open_container(source, name) as container:
        yield container, container.streams[films[0]]


def _is_cover(track: "av.video.stream.VideoStream") -> bool:
    return bool(track.disposition & import_av().stream.Disposition.attached_pic)


def _tracks_with_several_pictures(container: "av.container.InputContainer", indices: list[int]) -> set[int]:
    """Find the tracks that hold more than one picture, as the beginning of the file says."""
    counts = dict.fromkeys(indices, 0)
    for packet in itertools.islice(container.demux([container.streams[index] for index in indices]), PROBED_PACKETS):
        counts[packet.stream.index] += packet.size > 0
        if min(counts.values()) > 1:
            break
    return {index for index, count in counts.items() if count > 1}


def _frame_rate(stream: "av.video.stream.VideoStream") -> float:
    return float(stream.average_rate or stream.guessed_rate or FPS)


def _shown_size(height: int, width: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Size with square pixels; the side that is too short grows, so that no detail is lost."""
    if pixel_aspect > 1:
        return height, round(width * pixel_aspect)
    return round(height / pixel_aspect), width


def _check_video_size(height: int, width: int, name: str) -> None:
    if height * width > MOST_FRAME_PIXELS or FRAME_BYTES_PER_PX * height * width > free_bytes():
        raise ValueError(
            f"`{name}` shows pictures of {width}x{height} px, must be of {MOST_FRAME_PIXELS / 1e6:.0f} megapixels at"
            " most, and fit in memory"
        )


def _warn_of_changes(frame: "av.VideoFrame", name: str) -> None:
    if has_high_dynamic_range(frame):
        warnings.warn(f"`{name}` has a high dynamic range; it is converted to standard range", stacklevel=3)
    a, b, c, d = _display_matrix(frame)
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if min(max(abs(a), abs(d)), max(abs(b), abs(c))) > SLANT_SHARE * max(straight, crossed):
        warnings.warn(
            f"`{name}` is rotated by an angle that is not a multiple of 90 degrees; the nearest multiple is used",
            stacklevel=3,
        )


def _display_matrix(frame: "av.VideoFrame") -> tuple[int, int, int, int]:
    """How the picture is turned and mirrored: (a, b, c, d) of x' = a x + c y, y' = b x + d y."""
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    return a, b, c, d


def _as_shown(shot: _Shot) -> np.ndarray:
    """The picture with its colours, square pixels, turned and mirrored as the file says."""
    frame = shot.frame
    picture = to_srgb(frame, *_shown_size(frame.height, frame.width, shot.pixel_aspect))
    a, b, c, d = _display_matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _num_frames_until(last_s: float, native_fps: float, fps: float) -> int:
    """Frames until the end of the last picture, which is shown for an average time; those before it all count."""
    return max(round((last_s + 1 / native_fps) * fps), math.ceil((last_s - 1e-6) * fps), 1)
