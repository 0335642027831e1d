from collections import Counter
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from training.synthetic.colour_tables import SKIN_SRGB, blend_rgb, linear_rgb
from training.synthetic.identity import BACKGROUND_STYLES, COLLARS, HAIR_STYLES, draw_identity

PEOPLE = [draw_identity(seed) for seed in range(400)]


def numbers_in(value):
    if isinstance(value, tuple):
        return [number for part in value for number in numbers_in(part)]
    return [value] if isinstance(value, (int, float)) else []


def test_one_seed_gives_one_person():
    assert draw_identity(7) == draw_identity(7)


def test_different_seeds_give_different_people():
    assert len({repr(person) for person in PEOPLE}) == len(PEOPLE)


def test_a_person_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        PEOPLE[0].seed = 1


@pytest.mark.parametrize("part", ["eyes", "brows", "mouth", "skin", "beard", "skull"])
def test_kernels_get_one_type_whoever_is_drawn(part):
    """Numba compiles anew for every type; an int among floats would cost seconds per person."""
    shapes = {tuple(type(number) for number in numbers_in(getattr(person, part))) for person in PEOPLE}
    assert len(shapes) == 1
    assert set(shapes.pop()) == {float}


def test_every_number_is_finite_and_every_colour_light():
    for person in PEOPLE:
        parts = [getattr(person, field.name) for field in fields(person)]
        assert np.isfinite([number for part in parts for number in numbers_in(part)]).all()
        for rgb in (person.skin.rgb, person.hair.rgb, person.mouth.lip_rgb, person.brows.rgb, person.clothes.main_rgb):
            assert 0 <= min(rgb) <= max(rgb) <= 1


def test_people_vary():
    assert {person.hair.style for person in PEOPLE} == set(HAIR_STYLES)
    assert {person.background.style for person in PEOPLE} == set(BACKGROUND_STYLES)
    assert {person.clothes.collar for person in PEOPLE} == set(range(len(COLLARS)))
    nearest = Counter(
        int(np.argmin([np.abs(np.subtract(linear_rgb(tone), person.skin.rgb)).sum() for tone in SKIN_SRGB]))
        for person in PEOPLE
    )
    assert len(nearest) == len(SKIN_SRGB) >= 8
    assert 0.15 < np.mean([person.glasses is not None for person in PEOPLE]) < 0.35
    assert 0.4 < np.mean([person.is_feminine for person in PEOPLE]) < 0.6
    assert 0.2 < np.mean([max(person.beard[:3]) > 0 for person in PEOPLE]) < 0.5


def test_the_light_comes_from_a_unit_vector_in_front():
    for person in PEOPLE:
        assert np.linalg.norm(person.light.direction) == pytest.approx(1)
        assert person.light.direction[2] > 0.5


def test_white_and_black_stay_what_they_are():
    assert linear_rgb((255, 255, 255)) == (1.0, 1.0, 1.0)
    assert linear_rgb((0, 0, 0)) == (0.0, 0.0, 0.0)
    assert blend_rgb((0.0, 0.5, 1.0), (1.0, 0.5, 0.0), 0.25) == (0.25, 0.5, 0.75)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="`seed` is -1, must not be negative"):
        draw_identity(-1)
