"""Cut a person out of a picture: by the picture's own opacity, or by the person's mask."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..media.pictures import read_image_and_opacity
from ..records import Portrait
from .crop import crop_square


def made_transparent(portrait: Portrait, image: Any, segment: Callable[[np.ndarray], np.ndarray]) -> Portrait:
    """Cut the person of a portrait out.

    Args:
        portrait: The portrait.
        image: The picture that it was made from, of any kind, or the portrait itself.
        segment: Says how much of every pixel of a picture belongs to a person, see `upright_opacity`.

    Returns:
        Another portrait, with the picture's own opacity, or the mask of the person.

    Raises:
        ImportError: The person is to be found, and what `segment` needs is missing.
    """
    if isinstance(image, Portrait):
        mask = upright_opacity(portrait.image, None, 0, segment)
        return replace(cut_out(replace(portrait, crop=None), mask, is_over_white=False), crop=portrait.crop)
    picture, own = read_image_and_opacity(image)
    turns = portrait.quarter_turns
    opacity = upright_opacity(np.ascontiguousarray(np.rot90(picture, turns)), own, turns, segment)
    return cut_out(portrait, opacity, own is not None)


def upright_opacity(
    picture: np.ndarray, own: np.ndarray | None, quarter_turns: int, segment: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Find the opacity of an upright picture.

    Args:
        picture: uint8 array (H, W, 3), turned upright.
        own: uint8 array of the picture's own opacity, before it was turned; None: it has none, and the person in it is
            found.
        quarter_turns: By how many quarters it was turned, counter-clockwise.
        segment: Says how much of every pixel (H, W) of a picture belongs to a person, such as `PersonSegmenter`.

    Returns:
        uint8 array (H, W).

    Raises:
        ImportError: The person is to be found, and what `segment` needs is missing.
    """
    if own is not None:
        return np.ascontiguousarray(np.rot90(own, quarter_turns))
    return np.rint(segment(picture) * 255).astype(np.uint8)


def cut_out(portrait: Portrait, opacity: np.ndarray, is_over_white: bool) -> Portrait:
    """Give a portrait its part of a picture's opacity, which the frames then have, too.

    Args:
        portrait: The portrait.
        opacity: uint8 array (H, W) of the upright picture that it was cut from.
        is_over_white: Whether the portrait shows white where it is transparent.

    Returns:
        Another portrait.
    """
    square = opacity if portrait.crop is None else crop_square(opacity, portrait.crop)
    return replace(portrait, opacity=np.ascontiguousarray(square), is_over_white=is_over_white)
