"""From any picture to the square around a face that DAWN animates."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..media.pictures import read_image
from ..records import FaceState, Portrait
from .crop import check_face, choose_face, crop_face_state, crop_square, is_framed, portrait_crop


def prepare_portrait(
    image: Any,
    face: FaceState | dict | None,
    face_index: int | None,
    crop: bool | None,
    detect_faces: Callable[[np.ndarray], list[FaceState]],
) -> Portrait:
    """Find the face of a picture and cut the square that DAWN expects around it; see `DAWNPipeline.prepare_portrait`.

    Args:
        image: Picture of any kind that `pictures.read_image` reads, or a finished `Portrait`.
        face: State of the face in this picture, when it is known; also as a dict of its fields.
        face_index: Which face, counted from the largest, 0; None: the largest.
        crop: Whether to crop; None: when the picture needs it.
        detect_faces: Finds the faces of a picture (H, W, 3), the largest first; asked only when `face` is None.

    Returns:
        The portrait.

    Raises:
        ValueError: The picture cannot be read, shows no face, or is not square where it must be.
    """
    if isinstance(image, Portrait):
        if (face, face_index, crop) != (None, None, None):
            raise ValueError("`face`, `face_index` and `crop` cannot be given with a `Portrait`: it has its own")
        return image
    picture = read_image(image)
    height, width = picture.shape[:2]
    if face is not None and face_index is not None:
        raise ValueError("give only one of `face` and `face_index`")
    face = _face_state(face) if isinstance(face, dict) else face
    needs_crop = crop is True
    if face is None:
        face = choose_face(detect_faces(picture), face_index)
        needs_crop = crop or (crop is None and not is_framed(face))
    check_face(face, (height, width))
    if needs_crop:
        square = portrait_crop(face)
        return Portrait(crop_square(picture, square), crop_face_state(face, square), square)
    if height != width:
        raise ValueError(
            f"`image` is {width}x{height}, must be square unless it is cropped; `crop=True` crops around the face"
        )
    return Portrait(picture, face)


def _face_state(fields: dict[str, Any]) -> FaceState:
    try:
        return FaceState(**fields)
    except TypeError as error:
        raise ValueError(f"`face` has {sorted(fields)}, must have the fields of a `FaceState`: {error}") from error
