import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_dawn.pictures import read_image
from real_inputs import REAL, needs_real

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)


@pytest.mark.parametrize(
    "as_source", [str, Path, Path.read_bytes, Image.open, lambda path: np.array(Image.open(path))]
)
def test_a_picture_is_the_same_from_every_kind_of_source(tmp_path, as_source):
    path = tmp_path / "picture.png"
    Image.fromarray(RED_GREEN).save(path)
    assert np.array_equal(read_image(as_source(path)), RED_GREEN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_a_tensor_has_its_channels_first(dtype):
    tensor = torch.from_numpy(RED_GREEN).permute(2, 0, 1)
    tensor = tensor if dtype == torch.uint8 else (tensor / 255).to(dtype)
    assert np.array_equal(read_image(tensor), RED_GREEN)


def test_float_arrays_span_0_to_1_and_grey_becomes_rgb():
    assert np.array_equal(read_image(RED_GREEN / 255.0), RED_GREEN)
    assert read_image(np.full((4, 5), 0.5)).shape == (4, 5, 3)
    assert read_image(np.full((4, 5, 1), 7, np.uint8)).max() == 7


def test_the_content_not_the_suffix_decides_about_the_format(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), "blue").save(path, format="JPEG")
    assert read_image(path)[0, 0, 2] > 250


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees: the left pixel belongs on top
    path = tmp_path / "phone.png"
    Image.fromarray(RED_GREEN).save(path, exif=exif)
    assert np.array_equal(read_image(path), RED_GREEN.transpose(1, 0, 2))


def test_transparency_is_laid_over_white(tmp_path):
    clear = np.zeros((2, 2, 4), np.uint8)
    assert read_image(clear).min() == 255
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").min() == 255


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((2, 2), 32_768, np.uint16)).save(tmp_path / "grey.png")
    assert np.array_equal(np.unique(read_image(tmp_path / "grey.png")), [127])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros((0, 2, 3), np.uint8), "shape"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape"),
        (torch.zeros(2, 2, 3), "shape"),
        (np.zeros((2, 2, 3), np.int64), "int64"),
        (np.full((2, 2, 3), 200.0), "0, 1"),
        (np.full((2, 2, 3), -0.1), "0, 1"),
        (np.full((2, 2, 3), np.nan), "nan"),
        (Image.new("F", (2, 2)), "floating-point"),
    ],
)
def test_a_bad_picture_array_is_an_error_that_names_the_argument(array, message):
    with pytest.raises(ValueError, match=rf"`portrait`.*{message}"):
        read_image(array, name="portrait")


def test_a_missing_picture_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="`image` does not exist"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_picture_is_an_error(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(content)


def test_a_truncated_picture_is_an_error(tmp_path):
    stored = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stored, format="JPEG")
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(stored.getvalue()[: len(stored.getvalue()) // 2])


def test_a_folder_and_another_kind_of_object_are_errors(tmp_path):
    with pytest.raises(ValueError, match="`image` is a directory"):
        read_image(tmp_path)
    with pytest.raises(TypeError, match="`image` is of type int"):
        read_image(3)


@needs_real
def test_the_jpeg_behind_a_png_name_is_read():
    assert read_image(REAL / "full_body.png").shape == (1200, 800, 3)


def test_a_picture_can_come_as_a_stream(tmp_path):
    Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(tmp_path / "picture.png")
    stream = io.BytesIO((tmp_path / "picture.png").read_bytes())
    assert read_image(stream).shape == (4, 5, 3)


def test_postscript_is_refused_and_not_run():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="`image` is an EPS file"):
        read_image(program)
