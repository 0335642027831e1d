import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.colour_jitter import LUMA, ColourJitter


class Fixed:
    """Stands for a generator whose draw is known."""

    def __init__(self, *values: float):
        self.values = values

    def uniform(self, low: float, high: float, count: int) -> np.ndarray:
        assert (low, high, count) == (-1, 1, 4)
        return np.array(self.values)


def make_clip(num_frames: int = 4) -> torch.Tensor:
    return torch.rand(num_frames, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3


def test_jitter_without_strength_changes_nothing():
    clip = make_clip()
    torch.testing.assert_close(ColourJitter(0, 0, 0, 0)(clip, np.random.default_rng(0)), clip)


def test_brightness_multiplies():
    clip = make_clip()
    torch.testing.assert_close(ColourJitter(0.25, 0, 0, 0)(clip, Fixed(1, 1, 1, 1)), 1.25 * clip)


def test_contrast_spreads_about_mid_grey():
    clip = make_clip()
    torch.testing.assert_close(ColourJitter(0, 0.25, 0, 0)(clip, Fixed(1, -1, 1, 1)), 0.5 + 0.75 * (clip - 0.5))


def test_saturation_spreads_about_the_grey_of_the_same_luma():
    clip = make_clip()
    grey = (clip * torch.tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(ColourJitter(0, 0, 0.5, 0)(clip, Fixed(1, 1, -1, 1)), (clip + grey) / 2)


def test_a_third_of_a_turn_of_hue_swaps_the_channels():
    clip = make_clip()
    turned = ColourJitter(0, 0, 0, 0.5)(clip, Fixed(0, 0, 0, 2 / 3))
    torch.testing.assert_close(turned, clip.roll(1, dims=1))


def test_hue_and_saturation_leave_grey_alone():
    grey = torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(ColourJitter(0, 0, 1, 0.5)(grey, np.random.default_rng(3)), grey)


def test_steps_follow_each_other_as_brightness_contrast_saturation_hue():
    clip, draw, strengths = make_clip(), (0.2, -0.4, 0.3, 0.1), (0.1, 0.1, 0.1, 0.1)
    expected = clip
    for index in range(4):
        alone = ColourJitter(*(strengths[i] if i == index else 0 for i in range(4)))
        expected = alone(expected, Fixed(*draw))
    torch.testing.assert_close(ColourJitter(*strengths)(clip, Fixed(*draw)), expected)


@given(seed=st.integers(0, 2**32), strengths=st.tuples(*[st.floats(0, 1)] * 3, st.floats(0, 0.5)))
def test_every_frame_is_changed_alike_and_stays_in_range(seed, strengths):
    jitter, clip = ColourJitter(*strengths), make_clip()
    together = jitter(clip, np.random.default_rng(seed))
    apart = torch.cat([jitter(frame[None], np.random.default_rng(seed)) for frame in clip])
    torch.testing.assert_close(together, apart)
    assert together.min() >= 0 and together.max() <= 1


def test_the_seed_decides():
    jitter, clip = ColourJitter(64 / 255, 0.25, 0.25, 0.04), make_clip()
    first, same, other = (jitter(clip, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_half_precision_and_one_image_keep_dtype_and_shape():
    image = make_clip()[0].bfloat16()
    changed = ColourJitter(0.1, 0.1, 0.1, 0.1)(image, np.random.default_rng(0))
    assert changed.dtype == torch.bfloat16 and changed.shape == image.shape


def test_strengths_out_of_range_are_refused():
    for index, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        strengths = [0.1] * 4
        for strengths[index] in (-0.1, 1.1):
            with pytest.raises(ValueError, match=f"`{name}` is {strengths[index]}, must be within 0 and"):
                ColourJitter(*strengths)


def test_images_that_are_no_rgb_floats_are_refused():
    jitter, rng = ColourJitter(0.1, 0.1, 0.1, 0.1), np.random.default_rng(0)
    for images in (torch.rand(4, 4, 5, 5), torch.zeros(4, 3, 5, 5, dtype=torch.uint8), torch.rand(3, 5)):
        with pytest.raises(ValueError, match="`images` is"):
            jitter(images, rng)
