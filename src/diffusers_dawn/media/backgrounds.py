"""What shows through frames where they are transparent."""

import os
from typing import TypeVar

import numpy as np
from PIL import Image, ImageColor, ImageOps

from ..ranges import check_class, check_counts
from .pictures import ImageSource, read_image

Numbers = TypeVar("Numbers")  # arrays of numpy or tensors of torch


def read_background(given: ImageSource, height: int, width: int, name: str = "background") -> np.ndarray:
    """Make a background of a picture or a colour.

    Args:
        given: Any picture that `read_image` reads, which is scaled until it covers the frames and cut at its sides; or
            a colour such as "white", "#00ff00" or "rgb(0, 255, 0)".
        height: Height of the frames [px].
        width: Their width [px].
        name: Argument name for error messages.

    Returns:
        uint8 array (height, width, 3).

    Raises:
        ValueError: It is neither a picture nor an opaque colour, or a size is no whole number from 1.
    """
    check_counts(height=height, width=width)
    colour = colour_of(given, name)
    if colour is not None:
        return np.full((height, width, 3), colour, np.uint8)
    picture = Image.fromarray(read_image(given, name))
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC))


def colour_of(given: object, name: str = "background") -> tuple[int, int, int] | None:
    """Read a colour.

    Args:
        given: A colour's name or numbers, or anything else.
        name: Argument name for error messages.

    Returns:
        Red, green and blue in [0, 255]; None: it is a picture.

    Raises:
        ValueError: It is neither the name of a file nor an opaque colour.
    """
    if not isinstance(given, str) or os.path.exists(given):
        return None
    try:
        colour = ImageColor.getrgb(given)
    except ValueError:
        colour = ()
    if len(colour) != 3:
        raise ValueError(
            f"`{name}` is {given!r}, must be a picture's file, or an opaque colour such as white, #00ff00 or"
            " 'rgb(0, 255, 0)'"
        )
    return colour


def lay_over(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Lay frames over a background.

    Args:
        frames: uint8 array (N, H, W, 4): colours and opacity.
        background: uint8 array (H, W, 3).

    Returns:
        uint8 array (N, H, W, 3).

    Raises:
        ValueError: Shapes or types are others.
    """
    check_class("frames", frames, np.ndarray)
    check_class("background", background, np.ndarray)
    if frames.ndim != 4 or frames.shape[-1] != 4 or frames.dtype != np.uint8:
        raise ValueError(f"`frames` is {frames.dtype} {frames.shape}, must be uint8 (N, H, W, 4)")
    wanted = (*frames.shape[1:3], 3)
    if background.shape != wanted or background.dtype != np.uint8:
        raise ValueError(f"`background` is {background.dtype} {background.shape}, must be uint8 {wanted}")
    opacity = frames[..., 3:].astype(np.float32) / 255
    return np.rint(frames[..., :3] * opacity + background * (1 - opacity)).astype(np.uint8)


def colours_without_white(colours: Numbers, opacity: Numbers) -> Numbers:
    """Take out the white that shows through.

    Args:
        colours: Colours in [0, 1] as they look over white.
        opacity: Opacity in [0, 1] of the same shape, or one that is broadcast.

    Returns:
        The colours themselves; what is fully transparent has none, and is black.
    """
    return ((colours - 1 + opacity) / (opacity + (opacity == 0))).clip(0, 1)
