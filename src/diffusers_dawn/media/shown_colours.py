"""Turn stored colours into the sRGB that a player or viewer shows: matrix, gamut, curve, high dynamic range."""

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

# Numbers of ITU-T H.273: colour matrices, primaries and transfer characteristics
UNSPECIFIED = 2
BT709_MATRIX, BT601_MATRIX, BT2020_MATRIX = 1, 5, 9
BT709, BT2020_PRIMARIES, DISPLAY_P3_PRIMARIES = 1, 9, 12
SRGB, LINEAR, PQ, HLG = 13, 8, 16, 18
# where a file names no matrix, players take that of BT.709 for sizes above those of standard definition
MOST_SD_HEIGHT_PX, MOST_SD_WIDTH_PX = 576, 1024
# linear RGB of other primaries to that of BT.709 (ITU-R BT.2087; SMPTE EG 432-1)
TO_BT709 = {
    BT2020_PRIMARIES: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    DISPLAY_P3_PRIMARIES: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
# ITU-R BT.2100: an HLG display shows 1000 cd/m2 at most, with a gamma of 1.2; SDR white is 100 cd/m2
HLG_A, HLG_PEAK, HLG_GAMMA = 0.17883277, 10.0, 1.2
PQ_M1, PQ_M2, PQ_C1, PQ_C2, PQ_C3, PQ_PEAK = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128, 100.0
# brightness up to here, as a share of SDR white, stays as it is; what is brighter is pressed into the rest
KNEE = 0.6
SDR_GAMMA = 2.2
CODES, LINEAR_STEPS = 2**16, 2**14
ROWS_AT_ONCE = 64


def has_high_dynamic_range(frame: "av.VideoFrame") -> bool:
    """Tell whether a frame is stored as HLG or PQ (ITU-R BT.2100)."""
    return frame.color_trc in (HLG, PQ)


def to_srgb(frame: "av.VideoFrame", height: int, width: int) -> np.ndarray:
    """Convert a frame to the pixels that are shown.

    High dynamic range becomes standard: up to 0.6 of its white as it is, brighter parts compressed. Where the file
    names no matrix, BT.709's is taken above 576 lines or 1024 columns and BT.601's below, as players do.

    Args:
        frame: The stored frame.
        height: Height that it is resized to [px].
        width: Width that it is resized to [px].

    Returns:
        uint8 array (height, width, 3), RGB.
    """
    # without a matrix of its own, or with one for RGB that these pixels are not
    is_yuv = not frame.format.is_rgb and len(frame.format.components) >= 3
    matrix = _guess_matrix(frame) if is_yuv and frame.colorspace in (UNSPECIFIED, 0) else None
    wide, high = frame.color_primaries in TO_BT709, has_high_dynamic_range(frame)
    pixel_format = "rgb48le" if wide or high else "rgb24"
    scaled = {} if (height, width) == (frame.height, frame.width) else {"width": width, "height": height}
    converted = frame.reformat(format=pixel_format, src_colorspace=matrix, **scaled)
    pixels = converted.to_ndarray()
    return codes_to_srgb(pixels, frame.color_primaries, frame.color_trc) if wide or high else pixels


def codes_to_srgb(codes: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """Convert pixels of another gamut or curve, or of a high dynamic range, to sRGB.

    Args:
        codes: uint16 array (H, W, 3), RGB, full range.
        primaries: Number of the primaries in ITU-T H.273; of those not in `TO_BT709` the colours stay.
        transfer: Number of the curve in ITU-T H.273; those of standard range that have no table here differ from a
            gamma of 2.2 by little, which is taken off and put on again.

    Returns:
        uint8 array (H, W, 3).
    """
    shown = np.empty(codes.shape, np.uint8)
    for top in range(0, len(codes), ROWS_AT_ONCE):  # what is made on the way takes many times the memory
        light = _decoding_table(transfer)[codes[top : top + ROWS_AT_ONCE]]
        if primaries in TO_BT709:
            light = light @ np.array(TO_BT709[primaries], np.float32).T
        light = _compress(light) if transfer in (HLG, PQ) else light
        steps = np.rint(np.clip(light, 0, 1) * (LINEAR_STEPS - 1)).astype(np.int32)
        shown[top : top + ROWS_AT_ONCE] = _encoding_table(transfer in (SRGB, LINEAR, HLG, PQ))[steps]
    return shown


def power_law_to_srgb(pixels: np.ndarray, power: float | None, matrix: np.ndarray | None) -> np.ndarray:
    """Convert pixels whose light is a power of their code, or of other primaries, to sRGB.

    Args:
        pixels: uint8 array (H, W, 3), RGB.
        power: Exponent from code to light; None: the curve of sRGB.
        matrix: Array (3, 3), linear RGB of their primaries to that of BT.709; None: they have these.

    Returns:
        uint8 array (H, W, 3).
    """
    codes = np.linspace(0, 1, 256)
    light = (_srgb_light(codes) if power is None else codes**power).astype(np.float32)[pixels]
    if matrix is not None:
        light = light @ matrix.T.astype(np.float32)
    steps = np.rint(np.clip(light, 0, 1) * (LINEAR_STEPS - 1))
    return _encoding_table(True)[steps.astype(np.int32)]


def _guess_matrix(frame: "av.VideoFrame") -> int:
    if frame.color_primaries == BT2020_PRIMARIES:
        return BT2020_MATRIX
    is_hd = frame.height > MOST_SD_HEIGHT_PX or frame.width > MOST_SD_WIDTH_PX
    return BT709_MATRIX if is_hd else BT601_MATRIX


def _compress(light: np.ndarray) -> np.ndarray:
    excess = np.maximum(light - KNEE, 0) / (1 - KNEE)
    return np.where(light > KNEE, KNEE + (1 - KNEE) * (1 - np.exp(-excess)), light)


@functools.lru_cache
def _decoding_table(transfer: int) -> np.ndarray:
    """Light of every 16-bit code, as a share of SDR white; of standard range by a plain gamma that is undone later."""
    code = np.linspace(0, 1, CODES)
    if transfer == HLG:
        b = 1 - 4 * HLG_A
        c = 0.5 - HLG_A * np.log(4 * HLG_A)
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / HLG_A) + b) / 12)
        light = HLG_PEAK * scene**HLG_GAMMA
    elif transfer == PQ:
        power = code ** (1 / PQ_M2)
        light = PQ_PEAK * (np.maximum(power - PQ_C1, 0) / (PQ_C2 - PQ_C3 * power)) ** (1 / PQ_M1)
    elif transfer == SRGB:
        light = _srgb_light(code)
    elif transfer == LINEAR:
        light = code
    else:
        light = code**SDR_GAMMA
    return light.astype(np.float32)


def _srgb_light(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


@functools.lru_cache
def _encoding_table(is_srgb: bool) -> np.ndarray:
    light = np.linspace(0, 1, LINEAR_STEPS)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * (srgb if is_srgb else light ** (1 / SDR_GAMMA))).astype(np.uint8)
