"""Colours of everything but the face's skin, point by point.

Each function returns a colour in linear light, and some the share of light that gets to the point or its gloss.
"""

import math

from numba import njit

from training.synthetic.paint import bump, mix, ramp, scale, value_noise

SCLERA_RGB = (0.80, 0.78, 0.76)
PUPIL_RGB = (0.006, 0.006, 0.008)
IRIS_RADIUS_CM = 0.66
PUPIL_RADIUS_CM = 0.27
TOOTH_RGB = (0.76, 0.74, 0.68)
TONGUE_RGB = (0.36, 0.085, 0.095)
MOUTH_RGB = (0.055, 0.012, 0.014)
SOCKET_RGB = (0.62, 0.4, 0.37)
CREW, V_NECK, JACKET, TURTLENECK, SHIRT = range(5)
STRIPES, CHECKS = 1, 2


@njit(cache=True, forceinline=True)
def sample_skin(texture, row, column):
    """Interpolate the five channels of the skin's texture; beyond its edge the edge counts."""
    row = min(max(row - 0.5, 0.0), texture.shape[0] - 1.001)
    column = min(max(column - 0.5, 0.0), texture.shape[1] - 1.001)
    top, left = int(row), int(column)
    down, across = row - top, column - left
    upper_left, upper_right = (1 - down) * (1 - across), (1 - down) * across
    lower_left, lower_right = down * (1 - across), down * across
    first, second = texture[top, left], texture[top, left + 1]
    third, fourth = texture[top + 1, left], texture[top + 1, left + 1]
    return (
        upper_left * first[0] + upper_right * second[0] + lower_left * third[0] + lower_right * fourth[0],
        upper_left * first[1] + upper_right * second[1] + lower_left * third[1] + lower_right * fourth[1],
        upper_left * first[2] + upper_right * second[2] + lower_left * third[2] + lower_right * fourth[2],
        upper_left * first[3] + upper_right * second[3] + lower_left * third[3] + lower_right * fourth[3],
        upper_left * first[4] + upper_right * second[4] + lower_left * third[4] + lower_right * fourth[4],
    )


@njit(cache=True, forceinline=True)
def sample_tile(tile, u, v):
    """Interpolate a tile that repeats in both directions."""
    height, width = tile.shape
    x, y = u * width, v * height
    left, top = math.floor(x), math.floor(y)
    across, down = x - left, y - top
    left, top = int(left) % width, int(top) % height
    right, bottom = (left + 1) % width, (top + 1) % height
    upper = tile[top, left] * (1 - across) + tile[top, right] * across
    lower = tile[bottom, left] * (1 - across) + tile[bottom, right] * across
    return upper * (1 - down) + lower * down


@njit(cache=True)
def eyeball_rgb(side, up, toward, iris_rgb, radius_cm):
    """Colour of the eye's white, iris or pupil; the direction from the eyeball's middle is given."""
    off_axis_cm = radius_cm * math.atan2(math.hypot(side, up), toward)
    if off_axis_cm > IRIS_RADIUS_CM + 0.07:
        return SCLERA_RGB
    place = off_axis_cm / IRIS_RADIUS_CM
    fibres = 0.85 + 0.3 * value_noise(1.6 * math.atan2(up, side) + 20.0, 2.0 * place)
    # dark at the rim, brighter below, where light falls through the cornea
    tone = (1.25 - 0.55 * ramp(0.7, 1.02, place)) * fibres * (1 + 0.6 * ramp(0.0, -0.3, up))
    rgb = mix(scale(iris_rgb, tone), PUPIL_RGB, ramp(PUPIL_RADIUS_CM + 0.06, PUPIL_RADIUS_CM - 0.04, off_axis_cm))
    return mix(rgb, SCLERA_RGB, ramp(IRIS_RADIUS_CM - 0.06, IRIS_RADIUS_CM + 0.06, off_axis_cm))


@njit(cache=True)
def tooth_rgb(across_cm, over_edge_cm):
    """Colour of a row of teeth, with faint gaps."""
    place = abs(1.35 * across_cm)
    from_gap = 0.5 - abs(place - math.floor(place) - 0.5)
    return scale(TOOTH_RGB, (1 - 0.2 * ramp(0.12, 0.0, from_gap)) * (0.85 + 0.15 * ramp(0.0, 0.3, over_edge_cm)))


@njit(cache=True)
def hair_rgb(rgb, tile, u, v, contrast):
    """Colour of a strand."""
    return scale(rgb, 1 + contrast * (sample_tile(tile, u, v) - 0.5))


@njit(cache=True)
def patterned_cloth_rgb(x, y, clothes):
    """Colour of the cloth without its collar."""
    rgb = clothes.main_rgb
    if clothes.pattern == STRIPES and math.floor(0.62 * y) % 2 == 0:
        rgb = clothes.second_rgb
    elif clothes.pattern == CHECKS:
        rgb = mix(rgb, clothes.second_rgb, 0.45 * (math.floor(0.5 * x) % 2) + 0.45 * (math.floor(0.5 * y) % 2))
    return scale(rgb, 0.9 + 0.14 * value_noise(0.5 * x + 40.0, 0.35 * y))


@njit(cache=True)
def cloth_rgb(x, y, z, clothes, skin_rgb, shows_tie):
    """Colour of the clothed body, with the skin or shirt that a collar shows; and its light."""
    rgb = patterned_cloth_rgb(x, y, clothes)
    light = 0.74 + 0.26 * ramp(4.5, 9.0, math.sqrt(1.1 * x * x + (y + 10.5) ** 2))
    if z < -3.0:
        return rgb, light
    if clothes.collar == V_NECK:
        over_edge = abs(x) - 0.55 * (y + 18.0)
        rgb = mix(rgb, skin_rgb, ramp(0.1, -0.1, over_edge))
        light *= 1 - 0.28 * ramp(-0.1, 0.1, over_edge) * ramp(0.6, 0.5, over_edge)
    elif clothes.collar == JACKET:
        rgb, light = _jacket(rgb, light, x, y, clothes, shows_tie)
    elif clothes.collar == SHIRT:
        rgb, light = _shirt(rgb, light, x, y, skin_rgb)
    return rgb, light


@njit(cache=True)
def _jacket(rgb, light, x, y, clothes, shows_tie):
    over_edge = abs(x) - 0.4 * (y + 25.0)
    shirt = (0.78, 0.78, 0.8)
    rgb = mix(rgb, shirt, ramp(0.1, -0.1, over_edge))
    lapel = ramp(0.0, 0.1, over_edge) * ramp(2.2, 2.1, over_edge)
    if y < -11.4:
        light *= 1 - 0.28 * lapel
    if shows_tie and y < -11.6:
        half_width = 0.6 + 0.09 * (-11.6 - y)
        rgb = mix(rgb, clothes.second_rgb, ramp(half_width + 0.1, half_width - 0.1, abs(x)))
    return rgb, light * (1 - 0.4 * bump(over_edge / 0.18))


@njit(cache=True)
def _shirt(rgb, light, x, y, skin_rgb):
    """An open collar: bare skin in the middle, the collar's two leaves beside it, a row of buttons."""
    over_opening = abs(x) - 0.5 * (y + 15.5)
    leaf = ramp(0.0, 0.1, over_opening) * ramp(2.6, 2.5, abs(x) - 0.2 * (y + 15.5) * (y < -12.0))
    if y > -14.2:
        light *= 1 + 0.12 * leaf - 0.3 * bump((abs(x) - 0.35 * (y + 15.5) - 2.1) / 0.15)
    rgb = mix(rgb, skin_rgb, ramp(0.1, -0.1, over_opening))
    light *= 1 - 0.3 * bump(over_opening / 0.15)
    if y < -15.4:
        light *= 1 - 0.3 * bump((abs(x) - 0.5) / 0.08)
    return rgb, light
