"""Turn portraits upright that lie on their side or upside down, as phones and scanners save them without saying so."""

import warnings
from collections.abc import Callable

import numpy as np

from ..records import FaceState

# MediaPipe's two detectors give upright faces 0.82 to 0.95, those on their head 0.28 to 0.85, lying ones 0.33 to 0.80
UPRIGHT_SCORE, LEAST_GAIN = 0.8, 0.1
# above it, no face on its head was found
SURE_SCORE = 0.9
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
        Quarter turns, counter-clockwise, that make it upright, and the faces of the turned picture. No turns where
        that is not sure; of a head that seems to lie, or to stand on its crown, a warning says so then.

    Raises:
        ValueError: As for `find_faces`.
    """
    faces = find_faces(picture, detect_faces)
    score = faces[0].score if faces else 0.0
    lying = bool(faces) and abs(faces[0].pose[2]) > LYING_ROLL_DEG
    if lying or (score is not None and score < UPRIGHT_SCORE):
        candidates = (1, 3, 2)  # which way is up is not sure of a face that is hardly one
    else:
        candidates = (2,) if score is not None and score < SURE_SCORE else ()
    turned = {turns: find_faces(np.ascontiguousarray(np.rot90(picture, turns)), detect_faces) for turns in candidates}
    turned = {turns: found for turns, found in turned.items() if found and _is_upright(found[0])}
    best = max(turned, key=lambda turns: turned[turns][0].score, default=None)
    # a face that lies is no other one, and needs no higher score when it is turned
    gain = -1.0 if best is None else turned[best][0].score - (score or 0.0)
    if gain >= (0.0 if lying else LEAST_GAIN) and (lying or score < UPRIGHT_SCORE):
        warnings.warn(
            f"`image` was turned by {90 * best} degrees counter-clockwise, so that the head is upright", stacklevel=4
        )
        return best, turned[best]
    if lying:
        warnings.warn(
            f"`image` shows a head with a roll of {faces[0].pose[2]:.0f} degrees: turn it upright for a good video",
            stacklevel=4,
        )
    elif faces and gain > 0:
        warnings.warn(
            f"`image` may not be upright: turned by {90 * best} degrees, a face is found with more certainty"
            f" ({turned[best][0].score:.2f} instead of {score:.2f})",
            stacklevel=4,
        )
    return 0, faces


def _is_upright(face: FaceState) -> bool:
    return abs(face.pose[2]) <= UPRIGHT_ROLL_DEG and face.score is not None and face.score >= UPRIGHT_SCORE
