"""Show which face of a picture is animated, and the square around it."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ..cli.animate import describe_square
from ..face.crop import choose_face
from ..media.pictures import read_image
from ..records import Portrait, SquareCrop
from .settings import Settings

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

SHOWN_PX = 768
SQUARE_COLOUR, FACE_COLOUR = (255, 140, 0), (90, 160, 255)


class FoundFace(NamedTuple):
    """What was found in a picture.

    Attributes:
        picture: The picture, upright and at most 768 px wide and high; the square that is animated and all faces with
            their numbers are drawn over it.
        text: The same in words.
        num_faces: How many faces there are.
    """

    picture: Image.Image
    text: str
    num_faces: int


def chosen_portrait(
    picture: np.ndarray, pipe: "DAWNPipeline", settings: Settings
) -> tuple[Portrait, SquareCrop | None]:
    """Cut out the square that is animated: the found one, or that with what is set.

    Args:
        picture: uint8 array (H, W, 3).
        pipe: The pipeline.
        settings: What is set.

    Returns:
        The portrait, and the square that is set; None: the found one counts.

    Raises:
        ValueError: The picture shows no such face, or the square does not hold it.
    """
    portrait = pipe.prepare_portrait(picture, face_index=settings.face_index)
    square = settings.moved(portrait.crop or SquareCrop(0, 0, len(portrait.image)))
    if square is not None:
        portrait = pipe.prepare_portrait(picture, face_index=settings.face_index, crop=square)
    return portrait, square


def show_face(image: str, pipe: "DAWNPipeline", settings: Settings) -> FoundFace:
    """Find the face that a pipeline would animate.

    Args:
        image: File of the picture.
        pipe: The pipeline.
        settings: What is set.

    Returns:
        What was found.

    Raises:
        ValueError: The picture cannot be read, or shows no such face, or the square does not hold it.
    """
    picture = read_image(image)
    portrait, _ = chosen_portrait(picture, pipe, settings)
    upright = np.ascontiguousarray(np.rot90(picture, portrait.quarter_turns))
    faces = pipe.detect_faces(upright)
    height, width = upright.shape[:2]
    zoom = min(1.0, SHOWN_PX / max(height, width))
    shown = Image.fromarray(upright)
    shown.thumbnail((SHOWN_PX, SHOWN_PX))
    drawing, line_px = ImageDraw.Draw(shown), max(2, max(shown.size) // 200)
    for number in range(len(faces)):
        x_min, x_max, y_min, y_max = choose_face(faces, number).box_px
        corners_px = _inside((x_min, y_min, x_max, y_max), zoom, shown.size)
        drawing.rectangle(corners_px, outline=FACE_COLOUR, width=max(1, line_px // 2))
        if len(faces) > 1:
            corner_px = (corners_px[0] + line_px, corners_px[1] + line_px)
            edge = {"stroke_width": line_px, "stroke_fill": "white"}  # read on any picture
            drawing.text(corner_px, str(number), fill=FACE_COLOUR, font_size=10 * line_px, **edge)
    square = portrait.crop
    left, top, side = (0, 0, width) if square is None else (square.left, square.top, square.side)
    corners_px = _inside((left, top, left + side, top + side), zoom, shown.size)
    drawing.rectangle(corners_px, outline=SQUARE_COLOUR, width=line_px)
    return FoundFace(shown, _described(len(faces), settings.face_index or 0, square), len(faces))


def _described(num_faces: int, number: int, square: SquareCrop | None) -> str:
    count = "1 face found" if num_faces == 1 else f"{num_faces} faces found, number {number} is chosen"
    return f"{count}; {describe_square(square)} is animated"


def _inside(corners: tuple[float, ...], zoom: float, size: tuple[int, int]) -> tuple[float, ...]:
    """Scale a box to the picture that is shown, and cut it to that, so that every side is seen."""
    width, height = size
    limits = (width - 1, height - 1, width - 1, height - 1)
    return tuple(min(max(value * zoom, 0), limit) for value, limit in zip(corners, limits, strict=True))
