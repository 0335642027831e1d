"""Read pictures from files, bytes, streams, arrays and tensors, through Pillow."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..machine.free_memory import free_bytes
from .picture_colours import conversion_to_srgb, read_colour_code
from .shown_colours import ROWS_AT_ONCE
from .sources import as_array, describe_source, open_binary, rewound

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor"

# files whose further pictures are other moments or pages; those of others are layers, depths, previews
SEVERAL_PICTURES = {"GIF", "PNG", "WEBP", "AVIF", "TIFF"}
# files of which Pillow makes 32-bit pixels that span 16 bits
SIXTEEN_BIT_AS_I = {"PNG", "PPM"}
# more than the largest cameras take; a small file may claim any number
MOST_PIXELS = 120_000_000
# JPEG 2000 of four channels, which takes most while it is decoded
BYTES_PER_PX = 24
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def read_image(source: ImageSource, name: str = "image") -> np.ndarray:
    """Read a picture.

    The format is found from the content, not from the file's suffix. EXIF orientation is applied, colours are
    converted to sRGB from the file's profile, or from what it has instead (cICP, gAMA and cHRM of PNG, colr of AVIF),
    and transparent pictures are laid over white. Of an animation the first picture is taken, with a warning.

    Args:
        source: File, its bytes, a binary stream (read from its start), a PIL image, an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), or a torch tensor (H, W) or (C, H, W) with C one of 1, 3, 4. Arrays and tensors:
            uint8 or floats in [0, 1].
        name: Argument name for error messages.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` is not a picture, has more than 120 megapixels or does not fit in memory, or is an
            array of another shape, type or range.
        TypeError: `source` is of another kind.
    """
    return read_image_and_opacity(source, name)[0]


def read_image_and_opacity(source: ImageSource, name: str = "image") -> tuple[np.ndarray, np.ndarray | None]:
    """Read a picture, and how opaque it is.

    Args:
        source: As for `read_image`.
        name: Argument name for error messages.

    Returns:
        uint8 array (H, W, 3), over white where it is transparent, and its opacity, uint8 (H, W), which is None if no
        pixel is transparent.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `read_image`.
        TypeError: `source` is of another kind.
    """
    if isinstance(source, Image.Image):
        return _arrays_from_pil(source, source, name)
    if isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        with open_binary(source, name) as file, _open_picture(file, source, name) as picture:
            return _arrays_from_pil(picture, source, name)
    array = as_array(source, name)
    if not isinstance(source, np.ndarray) and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _arrays_from_pil(Image.fromarray(_uint8_from_array(array, name)), source, name)


def _open_picture(file: BinaryIO, source: ImageSource, name: str) -> Image.Image:
    file = rewound(file)
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
        raise ValueError(f"`{name}` is a HEIC file, which is not supported; convert it to JPEG or PNG")
    raise ValueError(f"`{name}` cannot be read as a picture ({describe_source(source)}): unknown format")


@contextmanager
def _damage_named(source: ImageSource, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what Pillow raises for a damaged file depends on the format, and is of any kind
        reason = str(error) or type(error).__name__
        raise ValueError(f"`{name}` cannot be read as a picture ({describe_source(source)}): {reason}") from error


def _arrays_from_pil(picture: Image.Image, source: ImageSource, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    if picture.format == "EPS":  # a program, which Pillow would hand to Ghostscript
        raise ValueError(f"`{name}` is an EPS file, which is not supported; convert it to PNG")
    file_format = picture.format
    _check_size(picture, name)
    with _damage_named(source, name):
        has_several = file_format in SEVERAL_PICTURES and getattr(picture, "is_animated", False) and not picture.tell()
        code = read_colour_code(picture)
        picture.load()
        if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
    if has_several:
        warnings.warn(f"`{name}` holds several pictures; the first is used", stacklevel=3)
    if picture.mode == "F":
        raise ValueError(f"`{name}` has floating-point pixels without a known range; convert it to RGB first")
    if picture.mode == "I" and file_format not in SIXTEEN_BIT_AS_I:
        raise ValueError(f"`{name}` has 32-bit pixels without a known range; convert it to RGB first")
    to_srgb = conversion_to_srgb(_split(picture.crop((0, 0, 1, 1)))[0], {"cicp": code, **picture.info}, name)
    width, height = picture.size
    colours, opacity = np.empty((height, width, 3), np.uint8), None
    for top in range(0, height, ROWS_AT_ONCE):  # what is made on the way takes many times the memory
        rows = slice(top, min(top + ROWS_AT_ONCE, height))
        opaque, alpha = _split(picture.crop((0, rows.start, width, rows.stop)))
        shown = to_srgb(opaque).convert("RGB")
        if alpha is not None:
            opacity = np.empty((height, width), np.uint8) if opacity is None else opacity
            opacity[rows] = np.asarray(alpha)
            white = Image.new("RGB", shown.size, "white")
            white.paste(shown, mask=alpha)
            shown = white
        colours[rows] = np.asarray(shown)
    return colours, opacity if opacity is not None and opacity.min() < 255 else None


def _split(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours, with 8 bits of grey instead of 16, and opacity; None: there is none."""
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey to 255 instead of scaling it
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
        picture = picture.convert("LA" if picture.mode in {"LA", "La"} else "RGBA")
        return picture.convert("L" if picture.mode == "LA" else "RGB"), picture.getchannel("A")
    return picture, None


def _check_size(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if not (width and height):
        raise ValueError(f"`{name}` is {width}x{height} px, must have pixels")
    if width * height > MOST_PIXELS or BYTES_PER_PX * width * height > free_bytes():
        raise ValueError(
            f"`{name}` is {width}x{height} px, must have {MOST_PIXELS / 1e6:.0f} megapixels at most, and fit in memory"
        )


def _uint8_from_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in {3, 4})):
        raise ValueError(
            f"`{name}` has shape {array.shape} (channels last), must be (H, W) or (H, W, C) with 1, 3 or 4 "
            "channels for arrays, (H, W) or (C, H, W) for tensors"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"`{name}` holds {array.dtype} values, must hold uint8 or floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(f"`{name}` holds floats from {low:g} to {high:g}, must hold floats in [0, 1]")
    return np.round(array * 255).astype(np.uint8)
