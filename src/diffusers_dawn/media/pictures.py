"""Read pictures from the forms users have them in, through Pillow."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..machine.free_memory import free_bytes
from .sources import as_array, describe_source, open_binary

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor"

# files whose further pictures are other moments or pages; those of others are layers, depths, previews
SEVERAL_PICTURES = {"GIF", "PNG", "WEBP", "AVIF", "TIFF"}
# files of which Pillow makes 32-bit pixels that span 16 bits
SIXTEEN_BIT_AS_I = {"PNG", "PPM"}
# more than the largest cameras take; a small file may claim any number
MOST_PIXELS = 120_000_000
# a picture with transparency and a colour profile, while it is converted
BYTES_PER_PX = 16
# Pillow's mode for the colour space that a profile is for
MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
GREY_MODES = {"1", "L"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def read_image(source: ImageSource, name: str = "image") -> np.ndarray:
    """Read a picture.

    The content decides about the format, not the file's suffix. EXIF orientation is applied, colours are converted
    from the file's profile to sRGB, transparency is laid over white, of an animation the first picture counts, with a
    warning.

    Args:
        source: File, its bytes, a binary stream (read from its start), a PIL image, an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), or a torch tensor (H, W) or (C, H, W) with C one of 1, 3, 4. Arrays and tensors:
            uint8 or floats in [0, 1].
        name: Argument name for error messages.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` is not a picture, has more than 120 megapixels or does not fit in memory, or is an
            array of another shape, type or range.
        TypeError: If `source` is of another kind.
    """
    if isinstance(source, Image.Image):
        return _rgb_from_pil(source, source, name)
    if isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        with open_binary(source, name) as file, _open_picture(file, source, name) as picture:
            return _rgb_from_pil(picture, source, name)
    array = as_array(source, name)
    if not isinstance(source, np.ndarray) and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _rgb_from_pil(Image.fromarray(_uint8_from_array(array, name)), source, name)


def _open_picture(file: BinaryIO, source: ImageSource, name: str) -> Image.Image:
    try:
        file.seek(0)
    except (AttributeError, OSError):  # it cannot go back
        file = io.BytesIO(file.read())
    with _damage_named(source, name):
        try:
            with warnings.catch_warnings():
                # what is too large is refused below, by the name of the argument
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(file)
        except UnidentifiedImageError:
            file.seek(0)
            head = file.read(12)
        except Image.DecompressionBombError as error:
            raise ValueError(f"it has more than {MOST_PIXELS / 1e6:.0f} megapixels") from error
    if head[4:8] == b"ftyp" and head[8:] in HEIC_BRANDS:
        raise ValueError(f"`{name}` is a HEIC file, which is not read; convert it to JPEG or PNG")
    raise ValueError(f"`{name}` cannot be read as a picture ({describe_source(source)}): its format is not known")


@contextmanager
def _damage_named(source: ImageSource, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what Pillow raises for a damaged file depends on the format, and is of any kind
        reason = str(error) or type(error).__name__
        raise ValueError(f"`{name}` cannot be read as a picture ({describe_source(source)}): {reason}") from error


def _rgb_from_pil(picture: Image.Image, source: ImageSource, name: str) -> np.ndarray:
    if picture.format == "EPS":  # a program, which Pillow would hand to Ghostscript
        raise ValueError(f"`{name}` is an EPS file, which is not read; convert it to PNG")
    file_format = picture.format
    _check_size(picture, name)
    with _damage_named(source, name):
        has_several = file_format in SEVERAL_PICTURES and getattr(picture, "is_animated", False) and not picture.tell()
        picture.load()
        picture = ImageOps.exif_transpose(picture)
    if has_several:
        warnings.warn(f"`{name}` holds several pictures, of which the first is taken", stacklevel=3)
    if picture.mode == "F":
        raise ValueError(f"`{name}` has floating-point pixels without a known range; convert it to RGB first")
    if picture.mode == "I" and file_format not in SIXTEEN_BIT_AS_I:
        raise ValueError(f"`{name}` has 32-bit pixels without a known range; convert it to RGB first")
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey to 255 instead of scaling it
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    profile = picture.info.get("icc_profile")
    if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
        picture = picture.convert("LA" if picture.mode in {"LA", "La"} else "RGBA")
        opacity = picture.getchannel("A")
        colours = _in_srgb(picture.convert("L" if picture.mode == "LA" else "RGB"), profile, name)
        picture = Image.new("RGB", picture.size, "white")
        picture.paste(colours, mask=opacity)
    else:
        picture = _in_srgb(picture, profile, name)
    return np.array(picture.convert("RGB"))


def _check_size(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS or BYTES_PER_PX * width * height > free_bytes():
        raise ValueError(
            f"`{name}` is {width}x{height} px, must have {MOST_PIXELS / 1e6:.0f} megapixels at most, and fit in memory"
        )


def _in_srgb(picture: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """Convert colours from a profile (ICC.1) to sRGB; pictures without one are taken to be in it."""
    if not profile:
        return picture
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODE_OF_PROFILE.get(own.profile.xcolor_space.strip())
        if mode is None or (mode == "L" and picture.mode not in GREY_MODES):
            raise ValueError(f"it is for {own.profile.xcolor_space.strip()}, the picture is {picture.mode}")
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture.convert(mode), own, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"`{name}` has a colour profile that cannot be used ({error}); its colours may be off", stacklevel=4
        )
        return picture


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
