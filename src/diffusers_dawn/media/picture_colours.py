"""Convert pictures to sRGB from what their files say of colours: profiles, colour codes, chromaticities and gamma."""

import io
import os
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageCms

from .shown_colours import BT709, HLG, LINEAR, PQ, SRGB, TO_BT709, UNSPECIFIED, codes_to_srgb, power_law_to_srgb

Conversion: TypeAlias = Callable[[Image.Image], Image.Image]

# Pillow's mode for the colour space that a profile is for
MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
# profiles that serve no picture of another mode
MODES_OF_THEIR_OWN = {"L": {"1", "L"}, "LAB": {"LAB"}}
# curves (ITU-T H.273) that look like sRGB's, and those that are converted
USUAL_CURVES, KNOWN_CURVES = {1, UNSPECIFIED, 6, SRGB, 14, 15}, {LINEAR, PQ, HLG}
# as libpng, which takes a power law so near to a screen's for it (PNG, section 11.3.2.2)
SCREEN_GAMMA, GAMMA_TOLERANCE, GAMMA_RANGE = 0.45455, 0.025, (0.1, 10)
# x and y of white, red, green and blue; programs round them in several ways
SRGB_CHROMATICITIES, CHROMATICITY_TOLERANCE = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06), 0.003
# from XYZ to the eye's three receptors, where one white becomes another (Bradford; ICC.1, annex E)
RECEPTORS = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))
# files made of ISO's boxes, of which that of colours lies near the beginning
BOXED_FORMATS, HEAD_BYTES = {"AVIF", "HEIF"}, 2**16


def read_colour_code(picture: Image.Image) -> tuple[int, ...] | None:
    """Read the numbers of ITU-T H.273 by which a file describes its colours, which Pillow passes over.

    Args:
        picture: The picture, opened but not loaded; its file's place stays.

    Returns:
        Primaries, curve, matrix and full range of the pixels that Pillow gives: of a PNG's cICP, or of an AVIF's colr,
        where it has no profile, which comes first there. None without them.
    """
    file = getattr(picture, "fp", None)
    is_png, is_boxed = picture.format == "PNG", picture.format in BOXED_FORMATS and "icc_profile" not in picture.info
    if file is None or not (is_png or is_boxed):
        return None
    place = file.tell()
    try:
        file.seek(8 if is_png else 0)
        return _code_of_png(file) if is_png else _code_of_boxes(file.read(HEAD_BYTES))
    finally:
        file.seek(place)


def conversion_to_srgb(sample: Image.Image, info: dict[str, Any], name: str) -> Conversion:
    """Make what converts colours to sRGB; those of which the file says nothing are taken as such.

    Args:
        sample: Some of the picture, opaque.
        info: What Pillow knows of the file, with the colour code as "cicp".
        name: Argument name for the warning that colours cannot be converted.

    Returns:
        A function of parts of the picture, which gives them with other colours.
    """
    try:
        conversion = _conversion(info)
        conversion(sample)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"`{name}` has colours that cannot be converted ({error}); they may be off", stacklevel=4)
        return _unchanged
    return conversion


def _conversion(info: dict[str, Any]) -> Conversion:
    if info.get("cicp"):
        return _from_colour_code(info["cicp"])
    if info.get("icc_profile"):
        return _from_profile(info["icc_profile"])
    if "srgb" not in info and ("gamma" in info or "chromaticity" in info):
        chromaticities = info.get("chromaticity", SRGB_CHROMATICITIES)
        return _from_power_law(info.get("gamma", SCREEN_GAMMA), chromaticities)
    return _unchanged


def _unchanged(picture: Image.Image) -> Image.Image:
    return picture


def _code_of_png(file: BinaryIO) -> tuple[int, ...] | None:
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"cICP":
            return struct.unpack("4B", file.read(4)) if length == 4 else None
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _code_of_boxes(head: bytes) -> tuple[int, ...] | None:
    """Find the first colr box with numbers; the pixels that come out of the decoder are RGB of full range."""
    _, found, rest = head.partition(b"colrnclx")
    if not found or len(rest) < 4:
        return None
    primaries, curve = struct.unpack(">HH", rest[:4])
    return primaries, curve, 0, 1


def _from_profile(profile: bytes) -> Conversion:
    """Convert colours from a profile (ICC.1)."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = own.profile.xcolor_space.strip()
    mode = MODE_OF_PROFILE.get(space)
    if mode is None:
        raise ValueError(f"the profile is for {space}")
    transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB")

    def convert(picture: Image.Image) -> Image.Image:
        if picture.mode not in MODES_OF_THEIR_OWN.get(mode, {picture.mode}):
            raise ValueError(f"the profile is for {space}, the picture is {picture.mode}")
        return ImageCms.applyTransform(picture.convert(mode), transform)

    return convert


def _from_colour_code(code: tuple[int, ...]) -> Conversion:
    primaries, curve, *stored = code
    known = primaries in {BT709, UNSPECIFIED, *TO_BT709} and curve in USUAL_CURVES | KNOWN_CURVES
    if not known or stored != [0, 1]:
        raise ValueError(f"its colour code is {', '.join(map(str, code))}")
    if primaries not in TO_BT709 and curve in USUAL_CURVES:
        return _unchanged
    curve = SRGB if curve in USUAL_CURVES else curve

    def convert(picture: Image.Image) -> Image.Image:
        codes = np.asarray(picture.convert("RGB")).astype(np.uint16) * 257
        return Image.fromarray(codes_to_srgb(codes, primaries, curve))

    return convert


def _from_power_law(gamma: float, chromaticities: Sequence[float]) -> Conversion:
    """Convert from the power law of PNG's gAMA and the chromaticities of its cHRM."""
    if not GAMMA_RANGE[0] <= gamma <= GAMMA_RANGE[1]:
        raise ValueError(f"its gAMA is {gamma:g}")
    differences = np.subtract(chromaticities, SRGB_CHROMATICITIES)
    matrix = None if np.abs(differences).max() <= CHROMATICITY_TOLERANCE else _matrix_to_bt709(chromaticities)
    power = None if abs(gamma - SCREEN_GAMMA) < GAMMA_TOLERANCE else 1 / gamma
    if matrix is None and power is None:
        return _unchanged
    return lambda picture: Image.fromarray(power_law_to_srgb(np.asarray(picture.convert("RGB")), power, matrix))


def _matrix_to_bt709(chromaticities: Sequence[float]) -> np.ndarray:
    """Matrix (3, 3) from linear RGB of these primaries and white to that of BT.709."""
    own, white = _matrix_to_xyz(chromaticities)
    shown, white_shown = _matrix_to_xyz(SRGB_CHROMATICITIES)
    adapted = np.diag((RECEPTORS @ white_shown) / (RECEPTORS @ white))
    return np.linalg.inv(shown) @ np.linalg.inv(RECEPTORS) @ adapted @ RECEPTORS @ own


def _matrix_to_xyz(chromaticities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (3, 3) from linear RGB to XYZ, and XYZ (3,) of white, whose Y is 1 (SMPTE RP 177)."""
    x, y = np.reshape(chromaticities, (4, 2)).T
    colours = np.array((x, y, 1 - x - y))
    primaries = colours[:, 1:]
    if y.min() <= 0 or abs(np.linalg.det(primaries)) < 1e-3 or x.max() > 1 or y.max() > 1:
        raise ValueError("its cHRM describes no colours")
    white = colours[:, 0] / y[0]
    return primaries * np.linalg.solve(primaries, white), white
