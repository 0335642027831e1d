"""Crop any picture to the square around the face that DAWN animates, and paste the animation back."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..media.pictures import read_image
from ..ranges import check_class, is_between, is_whole_number
from ..records import FaceState, Portrait, SquareCrop
from .upright import find_upright

# Share of the square that the landmark box (chin to upper forehead) takes in DAWN's training clips, and where its
# centre lies; tuned by eye on portraits: all hair above, the neck and the beginning of the shoulders below
FACE_TO_SIDE = 0.55
FACE_CENTRE_HEIGHT = 0.57
# a square that does not fit may shrink to this share of its side; the face's box then takes 0.79 of it
MIN_SIDE_SHARE = 0.7
# a square that somebody chose may have this many times the picture's longer side
MOST_SIDE_SHARE = 2
FRAMED_HEIGHTS = (0.35, 0.8)
FRAMED_OFFSET = 0.15
PASTED_ROWS = 256
LARGEST_STATE = 1e6
# memory of `paste_each` for every pixel of the image, which is among it: copies, and the square at four bytes each
PASTE_BYTES_PER_PX = 18


def check_image(image: np.ndarray, name: str = "image", num_channels: int = 3) -> None:
    """Refuse what is no picture.

    Args:
        image: The array to check.
        name: Argument name for error messages.
        num_channels: 3, or 4 with opacity.

    Raises:
        ValueError: It is not uint8 (H, W, 3), or (H, W, 4), or empty.
    """
    check_class(name, image, np.ndarray)
    if image.ndim != 3 or image.shape[-1] != num_channels or image.size == 0 or image.dtype != np.uint8:
        raise ValueError(f"`{name}` is {image.dtype} {image.shape}, must be uint8 (H, W, {num_channels})")


def prepare_portrait(
    image: Any,
    face: FaceState | dict | None,
    face_index: int | None,
    crop: bool | SquareCrop | None,
    detect_faces: Callable[[np.ndarray], list[FaceState]],
) -> Portrait:
    """Find the face of a picture and cut out the square that DAWN expects; see `DAWNPipeline.prepare_portrait`.

    Args:
        image: Picture of any kind that `pictures.read_image` reads, or a finished `Portrait`.
        face: State of the face in this picture, when it is known; also as a dict of its fields.
        face_index: Which face, counted from the largest, 0; None: the largest.
        crop: Whether to crop; None: when the picture needs it. Or the square, in the upright picture.
        detect_faces: Finds the faces of a picture (H, W, 3), the largest first; asked only when `face` is None.

    Returns:
        The portrait.

    Raises:
        ValueError: The picture cannot be read, shows no face, or is not square where it must be; or the given
            square is refused by `check_square`.
    """
    if isinstance(image, Portrait):
        if (face, face_index, crop) != (None, None, None):
            raise ValueError("`face`, `face_index` and `crop` cannot be given with a `Portrait`, which has its own")
        check_portrait(image)
        return image
    _check_choices(face, face_index, crop)
    picture, quarter_turns = read_image(image), 0
    if face is not None and face_index is not None:
        raise ValueError("give only one of `face` and `face_index`")
    face = _face_state(face) if isinstance(face, dict) else face
    needs_crop = bool(crop)  # True of a square, too, and numpy's own
    if face is None:
        quarter_turns, faces = find_upright(picture, detect_faces)
        picture = np.ascontiguousarray(np.rot90(picture, quarter_turns))
        face = choose_face(faces, face_index)
        needs_crop = crop or (crop is None and not is_framed(face))
    height, width = picture.shape[:2]
    check_face(face, (height, width))
    if needs_crop:
        square = crop if isinstance(crop, SquareCrop) else portrait_crop(face)
        check_square(square, face)
        return Portrait(crop_square(picture, square), crop_face_state(face, square), square, quarter_turns)
    if height != width:
        raise ValueError(f"`image` is {width}x{height}, must be square; `crop=True` crops around the face")
    return Portrait(picture, face, quarter_turns=quarter_turns)


def check_portrait(portrait: Portrait, name: str = "image") -> None:
    """Refuse a portrait that was put together wrongly.

    Args:
        portrait: The portrait.
        name: Argument name for error messages.

    Raises:
        ValueError: Its picture is not square, its face does not belong to it, or its opacity or person is no plane.
    """
    check_class(f"{name}.image", portrait.image, np.ndarray)
    check_image(portrait.image, f"{name}.image")
    height, width = portrait.image.shape[:2]
    if height != width:
        raise ValueError(f"`{name}.image` is {width}x{height}, must be square")
    for field, shape in (("opacity", (height, width)), ("person", None)):
        plane = getattr(portrait, field)
        if plane is None:
            continue
        check_class(f"{name}.{field}", plane, np.ndarray)
        if plane.dtype != np.uint8 or plane.ndim != 2 or plane.shape != (shape or plane.shape[:1] * 2):
            raise ValueError(f"`{name}.{field}` is {plane.dtype} {plane.shape}, must be uint8 {shape or '(N, N)'}")
    check_class(f"{name}.face", portrait.face, FaceState)
    check_face(portrait.face, portrait.image.shape[:2])


def _check_choices(face: Any, face_index: Any, crop: Any) -> None:
    if not (face is None or isinstance(face, FaceState | dict)):
        raise ValueError(f"`face` is {face!r}, must be a `FaceState`, or a dict of its fields")
    if face_index is not None and not is_whole_number(face_index):
        raise ValueError(f"`face_index` is {face_index!r}, must be a whole number from 0 (the largest face)")
    if not (crop is None or isinstance(crop, bool | np.bool_ | SquareCrop)):
        raise ValueError(f"`crop` is {crop!r}, must be True, False, None or a SquareCrop")
    if isinstance(crop, SquareCrop) and not all(map(is_whole_number, (crop.left, crop.top, crop.side))):
        raise ValueError(f"`crop` is {crop}, must hold whole numbers [px]")


def _face_state(fields: dict[str, Any]) -> FaceState:
    try:
        return FaceState(**fields)
    except TypeError as error:
        raise ValueError(f"`face` has {sorted(fields)}, must have the fields of a `FaceState`: {error}") from error


def choose_face(faces: list[FaceState], face_index: int | None = None) -> FaceState:
    """Choose the face to animate.

    Args:
        faces: What a detector found.
        face_index: Position from 0, counted from the largest; None takes that.

    Returns:
        The chosen face.

    Raises:
        ValueError: There is no face, or none at that position.
    """
    if not faces:
        raise ValueError("no face found in `image`: it must show a face from the front or half from the side")
    if face_index is not None and not 0 <= face_index < len(faces):
        raise ValueError(
            f"`face_index` is {face_index}, must be from 0 (the largest) to {len(faces) - 1}: "
            f"`image` shows {len(faces)} face(s)"
        )
    by_area = sorted(faces, key=lambda face: -_box_area(face))
    return replace(by_area[face_index or 0], num_faces=len(faces))


def check_face(face: FaceState, image_size: tuple[int, int]) -> None:
    """Refuse a face state that is malformed or belongs to another picture.

    Args:
        face: The state.
        image_size: Height and width of the picture [px].

    Raises:
        ValueError: A length is wrong, a number is not finite, the box is empty or outside, or the sizes differ.
    """
    shapes = {"pose": (6,), "blink": (2,), "box_px": (4,)} | ({} if face.mouth_px is None else {"mouth_px": (20, 2)})
    for name, shape in shapes.items():
        try:
            values = np.asarray(getattr(face, name), dtype=float)
        except (TypeError, ValueError):  # text, or rows of several lengths
            values = np.full(shape, np.nan)
        if values.shape != shape or not (np.abs(values) <= LARGEST_STATE).all():  # also false for NaN
            wanted = " times ".join(map(str, shape))
            raise ValueError(
                f"`face.{name}` is {getattr(face, name)}, must be {wanted} finite numbers up to {LARGEST_STATE:g}"
            )
    given = face.image_size
    if not isinstance(given, tuple | list | np.ndarray) or tuple(given) != tuple(image_size):
        raise ValueError(f"`face.image_size` is {face.image_size}, but `image` is {tuple(image_size)} (height, width)")
    (x_min, x_max, y_min, y_max), (height, width) = face.box_px, image_size
    if not (x_min < x_max and y_min < y_max and x_min < width and y_min < height and x_max > 0 and y_max > 0):
        raise ValueError(
            f"`face.box_px` is {tuple(face.box_px)}, must be (x_min, x_max, y_min, y_max) [px] of a box in `image`,"
            f" which is {height} high and {width} wide"
        )


def _box_area(face: FaceState) -> float:
    x_min, x_max, y_min, y_max = face.box_px
    return (x_max - x_min) * (y_max - y_min)


def portrait_crop(face: FaceState) -> SquareCrop:
    """Choose the square that frames a face as in DAWN's training clips.

    The longer side of the face's box takes 0.55 of the square, its centre lies in the middle across and at 0.57 of
    the height. A square larger than the image's shorter side shrinks towards that, but to no less than 0.7 of its
    own side. It is then shifted into the image along each axis where it fits, and sticks out where it does not.

    Args:
        face: The face.

    Returns:
        The square; parts outside the image are to be filled from its edge.
    """
    height, width = face.image_size
    x_min, x_max, y_min, y_max = face.box_px
    side = round(max(x_max - x_min, y_max - y_min) / FACE_TO_SIDE)
    side = max(min(side, height, width), math.ceil(MIN_SIDE_SHARE * side))
    left = round((x_min + x_max) / 2 - side / 2)
    top = round((y_min + y_max) / 2 - FACE_CENTRE_HEIGHT * side)
    if side <= width:
        left = min(max(left, 0), width - side)
    if side <= height:
        top = min(max(top, 0), height - side)
    return SquareCrop(left, top, side)


def check_square(square: SquareCrop, face: FaceState) -> None:
    """Refuse a square that does not show the face, or that would be mostly filled from the picture's edge.

    Args:
        square: The square.
        face: The face in the whole image.

    Raises:
        ValueError: The middle of the face's box lies outside, or its side is more than twice the image's longer.
    """
    (x_min, x_max, y_min, y_max), longer_side = face.box_px, max(face.image_size)
    x, y = (x_min + x_max) / 2 - square.left, (y_min + y_max) / 2 - square.top
    if not (0 < square.side <= MOST_SIDE_SHARE * longer_side and 0 <= x < square.side and 0 <= y < square.side):
        raise ValueError(
            f"`crop` is {square.left},{square.top},{square.side} (left, top, side), must be a square of at most"
            f" {MOST_SIDE_SHARE * longer_side} px that holds the middle of the face, at"
            f" {x + square.left:.0f}, {y + square.top:.0f}"
        )


def is_framed(face: FaceState) -> bool:
    """Tell whether an image shows its face as DAWN's training clips do, so that no crop is needed.

    Args:
        face: The face.

    Returns:
        True if the image is square, the face's box takes 0.35 to 0.8 of its height, and the box's centre is at most
        0.15 of the side away from the image's centre, down and across.
    """
    height, width = face.image_size
    x_min, x_max, y_min, y_max = face.box_px
    offsets = abs((x_min + x_max) / 2 - width / 2), abs((y_min + y_max) / 2 - height / 2)
    low, high = FRAMED_HEIGHTS
    return height == width and low * height <= y_max - y_min <= high * height and max(offsets) <= FRAMED_OFFSET * width


def crop_square(image: np.ndarray, crop: SquareCrop, size: int | None = None) -> np.ndarray:
    """Cut a square out of an image, repeating its edge where the square sticks out.

    Args:
        image: uint8 array (H, W, 3).
        crop: The square.
        size: Side [px] to which the square is resized (bicubic); None leaves it as it is.

    Returns:
        uint8 array (size, size, 3).

    Raises:
        ValueError: `size` is not positive, or the square has no side or does not touch the image.
    """
    _check_crop(crop, image.shape[:2], size)
    rows = np.arange(crop.top, crop.top + crop.side).clip(0, image.shape[0] - 1)
    columns = np.arange(crop.left, crop.left + crop.side).clip(0, image.shape[1] - 1)
    return _resize(image[rows[:, None], columns], crop.side if size is None else size)


def crop_face_state(face: FaceState, crop: SquareCrop, size: int | None = None) -> FaceState:
    """Describe the same face in the coordinates of a square of its image.

    Args:
        face: The face in the whole image.
        crop: The square.
        size: Side [px] to which the square is resized; None leaves it as it is.

    Returns:
        The state with box, mouth and image size of the square; the pose is relative to the face's own crop and stays.

    Raises:
        ValueError: `size` is not positive, or the square has no side or does not touch the image.
    """
    _check_crop(crop, face.image_size, size)
    size = crop.side if size is None else size
    zoom = size / crop.side
    offsets = (crop.left, crop.left, crop.top, crop.top)
    box_px = tuple((value - offset) * zoom for value, offset in zip(face.box_px, offsets, strict=True))
    mouth_px = None if face.mouth_px is None else (np.asarray(face.mouth_px) - (crop.left, crop.top)) * zoom
    return replace(face, box_px=box_px, mouth_px=mouth_px, image_size=(size, size))


def paste_each(
    image: np.ndarray, frames: Iterable[np.ndarray], crop: SquareCrop | None, feather: float = 0.1
) -> Iterator[np.ndarray]:
    """Put animated squares back into the whole image one by one, so that only one copy of it is held.

    Each frame is resized to the square's side (bicubic) and fades in smoothly from the square's border; not along
    borders that lie on the image's edge or beyond, where there is nothing to fade into.

    Args:
        image: uint8 array (H, W, 3), or (H, W, 4) with opacity.
        frames: uint8 arrays (S, S, 3), or (S, S, 4) as `image`.
        crop: Where the frames' square lies in the image, as `Portrait.crop`; None: it is all of a square image.
        feather: Width of the fade, as a share of the square's side, in [0, 0.5].

    Yields:
        uint8 arrays as `image`, bit-identical to `image` outside of the square.

    Raises:
        ValueError: Shapes, types or `feather` are others, the square has no side or does not touch the image, or there
            is none and the image is not square.
    """
    num_channels = 4 if np.shape(image)[2:] == (4,) else 3
    check_image(image, num_channels=num_channels)
    if not is_between(feather, 0, 0.5):
        raise ValueError(f"`feather` is {feather!r}, must be in [0, 0.5]")
    height, width = image.shape[:2]
    if crop is None and height != width:
        raise ValueError(f"`crop` is None, must be a SquareCrop: `image` is {width}x{height}, not square")
    crop = crop or SquareCrop(0, 0, width)
    _check_crop(crop, (height, width))
    top, bottom = max(crop.top, 0), min(crop.top + crop.side, height)
    left, right = max(crop.left, 0), min(crop.left + crop.side, width)
    inside_rows, inside_columns = slice(top - crop.top, bottom - crop.top), slice(left - crop.left, right - crop.left)
    row_opacity = _fade(crop.side, feather, crop.top > 0, crop.top + crop.side < height)[inside_rows]
    column_opacity = _fade(crop.side, feather, crop.left > 0, crop.left + crop.side < width)[inside_columns]
    for frame in frames:
        check_image(frame, "frames", num_channels)
        if frame.shape[0] != frame.shape[1]:
            raise ValueError(f"`frames` is {frame.shape} each, must be square, (S, S, {num_channels})")
        foreground = _resize(frame, crop.side)[inside_rows, inside_columns]
        pasted = image.copy()
        square = pasted[top:bottom, left:right]
        for first in range(0, len(square), PASTED_ROWS):  # not all at once: floats take four times the memory
            rows = slice(first, first + PASTED_ROWS)
            background = square[rows].astype(np.float32)
            opacity = np.outer(row_opacity[rows], column_opacity)[..., None]
            square[rows] = np.rint(background + opacity * (foreground[rows] - background))
        yield pasted


def _fade(side: int, feather: float, at_start: bool, at_end: bool) -> np.ndarray:
    """Opacity (side,) of the pixel centres along one axis: a smoothstep over the feather at the wanted ends."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    distance = np.full(side, np.inf, np.float32)
    if at_start:
        distance = np.minimum(distance, centres)
    if at_end:
        distance = np.minimum(distance, 1 - centres)
    ramp = np.minimum(distance / max(feather, 1e-6), 1)
    return ramp**2 * (3 - 2 * ramp)


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _check_crop(crop: SquareCrop, image_size: tuple[int, int], size: int | None = None) -> None:
    if size is not None and size <= 0:
        raise ValueError(f"`size` is {size}, must be positive")
    height, width = image_size
    outside = crop.left >= width or crop.top >= height or crop.left + crop.side <= 0 or crop.top + crop.side <= 0
    if crop.side <= 0 or outside:
        raise ValueError(f"`crop` is {crop}, must overlap the {height}x{width} image")
