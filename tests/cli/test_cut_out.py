"""`dawn animate` with transparent portraits: what the files say of opacity, and what shows behind the person."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import read_video
from real_inputs import REAL, needs_real
from synthetic_media import tone, write_audio

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    """A drawn portrait, transparent outside of a circle, in a larger transparent picture; a short recording."""
    folder = tmp_path_factory.mktemp("cut_out")
    portrait = Image.open(EXAMPLES / "portrait_1.png").convert("RGB")
    side = portrait.width
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    opacity = np.where(np.hypot(rows, columns) < side * 0.47, 255, 0).astype(np.uint8)
    cut = np.dstack([np.asarray(portrait), opacity])
    Image.fromarray(cut).save(folder / "round.png")
    large = np.zeros((side + 100, side + 140, 4), np.uint8)
    large[50:-50, 70:-70] = cut
    Image.fromarray(large).save(folder / "large.png")
    write_audio(folder / "short.wav", tone(duration_s=0.2)[None], 16_000, "pcm_s16le")
    return folder


def animate(inputs, output, *words, image="round.png"):
    given = ["--image", inputs / image, "--audio", inputs / "short.wav", "-o", output, "--preset", "fast"]
    return main(["animate", *map(str, given), "--device", "cpu", *words])


def opacity_in(path):
    """The fourth channel of every frame: by libvpx for WebM, where FFmpeg's own decoder passes over it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        frames = [frame for packet in container.demux(stream) if packet.size for frame in decoder.decode(packet)]
        frames += decoder.decode(None)
        return np.stack([frame.to_ndarray(format="rgba")[..., 3] for frame in frames])


@pytest.mark.parametrize("name", ["cut.mov", "cut.webm"])
def test_a_transparent_portrait_stays_transparent_where_the_file_can(inputs, tmp_path, capsys, name):
    assert animate(inputs, tmp_path / name) == 0
    assert "cut out by its own opacity" in capsys.readouterr().out
    opacity = opacity_in(tmp_path / name)
    assert opacity.shape == (5, 256, 256)
    corners, middle = opacity[:, [0, 0, -1, -1], [0, -1, 0, -1]], opacity[:, 64:192, 64:192]
    assert corners.max() < 20 and middle.min() > 235
    # a circle of 0.47 of the side
    assert (opacity > 127).mean() == pytest.approx(np.pi * 0.47**2, abs=0.05)


def test_the_whole_picture_stays_transparent_around_the_square(inputs, tmp_path):
    assert animate(inputs, tmp_path / "frames", "--full-image", "--label", image="large.png") == 0
    given = np.asarray(Image.open(inputs / "large.png"))
    frame = np.asarray(Image.open(tmp_path / "frames" / "frame_000004.png"))
    assert frame.shape == given.shape
    assert frame[:20, :, 3].max() == 0 and frame[-1, 0, 3] == 255  # the label
    middle = tuple(side // 2 for side in given.shape[:2])
    assert frame[(*middle, 3)] == 255


def test_the_picture_is_over_white_where_the_file_holds_no_opacity(inputs, tmp_path):
    assert animate(inputs, tmp_path / "plain.mp4") == 0
    assert read_video(tmp_path / "plain.mp4")[0][:, 2, 2].min() > 240


def test_a_background_shows_where_the_portrait_is_transparent(inputs, tmp_path):
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, :40, 0], halves[:, 40:, 2] = 255, 255
    Image.fromarray(halves).save(tmp_path / "halves.png")
    assert animate(inputs, tmp_path / "green.mp4", "--background", "#00ff00") == 0
    assert animate(inputs, tmp_path / "halves.mp4", "--background", str(tmp_path / "halves.png")) == 0
    assert animate(inputs, tmp_path / "plain.mp4") == 0
    green, both, plain = (read_video(tmp_path / f"{name}.mp4")[0].astype(int) for name in ("green", "halves", "plain"))
    # the codec keeps colours at half the resolution
    assert np.abs(green[:, 2, 2] - (0, 255, 0)).max() < 25
    assert np.abs(both[:, 2, 2] - (255, 0, 0)).max() < 25 and np.abs(both[:, 2, -3] - (0, 0, 255)).max() < 25
    assert np.abs(green[:, 48:80, 48:80] - plain[:, 48:80, 48:80]).mean() < 3


@needs_real
def test_a_person_is_found_in_a_photograph(inputs, tmp_path, capsys):
    words = ["--image", str(REAL / "portrait_1.jpeg"), "--transparent"]
    assert animate(inputs, tmp_path / "cut.mov", *words) == 0
    assert "cut out by the person found in the picture" in capsys.readouterr().out
    opacity = opacity_in(tmp_path / "cut.mov")
    assert opacity[:, 54:74, 54:74].min() > 200
    assert opacity[:, :6].min() < 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--transparent"],
            "`output` ends in '.mp4': {output}, which holds no transparency; must end in",
        ),
        (["--background", "greenish"], "`--background` is 'greenish', must be a picture's file, or an opaque colour"),
        (
            ["--background", "#00ff0080"],
            "`--background` is '#00ff0080', must be a picture's file",
        ),
        (["--background", __file__], "`--background` cannot be read as a picture"),
        (["--background", "white", "--transparent"], "`output` ends in '.mp4'"),
    ],
)
def test_what_cannot_be_cut_out_is_one_line_and_writes_nothing(inputs, tmp_path, capsys, words, message):
    output = tmp_path / "out.mp4"
    assert animate(inputs, output, *words) == 1
    assert message.format(output=output) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_background_and_transparency_are_one_or_the_other(inputs, tmp_path, capsys):
    assert animate(inputs, tmp_path / "out.mov", "--background", "white", "--transparent") == 1
    assert "`--background` fills what `--transparent` leaves free; give only one of them" in capsys.readouterr().err
