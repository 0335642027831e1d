"""Turn portraits upright that lie on their side or upside down, as phones and scanners save them without saying so."""

import warnings
from collections.abc import Callable

import numpy as np

from ..records import FaceState

# MediaPipe's two detectors give upright faces 0.83 to 0.95 on average, those on their head 0.35 to 0.74
UPRIGHT_SCORE, LEAST_GAIN = 0.8, 0.1
LYING_ROLL_DEG, UPRIGHT_ROLL_DEG = 60, 40


def find_faces(picture: np.ndarray, detect_faces: Callable[[np.ndarray], list[FaceState]]) -> list[FaceState]:
    """Ask a detector, which may be anybody's, for the faces of a picture.

    Args:
        picture: uint8 array (H, W, 3).
        detect_faces: The detector.

    Returns:
        What it found.

    Raises:
        ValueError: It gives something else than a list of faces.
    """
    faces = detect_faces(picture)
    if not isinstance(faces, list | tuple) or not all(isinstance(face, FaceState) for face in faces):
        raise ValueError(f"the face detector returned {faces!r}, must return a list of `FaceState`")
    return faces


def find_upright(
    picture: np.ndarray, detect_faces: Callable[[np.ndarray], list[FaceState]]
) -> tuple[int, list[FaceState]]:
    """Find the faces of a picture, which is turned first where the largest lies on its side or stands on its head.

    Args:
        picture: uint8 array (H, W, 3).
        detect_faces: Finds the faces of a picture, the largest first.

    Returns:
        Quarter turns, counter-clockwise, that make it upright, and the faces of the turned picture. None where that
        is not sure; a head that seems to lie is warned about then.
    """
    faces = find_faces(picture, detect_faces)
    lying = bool(faces) and abs(faces[0].pose[2]) > LYING_ROLL_DEG
    if not faces:
        candidates = (1, 3, 2)
    elif lying:
        candidates = (-round(faces[0].pose[2] / 90) % 4,)
    else:
        # a face on its head is found, and taken for an upright one, but with less certainty
        candidates = (2,) if faces[0].score is not None and faces[0].score < UPRIGHT_SCORE else ()
    for quarter_turns in candidates:
        turned = find_faces(np.ascontiguousarray(np.rot90(picture, quarter_turns)), detect_faces)
        if turned and _is_surely_upright(turned[0], faces):
            warnings.warn(
                f"`image` was turned by {90 * quarter_turns} degrees counter-clockwise, so that the head is upright",
                stacklevel=4,
            )
            return quarter_turns, turned
    if lying:
        warnings.warn(
            f"`image` shows a head with a roll of {faces[0].pose[2]:.0f} degrees: turn it upright for a good video",
            stacklevel=4,
        )
    return 0, faces


def _is_surely_upright(face: FaceState, before: list[FaceState]) -> bool:
    if abs(face.pose[2]) > UPRIGHT_ROLL_DEG or face.score is None:
        return False
    least = 0.0 if not before else (before[0].score or 0.0) + LEAST_GAIN
    return face.score >= max(UPRIGHT_SCORE, least)
