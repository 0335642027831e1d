"""Who is shown: everything about a synthetic person that does not change from frame to frame.

Head frame: centimetres, x to the image's right, y up, z towards the viewer; the origin lies between nose tip and eyes,
about where MediaPipe's canonical face has its own. Colours are linear light, not sRGB. The parts are named tuples of
numbers, because numba's kernels take those as they are.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training.synthetic import colour_tables
from training.synthetic.colour_tables import Rgb, blend_rgb, linear_rgb


class Skull(NamedTuple):
    """Shape of the head, neck and shoulders; the exponents bend the outline of the jaw."""

    half_width_cm: float
    crown_y_cm: float
    chin_y_cm: float
    jaw_exponent: float
    cheekbone_cm: float
    chin_bump_cm: float
    brow_ridge_cm: float
    nose_length_cm: float
    nose_half_width_cm: float
    nose_tip_y_cm: float
    ear_size: float
    neck_half_width_cm: float
    shoulder_half_width_cm: float


class Eyes(NamedTuple):
    """Both eyes mirrored; `slant` is the rise of the outer corner per centimetre."""

    centre_x_cm: float
    centre_y_cm: float
    half_width_cm: float
    aperture_cm: float
    slant: float
    lash_cm: float
    iris_rgb: Rgb


class Brows(NamedTuple):
    """Both brows mirrored; `height_cm` counts from the eye's centre."""

    height_cm: float
    thickness_cm: float
    length_cm: float
    arch_cm: float
    slant: float
    rgb: Rgb


class Mouth(NamedTuple):
    """The closed mouth; lip heights count from the line between the lips."""

    centre_y_cm: float
    half_width_cm: float
    upper_lip_cm: float
    lower_lip_cm: float
    bow_depth: float
    lip_rgb: Rgb


class Skin(NamedTuple):
    """Colour of the skin and what varies on it; strengths are 0 to 1."""

    rgb: Rgb
    blush: float
    freckles: float
    wrinkles: float
    gloss: float


class Beard(NamedTuple):
    """Where a beard grows; densities are 0 to 1."""

    cheeks: float
    chin: float
    moustache: float
    length_cm: float
    rgb: Rgb


class Hair(NamedTuple):
    """Hair of the head; `style` is one of `HAIR_STYLES`."""

    style: str
    rgb: Rgb
    hairline_y_cm: float
    parting_side: float
    fringe: float
    volume: float
    seed: int


class Glasses(NamedTuple):
    """Spectacles: half the size of a lens, and how far its outline is from an ellipse (1) to a rectangle (0.5)."""

    half_width_cm: float
    half_height_cm: float
    roundness: float
    rim_cm: float
    rgb: Rgb


class Clothes(NamedTuple):
    """What is worn; `collar` is one of `COLLARS`, `pattern` one of `PATTERNS`, by position."""

    collar: int
    pattern: int
    main_rgb: Rgb
    second_rgb: Rgb


class Background(NamedTuple):
    """What is behind; `style` is one of `BACKGROUND_STYLES`."""

    style: str
    near_rgb: Rgb
    far_rgb: Rgb
    seed: int


class Light(NamedTuple):
    """One large lamp of a colour, and light from everywhere; `direction` is a unit vector towards the lamp."""

    direction: tuple[float, float, float]
    rgb: Rgb
    ambient: float


FEMININE_STYLES = ("bob", "long", "wavy", "updo", "ponytail", "curly", "parted")
MASCULINE_STYLES = ("short", "parted", "buzz", "quiff", "curly", "short", "receding", "bald", "horseshoe")
HAIR_STYLES = tuple(sorted({*FEMININE_STYLES, *MASCULINE_STYLES}))
COLLARS = ("crew", "v_neck", "jacket", "turtleneck", "shirt")
PATTERNS = ("plain", "stripes", "checks", "plain")
BACKGROUND_STYLES = ("wall", "glow", "lights", "panels", "shelves", "window")
# cheeks, chin, moustache, length [cm]
BEARDS = (
    (0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0),
    (0.25, 0.28, 0.25, 0.0),
    (0.5, 0.55, 0.5, 0.05),
    (0.85, 0.9, 0.85, 0.35),
    (0.0, 0.85, 0.8, 0.25),
    (0.0, 0.0, 0.85, 0.08),
)


@dataclass(frozen=True)
class Identity:
    """A synthetic person in front of a background under a light.

    Attributes:
        seed: What it was drawn from.
        is_feminine: Which of two overlapping distributions it was drawn from; a voice may be chosen to fit.
        skull: Shape of the head.
        eyes: Shape and colour of the eyes.
        brows: Shape and colour of the brows.
        mouth: Shape and colour of the lips.
        skin: Colour of the skin.
        beard: Where a beard grows.
        hair: Hair of the head.
        glasses: Spectacles, or None.
        clothes: What is worn.
        background: What is behind.
        light: The lamp.
    """

    seed: int
    is_feminine: bool
    skull: Skull
    eyes: Eyes
    brows: Brows
    mouth: Mouth
    skin: Skin
    beard: Beard
    hair: Hair
    glasses: Glasses | None
    clothes: Clothes
    background: Background
    light: Light


def draw_identity(seed: int) -> Identity:
    """Draw a person at random.

    Args:
        seed: Non-negative number; the same seed always gives the same person.

    Returns:
        The person.

    Raises:
        ValueError: `seed` is negative.
    """
    if seed < 0:
        raise ValueError(f"`seed` is {seed}, must not be negative")
    rng = np.random.default_rng(seed)
    is_feminine = bool(rng.random() < 0.5)
    skin = _draw_skin(rng, is_feminine)
    hair = _draw_hair(rng, is_feminine, skin.rgb)
    return Identity(
        seed=seed,
        is_feminine=is_feminine,
        skull=_draw_skull(rng, is_feminine),
        eyes=_draw_eyes(rng, is_feminine, skin.rgb),
        brows=_draw_brows(rng, is_feminine, hair.rgb, skin.rgb),
        mouth=_draw_mouth(rng, is_feminine, skin.rgb),
        skin=skin,
        beard=_draw_beard(rng, is_feminine, hair.rgb),
        hair=hair,
        glasses=_draw_glasses(rng),
        clothes=_draw_clothes(rng),
        background=_draw_background(rng),
        light=_draw_light(rng),
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _choose(rng: np.random.Generator, options: tuple) -> tuple:
    return options[int(rng.integers(len(options)))]


def _jittered(rng: np.random.Generator, srgb: tuple[int, int, int], spread: float = 4.0) -> Rgb:
    return linear_rgb(np.asarray(srgb) + rng.normal(0, spread, 3))


def _draw_skin(rng: np.random.Generator, is_feminine: bool) -> Skin:
    rgb = _jittered(rng, _choose(rng, colour_tables.SKIN_SRGB))
    is_light = sum(rgb) / 3 > 0.4
    freckles = _uniform(rng, 0.3, 0.7) if is_light and rng.random() < 0.25 else 0.0
    wrinkles = float(rng.random() ** 2)
    return Skin(rgb, _uniform(rng, 0.08, 0.22) + 0.15 * is_feminine, freckles, wrinkles, _uniform(rng, 0.6, 1.4))


def _draw_hair(rng: np.random.Generator, is_feminine: bool, skin_rgb: Rgb) -> Hair:
    is_dark_skinned = sum(skin_rgb) / 3 < 0.2
    colours = (
        colour_tables.HAIR_SRGB[: colour_tables.NUM_DARK_HAIR_COLOURS] if is_dark_skinned else colour_tables.HAIR_SRGB
    )
    fate = rng.random()
    srgb = _choose(
        rng, colour_tables.GREY_HAIR_SRGB if fate < 0.14 else colour_tables.DYED_HAIR_SRGB if fate > 0.95 else colours
    )
    return Hair(
        style=_choose(rng, FEMININE_STYLES if is_feminine else MASCULINE_STYLES),
        rgb=_jittered(rng, srgb),
        hairline_y_cm=_uniform(rng, 7.4, 8.4) + 0.4 * (not is_feminine),
        parting_side=float(rng.choice((-1.0, 1.0))),
        fringe=float(max(_uniform(rng, -0.7, 1.0), 0.0)),
        volume=_uniform(rng, 0.8, 1.25),
        seed=int(rng.integers(2**31)),
    )


def _draw_skull(rng: np.random.Generator, is_feminine: bool) -> Skull:
    masculine = float(not is_feminine)
    return Skull(
        half_width_cm=_uniform(rng, 6.7, 7.5) + 0.2 * masculine,
        crown_y_cm=_uniform(rng, 11.0, 12.2),
        chin_y_cm=_uniform(rng, -9.6, -8.7) - 0.25 * masculine,
        jaw_exponent=_uniform(rng, 2.0, 2.7) + 0.5 * masculine,
        cheekbone_cm=_uniform(rng, 0.15, 0.6),
        chin_bump_cm=_uniform(rng, 0.25, 0.8),
        brow_ridge_cm=_uniform(rng, 0.15, 0.35) + 0.15 * masculine,
        nose_length_cm=_uniform(rng, 2.0, 2.9),
        nose_half_width_cm=_uniform(rng, 0.78, 1.15),
        nose_tip_y_cm=_uniform(rng, -1.3, -0.6),
        ear_size=_uniform(rng, 0.88, 1.12),
        neck_half_width_cm=_uniform(rng, 4.2, 4.7) + 0.8 * masculine,
        shoulder_half_width_cm=_uniform(rng, 14.5, 16.0) + 2.5 * masculine,
    )


def _draw_eyes(rng: np.random.Generator, is_feminine: bool, skin_rgb: Rgb) -> Eyes:
    irises = (
        colour_tables.IRIS_SRGB
        if sum(skin_rgb) / 3 > 0.4
        else colour_tables.IRIS_SRGB[: colour_tables.NUM_BROWN_IRISES]
    )
    half_width_cm = _uniform(rng, 1.5, 1.75) + 0.06 * is_feminine
    return Eyes(
        centre_x_cm=_uniform(rng, 3.05, 3.4),
        centre_y_cm=_uniform(rng, 2.2, 2.75),
        half_width_cm=half_width_cm,
        aperture_cm=half_width_cm * _uniform(rng, 0.54, 0.68) + 0.05 * is_feminine,
        slant=_uniform(rng, -0.04, 0.13),
        lash_cm=_uniform(rng, 0.06, 0.1) + 0.06 * is_feminine,
        iris_rgb=_jittered(rng, _choose(rng, irises), 3.0),
    )


def _draw_brows(rng: np.random.Generator, is_feminine: bool, hair_rgb: Rgb, skin_rgb: Rgb) -> Brows:
    darkened = tuple(0.6 * channel for channel in hair_rgb)
    return Brows(
        height_cm=_uniform(rng, 1.65, 2.1),
        thickness_cm=_uniform(rng, 0.24, 0.42) * (0.85 if is_feminine else 1.15),
        length_cm=_uniform(rng, 1.8, 2.2),
        arch_cm=_uniform(rng, 0.05, 0.45),
        slant=_uniform(rng, -0.14, 0.05),
        rgb=blend_rgb(darkened, skin_rgb, 0.08),
    )


def _draw_mouth(rng: np.random.Generator, is_feminine: bool, skin_rgb: Rgb) -> Mouth:
    fullness = _uniform(rng, 0.75, 1.15) + 0.15 * is_feminine
    rose = (_uniform(rng, 0.5, 0.72), _uniform(rng, 0.1, 0.22), _uniform(rng, 0.13, 0.26))
    brightness = max(0.4, min(1.0, 1.6 * sum(skin_rgb) / 3))
    tinted = tuple(channel * brightness for channel in rose)
    return Mouth(
        centre_y_cm=_uniform(rng, -4.7, -4.15),
        half_width_cm=_uniform(rng, 2.25, 2.75),
        upper_lip_cm=0.6 * fullness * _uniform(rng, 0.85, 1.1),
        lower_lip_cm=0.8 * fullness * _uniform(rng, 0.9, 1.15),
        bow_depth=_uniform(rng, 0.1, 0.38),
        lip_rgb=blend_rgb(skin_rgb, tinted, _uniform(rng, 0.28, 0.42) + (0.22 * is_feminine)),
    )


def _draw_beard(rng: np.random.Generator, is_feminine: bool, hair_rgb: Rgb) -> Beard:
    cheeks, chin, moustache, length_cm = BEARDS[0] if is_feminine else _choose(rng, BEARDS)
    return Beard(cheeks, chin, moustache, length_cm, tuple(0.75 * channel for channel in hair_rgb))


def _draw_glasses(rng: np.random.Generator) -> Glasses | None:
    if rng.random() > 0.25:
        return None
    half_width_cm = _uniform(rng, 2.05, 2.4)
    return Glasses(
        half_width_cm=half_width_cm,
        half_height_cm=half_width_cm * _uniform(rng, 0.68, 0.92),
        roundness=_uniform(rng, 0.5, 1.0),
        rim_cm=_uniform(rng, 0.1, 0.18),
        rgb=_jittered(rng, _choose(rng, ((30, 28, 30), (96, 60, 36), (70, 74, 88), (150, 120, 70)))),
    )


def _draw_clothes(rng: np.random.Generator) -> Clothes:
    main, second = rng.permutation(len(colour_tables.CLOTH_SRGB))[:2]
    return Clothes(
        collar=int(rng.integers(len(COLLARS))),
        pattern=int(rng.integers(len(PATTERNS))),
        main_rgb=_jittered(rng, colour_tables.CLOTH_SRGB[main]),
        second_rgb=_jittered(rng, colour_tables.CLOTH_SRGB[second]),
    )


def _draw_background(rng: np.random.Generator) -> Background:
    near, far = _choose(rng, colour_tables.BACKGROUND_SRGB)
    style = _choose(rng, BACKGROUND_STYLES)
    return Background(style, _jittered(rng, near), _jittered(rng, far), int(rng.integers(2**31)))


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth_rad = _uniform(rng, -0.8, 0.8)
    direction = np.array([0.8 * np.sin(azimuth_rad), _uniform(rng, 0.25, 0.6), 0.75])
    x, y, z = direction / np.linalg.norm(direction)
    warmth, strength = _uniform(rng, -0.05, 0.07), _uniform(rng, 0.92, 1.08)
    rgb = (strength * (1 + warmth), strength, strength * (1 - warmth))
    return Light((float(x), float(y), float(z)), rgb, _uniform(rng, 0.2, 0.3))
