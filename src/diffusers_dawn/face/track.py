"""Pose and blink along a driving video."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ..records import FaceState
from .crop import check_image
from .detector import FaceDetector
from .pose import box_area, pose_in_crop_of, shared_area
from .upright import find_faces

MAX_GAP_FRAMES = 5
# intersection over union with the last box: a head that moves by half its width reaches a third, another person less
MIN_OVERLAP = 0.3


@dataclass(frozen=True)
class FaceTrack:
    """Pose and blink of one face along a video.

    Attributes:
        pose: Float32 array (F, 6), as `records.POSE_NAMES`; scale, x and y of every frame in the crop of the first.
        blink: Float32 array (F, 2): openness of the left and right eye, as in `FaceState`.
        missing: Indices of the frames that do not show the face, whose values are interpolated.
    """

    pose: np.ndarray
    blink: np.ndarray
    missing: tuple[int, ...] = ()


def track_face(
    frames: Iterable[np.ndarray], detector: FaceDetector, max_missing: float = 0.1, name: str = "video"
) -> FaceTrack:
    """Measure pose and blink of one face along a video (paper section 3.1).

    Of several faces the largest of the first frame that shows one counts, then whichever overlaps most with the box
    that it had last. Where it is missing, its values are interpolated linearly between the neighbours; before the
    first and after the last frame that shows it they stay as they are there. Values are not smoothed.

    Args:
        frames: uint8 frames (H, W, 3), RGB, all of one size, at 25 fps (see `videos.read_video`); an array
            (F, H, W, 3), or an iterable, of which one frame at a time is held.
        detector: Finds the faces of a frame.
        max_missing: Largest share of frames without the face, in [0, 1).
        name: Argument name for error messages.

    Returns:
        The track, one entry per frame.

    Raises:
        ValueError: There is no frame, a frame is no picture or of another size than the first, the face is missing
            in too many frames or in more than 5 in a row, or `max_missing` is out of range.
    """
    faces = follow_face(frames, detector, name)
    missing = find_missing_frames(faces, max_missing, name)
    most_faces = max(face.num_faces for face in faces if face is not None)
    if most_faces > 1:
        warnings.warn(
            f"`{name}` shows up to {most_faces} faces; the one that is largest at first is followed", stacklevel=2
        )
    first = next(face for face in faces if face is not None)
    states = interpolate_missing(faces, lambda face: np.array([*pose_in_crop_of(face, first), *face.blink]))
    return FaceTrack(pose=states[:, :6], blink=states[:, 6:], missing=missing)


def follow_face(frames: Iterable[np.ndarray], detector: FaceDetector, name: str = "video") -> list[FaceState | None]:
    """Find one face in every frame of a video.

    Of several faces the largest of the first frame that shows one counts, then whichever overlaps most with the box
    that it had last.

    Args:
        frames: uint8 frames (H, W, 3), RGB, all of one size; one at a time is held.
        detector: Finds the faces of a frame.
        name: Argument name for error messages.

    Returns:
        State of the face per frame; None where it is not found.

    Raises:
        ValueError: A frame is no picture or of another size than the first.
    """
    faces: list[FaceState | None] = []
    size, last = None, None
    for index, frame in enumerate(frames):
        check_image(frame, f"{name}[{index}]")
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise ValueError(f"`{name}[{index}]` is {frame.shape[:2]}, must be {size} as the first frame")
        faces.append(_find_again(last, find_faces(frame, detector)))
        last = faces[-1] or last
    return faces


def find_missing_frames(
    faces: Sequence[FaceState | None], max_missing: float = 0.1, name: str = "video"
) -> tuple[int, ...]:
    """Find the frames that do not show the followed face, and refuse a video with too many of them.

    Args:
        faces: State per frame, None where the face is missing.
        max_missing: Largest share of frames without the face, in [0, 1).
        name: Argument name for error messages.

    Returns:
        Indices of the frames that do not show the face.

    Raises:
        ValueError: There is no frame, the face is missing in too many frames or in more than 5 in a row, or
            `max_missing` is out of range.
    """
    if not 0 <= max_missing < 1:
        raise ValueError(f"`max_missing` is {max_missing}, must be in [0, 1)")
    missing = tuple(index for index, face in enumerate(faces) if face is None)
    if not faces:
        raise ValueError(f"`{name}` holds no frames")
    if len(missing) == len(faces):
        raise ValueError(f"`{name}` shows no face in any of its {len(faces)} frames")
    gaps = [len(list(run)) for is_gap, run in groupby(faces, key=lambda face: face is None) if is_gap]
    if len(missing) > max_missing * len(faces) or max(gaps, default=0) > MAX_GAP_FRAMES:
        raise ValueError(
            f"`{name}` does not show the face in {len(missing)} of {len(faces)} frames, up to {max(gaps)} in a row; "
            f"it may be missing in at most {max_missing:.0%} of the frames and {MAX_GAP_FRAMES} in a row"
        )
    return missing


def interpolate_missing(faces: Sequence[FaceState | None], measure: Callable[[FaceState], np.ndarray]) -> np.ndarray:
    """Measure a face along a video, also where it is missing.

    Between frames that show it values go linearly; before the first and after the last of them they stay.

    Args:
        faces: State per frame, None where the face is missing; not all of them.
        measure: What to take from a state: an array of any shape.

    Returns:
        Float32 array (F, ...).
    """
    found = [index for index, face in enumerate(faces) if face is not None]
    values = np.stack([measure(faces[index]) for index in found])
    times = np.arange(len(faces))
    columns = [np.interp(times, found, column) for column in values.reshape(len(found), -1).T]
    return np.stack(columns, axis=1).astype(np.float32).reshape(len(faces), *values.shape[1:])


def _find_again(last: FaceState | None, faces: list[FaceState]) -> FaceState | None:
    if last is None:
        return faces[0] if faces else None
    best = max(faces, key=lambda face: _shared_share(face, last), default=None)
    return best if best is not None and _shared_share(best, last) >= MIN_OVERLAP else None


def _shared_share(first: FaceState, second: FaceState) -> float:
    """Intersection over union of two faces' boxes."""
    shared = shared_area(first.box_px, second.box_px)
    return shared / max(box_area(first.box_px) + box_area(second.box_px) - shared, 1e-6)
