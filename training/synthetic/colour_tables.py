"""Colours of skin, hair, eyes, cloth and walls, as the display shows them (sRGB, 0 to 255), and in linear light."""

import numpy as np

DISPLAY_GAMMA = 2.0
"""Images store linear light to the power of 1 / 2: close to sRGB, and cheap."""

Rgb = tuple[float, float, float]
"""A colour in linear light, 0 to 1."""

SKIN_SRGB = (
    (247, 214, 192),
    (240, 200, 172),
    (232, 186, 154),
    (226, 176, 138),
    (208, 152, 114),
    (188, 130, 94),
    (160, 108, 76),
    (132, 88, 62),
    (108, 72, 50),
    (86, 56, 42),
)
HAIR_SRGB = (
    (28, 24, 24),
    (44, 32, 28),
    (62, 42, 30),
    (96, 64, 40),
    (134, 92, 54),
    (178, 134, 80),
    (212, 176, 116),
    (122, 52, 30),
)
NUM_DARK_HAIR_COLOURS = 3
GREY_HAIR_SRGB = ((150, 148, 148), (188, 186, 184), (104, 102, 104))
DYED_HAIR_SRGB = ((44, 52, 84), (120, 46, 76), (150, 60, 44))
IRIS_SRGB = ((84, 56, 36), (112, 78, 46), (58, 42, 30), (70, 106, 148), (86, 124, 96), (104, 128, 140))
NUM_BROWN_IRISES = 3
CLOTH_SRGB = (
    (52, 78, 116),
    (150, 52, 58),
    (44, 92, 82),
    (224, 222, 216),
    (42, 44, 52),
    (186, 140, 64),
    (108, 84, 140),
    (92, 112, 72),
    (206, 122, 98),
    (70, 130, 160),
    (176, 168, 156),
    (92, 60, 52),
)
BACKGROUND_SRGB = (
    ((206, 214, 222), (148, 166, 184)),
    ((228, 218, 202), (188, 168, 142)),
    ((64, 78, 96), (28, 34, 46)),
    ((190, 206, 192), (124, 150, 132)),
    ((214, 198, 208), (150, 124, 146)),
    ((88, 104, 130), (44, 52, 72)),
    ((236, 206, 170), (196, 138, 108)),
    ((70, 96, 96), (30, 46, 50)),
    ((120, 116, 112), (62, 60, 62)),
    ((222, 224, 226), (196, 200, 206)),
)


def linear_rgb(srgb: np.ndarray | tuple[float, ...]) -> Rgb:
    """Turn a colour of 0 to 255 into linear light.

    Args:
        srgb: Three numbers, 0 to 255.

    Returns:
        Three numbers, 0 to 1.
    """
    red, green, blue = (np.clip(np.asarray(srgb, float), 0, 255) / 255) ** DISPLAY_GAMMA
    return float(red), float(green), float(blue)


def blend_rgb(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Mix two colours.

    Args:
        first: Colour at share 0.
        second: Colour at share 1.
        share: 0 to 1.

    Returns:
        The mixture.
    """
    red, green, blue = (a * (1 - share) + b * share for a, b in zip(first, second, strict=True))
    return red, green, blue
