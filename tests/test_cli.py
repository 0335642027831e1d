"""The `dawn` command as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.cli import main
from diffusers_dawn.video_writer import VideoWriter, write_video
from diffusers_dawn.videos import read_video
from real_inputs import REAL, needs_real
from synthetic_media import moving_frames, tone

EXAMPLES = Path(__file__).parents[1] / "examples"

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny checkpoint, a short recording, a picture without a face."""
    folder = tmp_path_factory.mktemp("cli")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    write_wav(folder / "speech.wav", tone(duration_s=0.52))
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "blank.png")
    return folder


def write_wav(path, samples):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def animate(folder, output, **arguments):
    defaults = {
        "image": REAL / "portrait_1.jpeg",
        "audio": folder / "speech.wav",
        "checkpoint": folder / "tiny",
        "steps": 1,
        "device": "cpu",
    }
    words = ["animate", "-o", str(output)]
    for name, value in (defaults | arguments).items():
        if value is None:
            continue
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return main(words)


@needs_real
def test_video_has_the_recordings_length_sound_and_a_browsers_codecs(folder, tmp_path, capsys, detector):
    output = tmp_path / "talk.mp4"
    assert animate(folder, output) == 0
    with av.open(str(output)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, audio.codec_context.name) == ("h264", "yuv420p", "aac")
        assert (video.frames, video.average_rate, video.width, video.height) == (13, 25, 64, 64)
        assert container.metadata["comment"] == "synthetic video made by diffusers_dawn with tiny, seed 0"
    printed = capsys.readouterr().out
    for wanted in ("face:", "13 frames at 64x64", "GiB of memory", "seconds:", "denoising", f"wrote {output}"):
        assert wanted in printed
    assert os.listdir(tmp_path) == ["talk.mp4"]


@needs_real
def test_same_seed_gives_the_same_video_and_another_seed_another(folder, tmp_path, detector, monkeypatch):
    # compared before the encoder: of 64 px, x264 does not give the same bytes every time, even in one thread
    written, write = [], VideoWriter.write

    def write_and_remember(writer, frames):
        written.append((writer.path.stem, frames.copy()))
        write(writer, frames)

    monkeypatch.setattr(VideoWriter, "write", write_and_remember)
    for index, seed in enumerate([3, 3, 4]):
        assert animate(folder, tmp_path / f"{index}.mp4", seed=seed) == 0
    videos = [np.concatenate([frames for stem, frames in written if stem == name]) for name in "012"]
    assert np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])


@needs_real
def test_presets_name_their_sampler_and_steps(folder, tmp_path, capsys, detector):
    for arguments, wanted in (
        ({}, "10 steps of DDIM"),
        ({"preset": "fast"}, "4 steps of DDIM"),
        ({"preset": "quality"}, "20 steps of DAWNDDIM"),
        ({"scheduler": "dawn"}, "10 steps of DAWNDDIM"),
    ):
        assert animate(folder, tmp_path / "out.mp4", steps=None, **arguments) == 0
        assert wanted in capsys.readouterr().out


@needs_real
@pytest.mark.parametrize("arguments", [{"label": True}, {"label": "made by me", "full_image": True}])
def test_a_label_is_seen_in_the_corner_of_every_frame(folder, tmp_path, detector, monkeypatch, arguments):
    written, write = [], VideoWriter.write

    def write_and_remember(writer, frames):
        written.append(frames.copy())
        write(writer, frames)

    monkeypatch.setattr(VideoWriter, "write", write_and_remember)
    assert animate(folder, tmp_path / "plain.mp4", **arguments | {"label": None}) == 0
    plain, written[:] = np.concatenate(written), []
    assert animate(folder, tmp_path / "labelled.mp4", **arguments) == 0
    changed = (np.concatenate(written) != plain).any(axis=-1)
    assert changed[:, -3:, :20].any(axis=(1, 2)).all()
    assert not changed[:, : changed.shape[1] // 2].any()


@needs_real
def test_full_image_keeps_the_picture_around_the_face(folder, tmp_path, detector):
    output = tmp_path / "full.mp4"
    assert animate(folder, output, image=REAL / "full_body.png", full_image=True) == 0
    frames, _ = read_video(output)
    picture = np.asarray(Image.open(REAL / "full_body.png").convert("RGB"))
    assert frames.shape[1:] == picture.shape
    feet = slice(picture.shape[0] * 3 // 4, None)
    # the codec's loss
    assert np.abs(frames[-1][feet].astype(int) - picture[feet]).mean() < 4


@needs_real
def test_windows_can_be_asked_for_and_are_announced(folder, tmp_path, capsys, detector):
    output = tmp_path / "windows.mp4"
    assert animate(folder, output, window_frames=8, window_overlap=2) == 0
    assert "2 overlapping windows of 8 frames, about" in capsys.readouterr().out
    assert len(read_video(output)[0]) == 13


@needs_real
def test_short_clip_is_one_pass(folder, tmp_path, capsys, detector):
    assert animate(folder, tmp_path / "one.mp4") == 0
    assert "one pass, about" in capsys.readouterr().out


@needs_real
def test_pose_can_come_from_another_video(folder, tmp_path, capsys, detector):
    assert animate(folder, tmp_path / "driven.mp4", pose_from=REAL / "speaker_25fps.mp4", debug=True) == 0
    printed = capsys.readouterr().out
    assert "driving video" in printed
    assert "pose and blink 0.0" in printed


@needs_real
@pytest.mark.parametrize("scheduler", ["unipc", "EulerDiscreteScheduler"])
def test_scheduler_can_be_named(folder, tmp_path, capsys, detector, scheduler):
    assert animate(folder, tmp_path / "out.mp4", scheduler=scheduler) == 0
    assert "Scheduler" in capsys.readouterr().out


@pytest.fixture
def bad(folder, tmp_path):
    """Files that cannot serve, by name."""
    (tmp_path / "inputs").mkdir()
    made = tmp_path / "inputs"
    (made / "text.png").write_text("no picture")
    (made / "empty.wav").write_bytes(b"")
    write_wav(made / "short.wav", tone(duration_s=0.01))
    write_video(made / "silent_film.mp4", moving_frames())
    (made / "broken").mkdir()
    (made / "broken" / "model_index.json").write_text('{"_class_name": "DAWNPipeline", "unet": ["x", "Y"]}')
    return made


BAD_ARGUMENTS = [
    ({"image": "{bad}/text.png"}, "`image`"),
    ({"image": "{bad}/nothing.png"}, "`image`"),
    ({"image": "{folder}/blank.png"}, "no face found in `image`"),
    ({"audio": "{bad}/nothing.wav"}, "`audio`"),
    ({"audio": "{bad}/empty.wav"}, "`audio`"),
    ({"audio": "{bad}/short.wav"}, "`audio`"),
    ({"audio": "{bad}/silent_film.mp4"}, "no audio track"),
    ({"steps": -1}, "`--steps` is -1"),
    ({"steps": 100000}, "`--steps` is 100000"),
    ({"cache_interval": 0}, "`--cache-interval` is 0"),
    ({"preset": "fast"}, "`--preset` has its own sampler and steps"),
    ({"checkpoint": "{bad}/broken"}, "`--checkpoint`"),
    ({"checkpoint": "{bad}/nothing"}, "`--checkpoint`"),
    ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler cannot sample DAWN"),
    ({"scheduler": "nonsense"}, "`scheduler` is 'nonsense'"),
    ({"device": "nonsense"}, "`--device`"),
    ({"device": "meta"}, "`--device`"),
    ({"seed": -1}, "`--seed` is -1"),
    ({"seed": 10**20}, "`--seed` is 1000"),
    ({"guidance_scale": "nan"}, "`guidance_scale` is nan"),
    ({"size": 0}, "`height` and `width` are 0"),
    ({"pose_from": "{bad}/nothing.mp4"}, "`--pose-from` is not a file"),
    ({"device": "cuda:99"}, "`--device` is cuda:99"),
    ({"window_frames": 0}, "`window_frames` is 0"),
    ({"window_frames": 30}, "`window_overlap` is 40, must be less than a window's 30 frames"),
    ({"window_overlap": -1}, "`window_overlap` is -1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_input_is_one_line_and_writes_nothing(folder, bad, tmp_path, capsys, detector, arguments, message):
    places = {"bad": bad, "folder": folder}
    defaults = {"image": folder / "blank.png"}
    arguments = {
        name: value.format(**places) if isinstance(value, str) else value for name, value in arguments.items()
    }
    assert animate(folder, tmp_path / "out.mp4", **defaults | arguments) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["inputs"]


@needs_real
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 100}, "`height` and `width` are 100"),
        ({"face_index": 5}, "`face_index` is 5"),
        ({"pose_from": "{folder}/speech.wav"}, "`pose-from`"),
        ({"pose_from": "{bad}/silent_film.mp4"}, "`pose-from` shows no face"),
    ],
)
def test_bad_request_for_a_good_portrait_is_one_line(folder, bad, tmp_path, capsys, detector, arguments, message):
    places = {"bad": bad, "folder": folder}
    arguments = {
        name: value.format(**places) if isinstance(value, str) else value for name, value in arguments.items()
    }
    assert animate(folder, tmp_path / "out.mp4", **arguments) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert sorted(os.listdir(tmp_path)) == ["inputs"]


@pytest.mark.parametrize("output", ["", "nowhere/out.mp4", "out.xyz"])
def test_output_is_checked_before_anything_else(folder, tmp_path, capsys, output):
    started = time.perf_counter()
    assert animate(folder, tmp_path / output, image="does not exist") == 1
    assert "`output`" in capsys.readouterr().err
    assert time.perf_counter() - started < 5


def test_output_that_is_an_input_is_refused(folder, tmp_path, capsys):
    film = tmp_path / "film.mp4"
    write_video(film, moving_frames())
    before = film.read_bytes()
    assert animate(folder, film, image=folder / "blank.png", audio=film) == 1
    assert "`--output` is the file given as `--audio`" in capsys.readouterr().err
    assert film.read_bytes() == before


def test_without_a_checkpoint_the_one_that_ships_is_taken(folder, tmp_path, capsys, detector):
    picture = EXAMPLES / "portrait_1.png"
    assert animate(folder, tmp_path / "out.mp4", checkpoint=None, image=picture, steps=None) == 0
    assert "128x128" in capsys.readouterr().out
    with av.open(tmp_path / "out.mp4") as container:
        assert "with dawn-demo, seed 0" in container.metadata["comment"]


def test_debug_shows_the_traceback(folder, tmp_path, capsys):
    assert animate(folder, tmp_path / "out.mp4", steps=0, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_init_does_not_touch_a_folder_in_use(folder, capsys):
    before = sorted(os.listdir(folder / "tiny"))
    assert main(["init", "-o", str(folder / "tiny")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert sorted(os.listdir(folder / "tiny")) == before


def test_convert_names_what_is_missing(tmp_path, capsys):
    words = ["convert", "--dawn", str(tmp_path / "DAWN_128.pth"), "--lfg", str(tmp_path / "LFG_128.pth")]
    assert main([*words, "-o", str(tmp_path / "out")]) == 1
    assert "`dawn`" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_silent_recording_is_allowed_with_a_warning(folder, tmp_path, capsys, detector):
    write_wav(tmp_path / "silence.wav", np.zeros(RATE_HZ, np.float32))
    status = animate(folder, tmp_path / "out.mp4", image=folder / "blank.png", audio=tmp_path / "silence.wav")
    error = capsys.readouterr().err
    assert "dawn: warning: `audio`" in error
    # it went on to the next thing that is wrong
    assert status == 1
    assert "no face" in error


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(folder, tmp_path, detector, signal_number):
    words = ["animate", "--image", REAL / "portrait_1.jpeg", "--audio", folder / "speech.wav", "--steps", "999"]
    words += ["--checkpoint", folder / "tiny", "--output", tmp_path / "out.mp4"]
    code = "import sys; from diffusers_dawn.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        # a shell's background job ignores SIGINT, and hands that down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in process.stdout:
        if "frames at" in line:
            break
    time.sleep(1)
    process.send_signal(signal_number)
    assert process.wait(timeout=60) == 130
    assert os.listdir(tmp_path) == []
