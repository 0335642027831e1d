"""Light the figure, sample by sample, and turn samples into pixels."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from training.synthetic import surface_colours as colours
from training.synthetic.identity import Clothes, Rgb
from training.synthetic.mesh_shapes import Material
from training.synthetic.paint import ramp, scale
from training.synthetic.skin_texture import TEXELS_PER_CELL

SKIN, HAIR, EAR, NECK, CLOTH, FRAME, EYEBALL, SOCKET, TOOTH, TONGUE, CAVITY = (int(material) for material in Material)
SPECULAR_POWER = 22
# light wraps around the terminator this far, as it does on a large lamp's subject
WRAP = 0.35


class Palette(NamedTuple):
    """What the colours of an identity are made from.

    Attributes:
        skin_texture: Float32 (rows, columns, 5), see `skin_texture.paint_skin`.
        hair_tile: Float32 (n, n), strands in [0, 1].
        hair_contrast: How much lighter and darker strands are.
        skin_rgb: Bare skin.
        hair_rgb: Hair.
        iris_rgb: Iris.
        frame_rgb: Glasses.
        clothes: Clothes.
        shows_tie: Whether a jacket comes with a tie.
        light_direction: Unit vector towards the lamp.
        light_rgb: Its colour.
        ambient: Light from everywhere.
        eyeball_radius_cm: Radius of the eyeballs.
    """

    skin_texture: np.ndarray
    hair_tile: np.ndarray
    hair_contrast: float
    skin_rgb: Rgb
    hair_rgb: Rgb
    iris_rgb: Rgb
    frame_rgb: Rgb
    clothes: Clothes
    shows_tie: bool
    light_direction: tuple[float, float, float]
    light_rgb: Rgb
    ambient: float
    eyeball_radius_cm: float


class Surface(NamedTuple):
    """The figure's mesh in one state: vertex indices and materials of triangles; normals, rest and local positions.

    `lids_cm` holds, for the image's left and right eye, the x of both corners, their mean y, and the y of the upper
    lid's middle.
    """

    triangles: np.ndarray
    material: np.ndarray
    normals: np.ndarray
    rest_cm: np.ndarray
    local_cm: np.ndarray
    uv: np.ndarray
    ambient: np.ndarray
    lids_cm: np.ndarray


@njit(cache=True)
def shade(image, raster, surface, palette):
    """Colour every sample that shows the figure.

    Args:
        image: Float32 samples (n, n, 3), linear light; what shows the background stays.
        raster: What each sample shows.
        surface: The mesh.
        palette: Its colours.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            index = raster.triangle[row, column]
            if index < 0:
                continue
            b, c = raster.weights[row, column, 0], raster.weights[row, column, 1]
            rgb = _shade_sample(surface.triangles[index], surface.material[index], 1 - b - c, b, c, surface, palette)
            for channel in range(3):
                image[row, column, channel] = min(1.0, max(0.0, rgb[channel]))


@njit(cache=True, forceinline=True)
def _interpolate(values, triangle, a, b, c, channel):
    return a * values[triangle[0], channel] + b * values[triangle[1], channel] + c * values[triangle[2], channel]


@njit(cache=True, forceinline=True)
def _shade_sample(triangle, material, a, b, c, surface, palette):
    normal = _unit_normal(triangle, a, b, c, surface)
    ambient_share = (
        a * surface.ambient[triangle[0]] + b * surface.ambient[triangle[1]] + c * surface.ambient[triangle[2]]
    )
    if material == SKIN:
        row = TEXELS_PER_CELL * _interpolate(surface.uv, triangle, a, b, c, 0)
        column = TEXELS_PER_CELL * _interpolate(surface.uv, triangle, a, b, c, 1)
        return _lit_skin(row, column, normal, palette)
    if material == HAIR:
        return _lit_hair(triangle, a, b, c, normal, ambient_share, surface, palette)
    if material == EAR:
        rgb = palette.skin_rgb[0] * 1.02, palette.skin_rgb[1] * 0.93, palette.skin_rgb[2] * 0.92
        return _lit(rgb, normal, ambient_share, 0.05, 0.1, palette)
    if material == NECK:
        return _lit(palette.skin_rgb, normal, ambient_share, 0.04, 0.1, palette)
    if material == CLOTH:
        x, y, z = _point(surface.rest_cm, triangle, a, b, c)
        rgb, light = colours.cloth_rgb(x, y, z, palette.clothes, palette.skin_rgb, palette.shows_tie)
        return _lit(rgb, normal, light * ambient_share, 0.01, 0.0, palette)
    if material == FRAME:
        return _lit(palette.frame_rgb, normal, ambient_share, 0.35, 0.0, palette)
    return _lit_inner(triangle, material, a, b, c, normal, ambient_share, surface, palette)


@njit(cache=True, forceinline=True)
def _point(values, triangle, a, b, c):
    return (
        _interpolate(values, triangle, a, b, c, 0),
        _interpolate(values, triangle, a, b, c, 1),
        _interpolate(values, triangle, a, b, c, 2),
    )


@njit(cache=True, forceinline=True)
def _unit_normal(triangle, a, b, c, surface):
    x, y, z = _point(surface.normals, triangle, a, b, c)
    length = math.sqrt(x * x + y * y + z * z) + 1e-12
    # the inside of a sheet is lit as if it were its outside; a little beyond the outline normals may point away
    if z < -0.25 * length:
        length = -length
    return x / length, y / length, z / length


@njit(cache=True, forceinline=True)
def _lamp(normal, palette):
    """Diffuse light that wraps around, and the cosine to the lamp."""
    lamp = palette.light_direction
    cosine = normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2]
    return max(0.0, (cosine + WRAP) / (1 + WRAP)), cosine


@njit(cache=True, forceinline=True)
def _lit(rgb, normal, light, gloss, redness, palette):
    """Light a matt surface with some gloss; `redness` is how red the edge of its shadow glows."""
    lamp = palette.light_direction
    wrapped, cosine = _lamp(normal, palette)
    key = light * (palette.ambient + 0.09 * (0.5 * normal[1] + 0.5) + 0.74 * wrapped)
    fill = 0.16 * light * max(0.0, 0.2 * normal[1] + 0.7 * normal[2] - 0.6 * normal[0] * lamp[0])
    glow = 1.0
    if redness > 0:
        glow += redness * math.exp(-(((cosine - 0.05) / 0.28) ** 2))
    rim = (1 - max(0.0, normal[2])) ** 3
    rim *= 0.13 * light * (0.4 * normal[1] + 0.6)
    # the vector half-way between lamp and viewer has the length sqrt(2 + 2 z)
    shine = max(0.0, (cosine + normal[2]) / math.sqrt(2 + 2 * lamp[2]))
    shine = 2.2 * gloss * shine**SPECULAR_POWER
    return (
        rgb[0] * (key * palette.light_rgb[0] + fill) * glow + shine + rim * (0.25 + rgb[0]),
        rgb[1] * (key * palette.light_rgb[1] + fill) + shine + rim * (0.25 + rgb[1]),
        rgb[2] * (key * palette.light_rgb[2] + fill) * (1 - 0.6 * (glow - 1)) + shine + rim * (0.25 + rgb[2]),
    )


@njit(cache=True, forceinline=True)
def _lit_skin(row, column, normal, palette):
    red, green, blue, light, gloss = colours.sample_skin(palette.skin_texture, row, column)
    return _lit((red, green, blue), normal, light, gloss, 0.1, palette)


@njit(cache=True, forceinline=True)
def _lit_hair(triangle, a, b, c, normal, ambient_share, surface, palette):
    u = _interpolate(surface.uv, triangle, a, b, c, 0)
    v = _interpolate(surface.uv, triangle, a, b, c, 1)
    strand = colours.sample_tile(palette.hair_tile, u, v)
    rgb = scale(palette.hair_rgb, 1 + palette.hair_contrast * (strand - 0.5))
    # a band of light lies where strands turn away from the lamp
    band = math.exp(-(((normal[1] - 0.55) / 0.22) ** 2)) * max(0.0, normal[2] + 0.3)
    brightness = palette.hair_rgb[0] + palette.hair_rgb[1] + palette.hair_rgb[2]
    shine = 0.1 * band * (0.3 + strand) * (0.3 + 0.65 * brightness)
    lit = _lit(rgb, normal, ambient_share, 0.01, 0.0, palette)
    return lit[0] + shine, lit[1] + shine, lit[2] + shine


@njit(cache=True)
def _lit_inner(triangle, material, a, b, c, normal, ambient_share, surface, palette):
    wrapped, _ = _lamp(normal, palette)
    light = ambient_share * (0.45 + 0.5 * wrapped)
    if material == EYEBALL:
        return _lit_eyeball(triangle, a, b, c, normal, surface, palette)
    u, v = _interpolate(surface.uv, triangle, a, b, c, 0), _interpolate(surface.uv, triangle, a, b, c, 1)
    if material == TOOTH:
        return scale(colours.tooth_rgb(u, v), light)
    if material == TONGUE:
        return scale(colours.TONGUE_RGB, light)
    if material == SOCKET:
        return scale(colours.SOCKET_RGB, light)
    return scale(colours.MOUTH_RGB, light)


@njit(cache=True)
def _lit_eyeball(triangle, a, b, c, normal, surface, palette):
    side, up = _interpolate(surface.uv, triangle, a, b, c, 0), _interpolate(surface.uv, triangle, a, b, c, 1)
    toward = math.sqrt(max(0.0, 1 - side * side - up * up))
    rgb = colours.eyeball_rgb(side, up, toward, palette.iris_rgb, palette.eyeball_radius_cm)
    x, y, _ = _point(surface.local_cm, triangle, a, b, c)
    lid = surface.lids_cm[0] if x < 0 else surface.lids_cm[1]
    along = (2 * x - lid[0] - lid[1]) / (lid[1] - lid[0])
    rounding = max(0.0, 1 - along * along)
    under_lid_cm = lid[2] + (lid[3] - lid[2]) * math.sqrt(rounding) - y
    shadow = (1 - 0.5 * ramp(0.42, 0.0, under_lid_cm)) * (1 - 0.4 * ramp(0.5, 1.05, abs(along)))
    wrapped, _ = _lamp(normal, palette)
    lit = scale(rgb, shadow * (0.5 + 0.55 * wrapped))
    # the lamp's reflection sits on the cornea, over the upper part of the iris
    lamp_side = 0.28 if palette.light_direction[0] > 0 else -0.28
    offset_cm = palette.eyeball_radius_cm * math.hypot(side, up)
    glint_x = palette.eyeball_radius_cm * side - lamp_side
    glint_y = palette.eyeball_radius_cm * up - 0.24
    glint = 0.9 * ramp(0.22, 0.1, math.hypot(glint_x, glint_y)) * ramp(1.0, 0.8, offset_cm)
    return lit[0] + glint, lit[1] + glint, lit[2] + glint


@njit(cache=True)
def resolve(samples, supersampling):
    """Average samples to pixels and store them with the display's gamma.

    Args:
        samples: Float32 (n, n, 3), linear light in [0, 1].
        supersampling: Samples per pixel along one axis.

    Returns:
        uint8 array (n / supersampling, n / supersampling, 3).
    """
    size_px = samples.shape[0] // supersampling
    pixels = np.empty((size_px, size_px, 3), np.uint8)
    for row in range(size_px):
        for column in range(size_px):
            for channel in range(3):
                total = 0.0
                for down in range(supersampling):
                    for across in range(supersampling):
                        total += samples[row * supersampling + down, column * supersampling + across, channel]
                pixels[row, column, channel] = int(255 * math.sqrt(total / (supersampling * supersampling)) + 0.5)
    return pixels
