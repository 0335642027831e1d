"""Paint the skin of a face once, with brows, lips, lashes and beard, so that a frame only has to look it up."""

import math

import numpy as np
from numba import njit

from training.synthetic.hair_shape import HairShape
from training.synthetic.identity import Identity, Mouth
from training.synthetic.paint import bump, cell_noise, mix, ramp, scale, value_noise
from training.synthetic.skull_surface import SkullSurface

TEXELS_PER_CELL = 4
NUM_CHANNELS = 5
LASH_RGB = (0.012, 0.008, 0.008)
# thickness of a sharp edge in the texture
EDGE_CM = 0.05


def paint_skin(identity: Identity, surface: SkullSurface, hair: HairShape) -> np.ndarray:
    """Paint the grid of the head's skin.

    Args:
        identity: Whose skin.
        surface: Its shape.
        hair: The hair, which darkens the skin along its edge.

    Returns:
        Float32 array (rows, columns, 5): linear red, green, blue, share of light that reaches the skin, gloss.
    """
    corners = surface.cell_corners
    place = _texel_map(surface.vertices_cm, corners)
    inside_hair_cm = _texel_map(hair.inside_cm[:, None], corners)[..., 0]
    over_lid_cm, under_lid_cm = _lid_distances(surface, place)
    texture = np.empty((*place.shape[:2], NUM_CHANNELS), np.float32)
    _paint(
        texture,
        place,
        inside_hair_cm,
        over_lid_cm,
        under_lid_cm,
        (identity.skin, identity.skull, identity.eyes, identity.brows, identity.mouth, identity.beard),
        identity.hair.rgb,
        min(hair.style.thickness_cm, 1.0),
    )
    return texture


def _texel_map(values: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Interpolate what is known at vertices (N, C) to the texels (rows, columns, C) of all cells."""
    share = (np.arange(TEXELS_PER_CELL) + 0.5) / TEXELS_PER_CELL
    down, right = share[:, None, None], share[None, :, None]
    at_corners = values[corners][:, None, :, None]
    upper = at_corners[..., 0, :] * (1 - right) + at_corners[..., 1, :] * right
    lower = at_corners[..., 2, :] * (1 - right) + at_corners[..., 3, :] * right
    # (cell rows, texel rows, cell columns, texel columns, C)
    texels = upper * (1 - down[:, None]) + lower * down[:, None]
    num_rows, num_columns = corners.shape[:2]
    return texels.reshape(num_rows * TEXELS_PER_CELL, num_columns * TEXELS_PER_CELL, -1)


def _lid_distances(surface: SkullSurface, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of every texel over the edge of the upper lid, and depth under that of the lower lid [cm]."""
    x_cm, y_cm, _ = np.moveaxis(place, -1, 0)
    upper, lower = (surface.vertices_cm[edge] for edge in (surface.left_eye.upper_edge, surface.left_eye.lower_edge))
    is_lower = np.arange(len(place))[:, None] >= surface.eye_row * TEXELS_PER_CELL
    beside_cm = np.abs(x_cm)
    over_cm = np.where(is_lower, np.inf, y_cm - np.interp(beside_cm, upper[:, 0], upper[:, 1]))
    under_cm = np.where(is_lower, np.interp(beside_cm, lower[:, 0], lower[:, 1]) - y_cm, np.inf)
    return over_cm, under_cm


@njit(cache=True)
def _paint(texture, place, inside_hair_cm, over_lid_cm, under_lid_cm, face, hair_rgb, hair_density):
    skin, skull, eyes, brows, mouth, beard = face
    for row in range(texture.shape[0]):
        for column in range(texture.shape[1]):
            x, y, z = place[row, column]
            rgb, light, gloss = _bare_skin(x, y, skin), 1.0, 0.05 * skin.gloss
            if z > -3.5:
                rgb = _blushed(rgb, x, y, skin, skull)
                rgb = _freckled(rgb, x, y, skin)
                light = _creases(x, y, z, skin, skull, eyes, mouth)
                rgb, gloss = _bearded(rgb, gloss, x, y, z, mouth, skull, beard)
            rgb = _hair_roots(rgb, inside_hair_cm[row, column], x, y, hair_rgb, hair_density)
            if z > 0:
                rgb, gloss, lip_light = _lips(rgb, gloss, x, y, mouth)
                light *= lip_light * _hair_shadow(inside_hair_cm[row, column], hair_density)
                rgb, gloss = _brow(rgb, gloss, x, y, eyes, brows)
                rgb, lid_light = _lids(rgb, x, over_lid_cm[row, column], under_lid_cm[row, column], eyes)
                light *= lid_light
            texture[row, column, 0], texture[row, column, 1], texture[row, column, 2] = rgb
            texture[row, column, 3] = light
            texture[row, column, 4] = gloss


@njit(cache=True)
def _bare_skin(x, y, skin):
    mottled = 0.06 * (value_noise(1.7 * x + 9.0, 1.7 * y + 3.0) - 0.5) + 0.04 * (value_noise(6.0 * x, 6.0 * y) - 0.5)
    return scale(skin.rgb, 1 + mottled)


@njit(cache=True)
def _blushed(rgb, x, y, skin, skull):
    cheeks = math.exp(-(((abs(x) - 4.2) / 1.8) ** 2) - ((y + 0.9) / 1.4) ** 2)
    nose = math.exp(-((x / 1.1) ** 2) - ((y - skull.nose_tip_y_cm) / 0.9) ** 2)
    share = skin.blush * (cheeks + 0.4 * nose)
    return rgb[0] * (1 + 0.08 * share), rgb[1] * (1 - 0.38 * share), rgb[2] * (1 - 0.3 * share)


@njit(cache=True)
def _freckled(rgb, x, y, skin):
    if skin.freckles == 0:
        return rgb
    where = math.exp(-(((y - 0.4) / 1.4) ** 2) - ((abs(x) - 2.2) / 2.2) ** 2)
    column, row = math.floor(2.6 * x), math.floor(2.6 * y)
    spot_x = (column + 0.2 + 0.6 * cell_noise(int(column), int(row))) / 2.6
    spot_y = (row + 0.2 + 0.6 * cell_noise(int(row) + 7, int(column))) / 2.6
    share = skin.freckles * where * ramp(0.14, 0.05, math.hypot(x - spot_x, y - spot_y))
    if cell_noise(int(column) + 3, int(row) + 5) < 0.45:
        return rgb
    return rgb[0] * (1 - 0.25 * share), rgb[1] * (1 - 0.42 * share), rgb[2] * (1 - 0.45 * share)


@njit(cache=True)
def _creases(x, y, z, skin, skull, eyes, mouth):
    """Share of light that reaches the skin beside the nose, in nostrils, sockets, folds and under the chin."""
    beside, nose_width, over_nose = abs(x), skull.nose_half_width_cm, y - skull.nose_tip_y_cm
    if beside > 6.5 or z < 0:
        return 1.0
    light = 1 - 0.28 * math.exp(-(((beside - 1.45 * nose_width) / 0.4) ** 2) - ((over_nose + 0.4) / 0.7) ** 2)
    light *= 1 - 0.25 * math.exp(-((x / 1.3) ** 2) - ((over_nose + 1.3) / 0.35) ** 2)
    light *= 1 - 0.72 * math.exp(-(((beside - 0.58 * nose_width) / 0.27) ** 2) - ((over_nose + 0.86) / 0.17) ** 2)
    inner_x, over_eye = beside - eyes.centre_x_cm + 0.9, y - eyes.centre_y_cm
    light *= 1 - 0.2 * math.exp(-(inner_x**2) - ((over_eye - 0.6) / 0.75) ** 2)
    bag_share = 0.1 + 0.12 * skin.wrinkles
    light *= 1 - bag_share * math.exp(-(((beside - eyes.centre_x_cm) / 1.5) ** 2) - ((over_eye + 1.25) / 0.4) ** 2)
    light *= 1 - 0.25 * math.exp(-((x / 1.5) ** 2) - ((y - mouth.centre_y_cm + mouth.lower_lip_cm + 0.3) / 0.25) ** 2)
    corner_x = beside - mouth.half_width_cm - 0.1
    light *= 1 - 0.3 * math.exp(-((corner_x / 0.3) ** 2) - ((y - mouth.centre_y_cm - 0.06) / 0.25) ** 2)
    return light * _folds(beside, y, skin, skull, mouth)


@njit(cache=True)
def _folds(beside, y, skin, skull, mouth):
    """Share of light in the folds from nose to mouth, and on a wrinkled forehead."""
    top_y, bottom_y = skull.nose_tip_y_cm - 0.2, mouth.centre_y_cm - 0.2
    down = (top_y - y) / (top_y - bottom_y)
    fold_x = 1.5 * skull.nose_half_width_cm + (mouth.half_width_cm + 0.55 - 1.5 * skull.nose_half_width_cm) * down
    share = ramp(-0.1, 0.2, down) * ramp(1.15, 0.7, down)
    light = 1 - (0.05 + 0.2 * skin.wrinkles) * share * bump((beside - fold_x) / 0.28)
    if skin.wrinkles > 0.3 and 5.0 < y < 7.6:
        wave = math.sin(4.2 * (y + 0.025 * beside * beside))
        light *= 1 - 0.12 * skin.wrinkles * ramp(0.6, 1.0, wave) * ramp(4.5, 2.5, beside)
    return light


@njit(cache=True)
def _beard_density(x, y, z, mouth, skull, beard):
    beside, over_mouth = abs(x), y - mouth.centre_y_cm
    # the upper edge of a full beard: under the lip, around the mouth, over the cheek, up to the ear
    if beside < mouth.half_width_cm + 0.3:
        rise = beside / (mouth.half_width_cm + 0.3)
        edge = mouth.centre_y_cm - mouth.lower_lip_cm - 0.3 + rise**3 * (mouth.lower_lip_cm + 1.4)
        # bare patches beside the tuft under the lip
        edge -= 0.45 * bump((beside - 1.3) / 0.6)
    else:
        edge = mouth.centre_y_cm + 1.1 + 0.3 * (beside - mouth.half_width_cm - 0.3)
        edge += 3.2 * ramp(5.0, 7.0, beside)
    below = ramp(edge + 0.4, edge - 0.4, y)
    chin_only = ramp(3.4, 2.6, beside)
    density = below * max(beard.cheeks * ramp(-2.6, -0.6, z), beard.chin * chin_only)
    # a moustache runs down to the beard
    droop = 0.1 * beside * beside
    lip_edge = mouth.upper_lip_cm * 0.85 + 0.05 - droop
    moustache = ramp(lip_edge - 0.12, lip_edge + 0.12, over_mouth)
    nose_edge = skull.nose_tip_y_cm - 0.95 - mouth.centre_y_cm - droop
    moustache *= ramp(nose_edge + 0.2, nose_edge - 0.4, over_mouth) * ramp(3.3, 2.6, beside)
    return max(density, beard.moustache * moustache)


@njit(cache=True)
def _bearded(rgb, gloss, x, y, z, mouth, skull, beard):
    if beard.cheeks + beard.chin + beard.moustache == 0:
        return rgb, gloss
    density = _beard_density(x, y, z, mouth, skull, beard)
    grain = 0.75 + 0.5 * value_noise(9.0 * x, 4.0 * y)
    share = min(1.0, density * grain)
    return mix(rgb, scale(beard.rgb, 0.8 + 0.4 * value_noise(11.0 * x + 3.0, 3.5 * y)), share), gloss * (1 - share)


@njit(cache=True)
def _hair_roots(rgb, inside_cm, x, y, hair_rgb, hair_density):
    """Let the skin take the hair's colour towards the hairline and under it."""
    share = ramp(-0.45, 0.35, inside_cm + 0.3 * (value_noise(5.0 * x, 5.0 * y) - 0.5))
    return mix(rgb, scale(hair_rgb, 0.8), share * (0.35 + 0.55 * hair_density))


@njit(cache=True)
def _hair_shadow(inside_cm, hair_density):
    return 1 - 0.3 * hair_density * ramp(-1.1, 0.0, inside_cm)


def lip_heights_cm(mouth: Mouth, x_cm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell how high the closed lips are painted.

    Args:
        mouth: Their shape.
        x_cm: Distances from the middle.

    Returns:
        Height of the upper and depth of the lower lip, from the line between them [cm].
    """
    heights_cm = np.array([_lip_heights(float(x), mouth) for x in x_cm])
    return heights_cm[:, 0], heights_cm[:, 1]


@njit(cache=True)
def _lip_heights(x, mouth):
    along = x / (1.03 * mouth.half_width_cm)
    rounding = max(0.0, 1 - along * along)
    bow = 1 - mouth.bow_depth * bump(x / 0.42) + 0.1 * bump((abs(x) - 0.65) / 0.4)
    return mouth.upper_lip_cm * rounding**0.8 * bow, mouth.lower_lip_cm * rounding**0.62


@njit(cache=True)
def _lips(rgb, gloss, x, y, mouth):
    along = x / (1.03 * mouth.half_width_cm)
    if abs(along) >= 1:
        return rgb, gloss, 1.0
    line = 0.08 * along * along - 0.05 * bump(along / 0.2)
    over_line = y - mouth.centre_y_cm - line
    upper, lower = _lip_heights(x, mouth)
    share = ramp(upper + EDGE_CM, upper - EDGE_CM, over_line) * ramp(-lower - EDGE_CM, -lower + EDGE_CM, over_line)
    if over_line > 0:
        tone = 0.82 * (1 - 0.12 * ramp(0.0, 1.0, over_line / (upper + 0.05)))
    else:
        swelling = (over_line + 0.42 * lower) / (0.25 * mouth.lower_lip_cm + 0.02)
        tone = 1.02 + 0.13 * bump(swelling) * bump(x / 1.2)
    tone *= 1 + 0.05 * math.sin(16.0 * x)
    # the wet edge is dark when the lips are closed, and looks thick when they are open
    seam = 1 - 0.6 * bump(over_line / 0.07) * ramp(1.0, 0.9, abs(along))
    light = 1 + (seam - 1) * share
    return mix(rgb, scale(mouth.lip_rgb, tone), share), gloss + (0.1 - gloss) * share, light


@njit(cache=True)
def _brow(rgb, gloss, x, y, eyes, brows):
    along = (abs(x) - eyes.centre_x_cm) / brows.length_cm
    if abs(along) > 1.2:
        return rgb, gloss
    arch = brows.arch_cm * (1 - (along - 0.25) ** 2 / 0.6)
    middle = eyes.centre_y_cm + brows.height_cm + arch + brows.slant * brows.length_cm * along
    # it thins out towards the temple
    thickness = brows.thickness_cm * (1 - 0.55 * ramp(-0.1, 1.0, along)) * ramp(-1.05, -0.75, along)
    thickness *= ramp(1.12, 0.9, along)
    share = ramp(1.2, 0.5, abs(y - middle) / (thickness + 1e-3)) * ramp(0.01, 0.05, thickness)
    share *= 0.7 + 0.3 * value_noise(7.0 * x - 5.0 * y, 4.0 * y)
    return mix(rgb, brows.rgb, share), gloss * (1 - share)


@njit(cache=True)
def _lids(rgb, x, over_cm, under_cm, eyes):
    along = (abs(x) - eyes.centre_x_cm) / eyes.half_width_cm
    if abs(along) > 1.3:
        return rgb, 1.0
    rounding = max(0.0, 1 - (along / 1.18) ** 2)
    within = ramp(1.12, 1.0, abs(along))
    crease_cm = 0.34 * math.sqrt(rounding)
    light = 1 - 0.33 * bump((over_cm - crease_cm) / 0.08) * rounding
    if over_cm < crease_cm:
        light *= 0.93
    # lashes are longer towards the temple
    lash_cm = eyes.lash_cm * (1 + 0.4 * along) * within
    share = 0.92 * ramp(lash_cm + 0.04, 0.6 * lash_cm, over_cm) * within
    share = max(share, 0.4 * ramp(0.08, 0.0, under_cm) * within)
    rim = 0.25 * ramp(0.3, 0.05, under_cm) * within
    rosy = (rgb[0], rgb[1] * 0.8, rgb[2] * 0.8)
    return mix(mix(rgb, rosy, rim), LASH_RGB, share), light
