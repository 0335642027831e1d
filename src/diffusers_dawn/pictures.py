"""Read pictures from the forms users have them in, through Pillow."""

import io
import os
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from .media_sources import as_array, describe_source, existing_file

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor"


def read_image(source: ImageSource, name: str = "image") -> np.ndarray:
    """Read a picture.

    The content decides about the format, not the file's suffix. EXIF orientation is applied, transparency is laid
    over white, of an animation the first picture counts.

    Args:
        source: File, its bytes, a binary stream, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or
            a torch tensor (H, W) or (C, H, W) with C one of 1, 3, 4. Arrays and tensors: uint8 or floats in [0, 1].
        name: Argument name for error messages.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` is not a picture, or an array of another shape, type or range.
        TypeError: If `source` is of another kind.
    """
    if isinstance(source, Image.Image):
        return _rgb_from_pil(source, name)
    if isinstance(source, (str, os.PathLike, bytes, io.IOBase)):
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        opened = opened if isinstance(opened, io.IOBase) else existing_file(opened, name)
        try:
            with Image.open(opened) as picture:
                if picture.format == "EPS":  # a program, which Pillow would hand to Ghostscript
                    raise ValueError(f"`{name}` is an EPS file, which is not read; convert it to PNG")
                return _rgb_from_pil(picture, name)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"`{name}` cannot be read as a picture ({describe_source(source)}): {error}") from error
    array = as_array(source, name)
    if not isinstance(source, np.ndarray) and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _rgb_from_pil(Image.fromarray(_uint8_from_array(array, name)), name)


def _rgb_from_pil(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode == "F":
        raise ValueError(f"`{name}` has floating-point pixels without a known range; convert it to RGB first")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey to 255 instead of scaling it
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def _uint8_from_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in {3, 4})):
        raise ValueError(
            f"`{name}` has shape {array.shape} (channels last); allowed are (H, W) and (H, W, C) with 1, 3 or 4 "
            "channels for arrays, (H, W) and (C, H, W) for tensors"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"`{name}` holds {array.dtype} values; allowed are uint8 and floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(f"`{name}` holds floats from {low:g} to {high:g}; allowed are floats in [0, 1]")
    return np.round(array * 255).astype(np.uint8)
