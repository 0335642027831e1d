"""`dawn animate --enhance`: larger frames by the portrait's own pixels, or by a function of the user's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import read_video
from synthetic_media import tone, write_audio

EXAMPLES = Path(__file__).parents[2] / "examples"
LEFT, TOP = 120, 90


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    """A tiny checkpoint (64 px), a short recording, a drawn portrait: plain, cut out, small, in a larger picture."""
    folder = tmp_path_factory.mktemp("enhance")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    write_audio(folder / "short.wav", tone(duration_s=0.12)[None], 16_000, "pcm_s16le")
    portrait = Image.open(EXAMPLES / "portrait_1.png").convert("RGB")
    portrait.save(folder / "portrait.png")
    portrait.resize((120, 120)).save(folder / "small.png")
    rows, columns = np.mgrid[: portrait.height, : portrait.width] - (portrait.width - 1) / 2
    circle = np.where(np.hypot(rows, columns) < portrait.width * 0.47, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([np.asarray(portrait), circle])).save(folder / "round.png")
    large = np.full((2 * portrait.height, 2 * portrait.width, 3), 128)
    large[TOP : TOP + portrait.height, LEFT : LEFT + portrait.width] = np.asarray(portrait)
    large += np.random.default_rng(0).integers(-12, 13, large.shape)  # grain, finer than the model can draw
    Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(folder / "large.png")
    return folder


def animate(inputs, output, *words, image="portrait.png", checkpoint=True):
    given = ["--image", inputs / image, "--audio", inputs / "short.wav", "-o", output, "--steps", "1"]
    given += ["--checkpoint", inputs / "tiny"] if checkpoint else []
    return main(["animate", *map(str, given), "--device", "cpu", *words])


def test_detail_makes_a_video_four_times_as_large(inputs, tmp_path, capsys):
    assert animate(inputs, tmp_path / "talk.mp4", "--enhance", "detail", "--label", "a label that needs room") == 0
    assert "enhanced to 256x256 by the portrait's own detail" in capsys.readouterr().out
    assert read_video(tmp_path / "talk.mp4")[0].shape == (3, 256, 256, 3)


def median_step(picture):
    """How much neighbouring pixels differ, of which edges are few."""
    return np.median(np.abs(np.diff(picture.astype(float), axis=1)))


def test_in_the_whole_picture_the_face_stays_as_sharp_as_its_surroundings(inputs, tmp_path):
    picture = np.asarray(Image.open(inputs / "large.png"))
    # hair, forehead and what is beside the head
    upper = slice(TOP + 20, TOP + 90), slice(LEFT + 60, LEFT + 196)
    grain = {"picture": median_step(picture[upper])}
    for name, words in {"plain": [], "enhanced": ["--enhance", "detail"]}.items():
        words += ["--full-image", "--head-motion", "0", "--size", "128"]
        assert animate(inputs, tmp_path / name, *words, image="large.png", checkpoint=False) == 0
        frame = np.asarray(Image.open(tmp_path / name / "frame_000001.png"))
        assert frame.shape == picture.shape
        assert np.array_equal(frame[:20], picture[:20])
        grain[name] = median_step(frame[upper])
    assert grain["plain"] < 0.5 * grain["picture"] and 0.7 * grain["picture"] < grain["enhanced"]


@pytest.mark.parametrize("words", [[], ["--background", "#00ff00"]])
def test_what_is_cut_out_is_enhanced_with_its_edge(inputs, tmp_path, words):
    assert animate(inputs, tmp_path / "frames", "--enhance", "detail", *words, image="round.png") == 0
    frame = np.asarray(Image.open(tmp_path / "frames" / "frame_000002.png")).astype(int)
    if words:
        assert frame.shape == (256, 256, 3) and np.abs(frame[3, 3] - (0, 255, 0)).max() == 0
    else:
        assert frame.shape == (256, 256, 4) and frame[3, 3, 3] == 0 and frame[128, 128, 3] == 255


def test_detail_that_the_portrait_does_not_have_is_refused(inputs, tmp_path, capsys):
    assert animate(inputs, tmp_path / "out.mp4", "--enhance", "detail", image="small.png") == 1
    error = capsys.readouterr().err
    assert "is detail, but the square around the face in `image` is 120 px wide, must be at least 128" in error
    assert list(tmp_path.iterdir()) == []


def test_memory_of_the_detail_is_planned(inputs, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (1500, 1200)).save(inputs / "huge.png")
    monkeypatch.setattr(DAWNPipeline, "available_memory", lambda pipe: 2**27)
    assert animate(inputs, tmp_path / "out.mp4", "--full-image", image="huge.png") == 1
    assert "; `--full-image` takes 0.1 GiB of it" in capsys.readouterr().err
    # 80 bytes a pixel of a square as wide as the picture: 0.17 GiB more
    assert animate(inputs, tmp_path / "out.mp4", "--enhance", "detail", "--full-image", image="huge.png") == 1
    assert "; `--full-image` with `--enhance` takes 0.3 GiB of it" in capsys.readouterr().err


@pytest.fixture
def own_functions(tmp_path, monkeypatch):
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "own_enhancers.py").write_text(
        "seen = []\n"
        "def negative_twice(frames):\n"
        "    seen.append(frames.shape)\n"
        "    return 255 - frames.repeat(2, axis=1).repeat(2, axis=2)\n"
        "def broken(frames):\n"
        "    return frames / 255\n"
    )
    monkeypatch.syspath_prepend(folder)


def test_a_function_of_the_users_gets_all_frames(inputs, tmp_path, own_functions):
    words = ["--enhance", "own_enhancers:negative_twice", "--label"]
    assert animate(inputs, tmp_path / "enhanced", *words) == 0
    import own_enhancers

    assert own_enhancers.seen == [(3, 64, 64, 3)]
    assert animate(inputs, tmp_path / "plain") == 0
    for index in range(3):
        enhanced, plain = (
            np.asarray(Image.open(tmp_path / name / f"frame_00000{index}.png")) for name in ("enhanced", "plain")
        )
        assert enhanced.shape == (128, 128, 3)
        assert np.array_equal(255 - enhanced[:96:2, :96:2], plain[:48, :48])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gfpgan", "`--enhance` is 'gfpgan', must be detail, or your own function as package.module:function"),
        ("no_such_module:f", "`--enhance` is 'no_such_module:f', which cannot be imported"),
        ("own_enhancers:f", "`--enhance` is 'own_enhancers:f', but own_enhancers has no function f"),
        ("own_enhancers:broken", "`--enhance` returned float64 (3, 64, 64, 3), must return a uint8 array"),
    ],
)
def test_what_cannot_enhance_is_one_line_and_writes_nothing(inputs, tmp_path, capsys, own_functions, given, message):
    assert animate(inputs, tmp_path / "out.mp4", "--enhance", given) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["functions"]
