import re

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.media.backgrounds import colours_without_white, lay_over, read_background
from diffusers_dawn.media.frame_label import FrameLabel
from diffusers_dawn.media.pictures import read_image, read_image_and_opacity


@pytest.mark.parametrize("colour", ["#0080ff", "rgb(0, 128, 255)"])
def test_a_colour_fills_the_background(colour):
    background = read_background(colour, 3, 5)
    assert background.shape == (3, 5, 3) and (background == (0, 128, 255)).all()


def test_a_picture_covers_the_background_and_keeps_its_shape():
    columns = np.repeat(np.arange(0, 240, 20, dtype=np.uint8), 10)  # 120 wide
    picture = np.broadcast_to(columns[None, :, None], (60, 120, 3))
    background = read_background(np.ascontiguousarray(picture), 30, 30)
    assert background.shape == (30, 30, 3)
    # the middle square of it, at half its size
    assert np.abs(background[15].astype(int) - picture[30, 30:90:2]).max() < 20


@pytest.mark.parametrize("given", ["greenish", "#00ff0080", "hsl(1)", "nowhere.png"])
def test_what_is_neither_a_picture_nor_a_colour_is_an_error(given):
    with pytest.raises(ValueError, match=f"`scene` is '{re.escape(given)}', must be a picture"):
        read_background(given, 8, 8, "scene")


def test_frames_are_laid_over_by_their_opacity():
    frames = np.full((2, 4, 4, 4), 200, np.uint8)
    frames[..., 3] = [0, 51, 204, 255]
    background = np.full((4, 4, 3), 100, np.uint8)
    assert (lay_over(frames, background) == np.array([100, 120, 180, 200])[:, None]).all()
    for bad in (frames[..., :3], frames[0], frames.astype(np.float32)):
        with pytest.raises(ValueError, match="`frames` is .*, must be uint8 \\(N, H, W, 4\\)"):
            lay_over(bad, background)
    with pytest.raises(ValueError, match="`background` is uint8 \\(3, 4, 3\\), must be uint8 \\(4, 4, 3\\)"):
        lay_over(frames, background[:3])


def test_white_that_showed_through_is_taken_out():
    colours, opacity = np.array([0.2, 0.6, 1.0]), np.array([[0.5], [1.0], [0.1], [0.0]])
    over_white = colours * opacity + 1 - opacity
    np.testing.assert_allclose(colours_without_white(over_white, opacity)[:3], np.tile(colours, (3, 1)), atol=1e-6)
    assert (colours_without_white(over_white, opacity)[3] == 0).all()


def test_opacity_is_read_beside_the_picture(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), rgba):
        picture, opacity = read_image_and_opacity(source)
        assert np.array_equal(opacity, rgba[..., 3]) and np.array_equal(picture, read_image(source))
    rgba[..., 3] = 255
    for opaque in (rgba, rgba[..., :3], rgba[..., 0]):
        assert read_image_and_opacity(opaque)[1] is None


def test_a_label_is_seen_on_transparent_frames():
    frames = np.zeros((2, 64, 128, 4), np.uint8)
    labelled = FrameLabel("AI", 64, 128).draw(frames)
    assert labelled[:, -1, 0, 3].min() == 255 and labelled[:, :32].max() == 0 and frames.max() == 0
    assert labelled[..., :3].max() > 150  # small letters are grey at their edges
