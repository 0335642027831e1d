import io
import os
import struct
import tempfile
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from diffusers_dawn.media.pictures import read_image
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


def test_sixteen_bits_that_pillow_widens_are_scaled_too():
    file = io.BytesIO(b"P5 2 2 65535\n" + np.full((2, 2), 32_768, ">u2").tobytes())
    assert Image.open(file).mode == "I"
    assert np.array_equal(np.unique(read_image(file)), [127])


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
        (Image.new("RGB", (0, 2)), "is 0x2 px, must have pixels"),
        (Image.new("F", (2, 2)), "floating-point"),
        (Image.new("I", (2, 2), 200), "32-bit pixels without a known range"),
    ],
)
def test_a_bad_picture_array_is_an_error_that_names_the_argument(array, message):
    with pytest.raises(ValueError, match=rf"`portrait`.*{message}"):
        read_image(array, name="portrait")


def test_a_missing_picture_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="`image` does not exist"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"no picture", b"\x89PNG\r\n\x1a\n broken"])
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


def test_a_truncated_picture_that_pillow_has_opened_is_an_error(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "picture.jpg")
    content = (tmp_path / "picture.jpg").read_bytes()
    (tmp_path / "picture.jpg").write_bytes(content[: len(content) // 2])
    message = r"`image` cannot be read as a picture \(JpegImageFile\): .*truncated"
    with Image.open(tmp_path / "picture.jpg") as picture, pytest.raises(ValueError, match=message):
        read_image(picture)


def stored(file_format, **options):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, format=file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "file_format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "DDS", "JPEG2000", "ICO"]
)
def test_a_damaged_picture_of_any_format_is_read_or_refused_in_one_sentence(file_format):
    if file_format not in Image.registered_extensions().values():
        pytest.skip(f"this Pillow has no {file_format}")
    intact, refused = stored(file_format), 0
    rng = np.random.default_rng(0)
    for length in [len(intact)] * 40 + [*range(8, 60)]:
        damaged = np.frombuffer(intact, np.uint8)[:length].copy()
        damaged[rng.integers(4, min(len(damaged), 120), 4)] = rng.integers(0, 256, 4)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about sizes and truncated tags
                assert read_image(damaged.tobytes()).shape[2] == 3
        except ValueError as error:
            assert str(error).startswith("`image` ")
            refused += 1
    assert refused


def test_an_animation_is_read_with_a_warning(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "both.gif", save_all=True, append_images=[blue])
    for source in (tmp_path / "both.gif", Image.open(tmp_path / "both.gif")):
        with pytest.warns(UserWarning, match="`image` holds several pictures; the first is used"):
            assert read_image(source)[0, 0].tolist() == [255, 0, 0]


def test_a_photograph_with_a_preview_is_read_without_a_warning(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[blue])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "phone.jpg")[0, 0, 0] > 250


def test_heic_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    for source in (path, path.read_bytes()):
        with pytest.raises(
            ValueError, match="`image` is a HEIC file, which is not supported; convert it to JPEG or PNG"
        ):
            read_image(source)


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


class OnlyReads:
    """The least that a stream can be."""

    def __init__(self, content):
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize("make", [tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile])
def test_a_temporary_file_is_read_and_stays_usable(make):
    content = stored("PNG")
    with make() as file:
        file.write(content)
        assert np.array_equal(read_image(file), read_image(content))
        file.seek(0)
        assert file.read() == content


def test_a_picture_can_come_from_an_object_that_only_reads():
    assert read_image(OnlyReads(stored("PNG"))).shape == (64, 64, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_picture_can_come_through_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(stored("PNG"),))
    feeder.start()
    assert read_image(tmp_path / "pipe").shape == (64, 64, 3)
    feeder.join()


def test_postscript_is_refused_and_not_run():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="`image` is an EPS file"):
        read_image(program)
    with Image.open(io.BytesIO(program)) as picture, pytest.raises(ValueError, match="`image` is an EPS file"):
        read_image(picture)


def with_profile(picture: Image.Image, profile: bytes) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG" if picture.mode != "CMYK" else "TIFF", icc_profile=profile)
    return content.getvalue()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1"])
def test_the_profile_of_srgb_changes_nothing_in_any_mode(mode):
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5).convert(mode)
    plain = io.BytesIO()
    picture.save(plain, "PNG")
    difference = read_image(with_profile(picture, SRGB)).astype(int) - read_image(plain.getvalue())
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("picture", "profile"),
    [(Image.new("RGB", (4, 4), "red"), b"no profile"), (Image.new("CMYK", (4, 4), "red"), SRGB[:200])],
)
def test_a_profile_that_cannot_be_used_is_warned_about_and_the_picture_read(picture, profile):
    with pytest.warns(UserWarning, match="`image` has colours that cannot be converted .*; they may be off"):
        assert read_image(with_profile(picture, profile)).shape == (4, 4, 3)


def with_chunks(picture: Image.Image, **chunks: bytes) -> bytes:
    """Write a PNG with further chunks before its pixels."""
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    header, rest = stored.getvalue()[:33], stored.getvalue()[33:]
    for kind, content in chunks.items():
        body = kind.encode() + content
        header += struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    return header + rest


GREY = Image.new("RGB", (4, 100), (112, 112, 112))


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ({"gAMA": struct.pack(">I", 45_455)}, 112),
        # light of .439 is code 177 of sRGB (IEC 61966-2-1)
        ({"gAMA": struct.pack(">I", 100_000)}, 177),
        ({"gAMA": struct.pack(">I", 100_000), "sRGB": b"\0"}, 112),
        ({"cICP": bytes([1, 13, 0, 1]), "gAMA": struct.pack(">I", 100_000)}, 112),
        ({"cICP": bytes([1, 8, 0, 1])}, 177),
        # code .439 of PQ is 49.4 cd/m2 (SMPTE ST 2084), .494 of SDR's white, code 187 of sRGB
        ({"cICP": bytes([9, 16, 0, 1])}, 187),
        ({"cICP": bytes([12, 13, 0, 1])}, 112),
        # grey stays grey in any primaries and under any white, here those of ProPhoto RGB
        ({"cHRM": struct.pack(">8I", 34_570, 35_850, 73_470, 26_530, 15_960, 84_040, 3_660, 10)}, 112),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_brightness_is_what_the_chunks_of_a_png_say(chunks, shown, mode):
    content = with_chunks(GREY.convert("L").convert(mode), **chunks)
    np.testing.assert_allclose(read_image(content).astype(int), shown, atol=1)
    with Image.open(io.BytesIO(content)) as picture:
        np.testing.assert_allclose(read_image(picture).astype(int), shown, atol=1)


P3_CHROMATICITIES = struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


@pytest.mark.parametrize("chunks", [{"cICP": bytes([12, 13, 0, 1])}, {"cHRM": P3_CHROMATICITIES}])
def test_colours_of_a_wide_gamut_are_widened(chunks):
    # red of Display P3 lies beyond sRGB; its skin tones become more colourful by these numbers of CSS Color 4
    skin = with_chunks(Image.new("RGB", (2, 200), (224, 172, 140)), **chunks)
    np.testing.assert_allclose(read_image(skin)[[0, -1], 0], [[233, 170, 135]] * 2, atol=2)
    red = with_chunks(Image.new("RGB", (2, 2), (255, 0, 0)), **chunks)
    assert read_image(red)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.skipif("AVIF" not in Image.registered_extensions().values(), reason="this Pillow has no AVIF")
@pytest.mark.parametrize(
    ("code", "shown"), [((1, 13), (224, 172, 140)), ((12, 13), (233, 170, 135)), ((2, 2), (224, 172, 140))]
)
def test_colours_of_an_avif_are_those_of_its_primaries(code, shown):
    stored = io.BytesIO()
    Image.new("RGB", (64, 64), (224, 172, 140)).save(stored, "AVIF", quality=100, subsampling="4:4:4")
    content = bytearray(stored.getvalue())
    place = content.index(b"colrnclx") + 8
    content[place : place + 4] = struct.pack(">2H", *code)
    np.testing.assert_allclose(read_image(bytes(content))[32, 32], shown, atol=3)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ({"gAMA": struct.pack(">I", 0)}, "its gAMA is 0"),
        ({"cHRM": bytes(32)}, "its cHRM describes no colours"),
        ({"cHRM": b"\xff" * 32}, "its cHRM describes no colours"),
        ({"cICP": bytes([1, 13, 1, 1])}, "its colour code is 1, 13, 1, 1"),
        ({"cICP": bytes([1, 13, 0, 0])}, "its colour code is 1, 13, 0, 0"),
        ({"cICP": bytes([77, 13, 0, 1])}, "its colour code is 77, 13, 0, 1"),
    ],
)
def test_colours_that_a_png_describes_in_an_unknown_way_are_warned_about(chunks, reason):
    with pytest.warns(UserWarning, match=f"`image` has colours that cannot be converted .{reason}.; they may be off"):
        assert read_image(with_chunks(GREY, **chunks)).max() == 112


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    content = bytearray(with_profile(Image.new("1", (8, 8)), SRGB))
    content[16:24] = struct.pack(">II", 13_000, 10_000)  # of the header, whose checksum follows
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ValueError, match="`image` is 13000x10000 px, must have 120 megapixels at most"):
        read_image(bytes(content))


def test_a_picture_that_does_not_fit_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr("diffusers_dawn.media.pictures.free_bytes", lambda: 1000)
    with pytest.raises(ValueError, match="`image` is 10x10 px, .* and fit in memory"):
        read_image(Image.new("RGB", (10, 10)))
