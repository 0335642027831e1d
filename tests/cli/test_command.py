"""The `dawn` command as a user runs it."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusers_dawn import DAWNPipeline, __version__, demo_checkpoint
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.video_writer import VideoWriter, write_video
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.motion import track_files
from diffusers_dawn.motion.track_files import load_track
from real_inputs import REAL, needs_real
from synthetic_media import moving_frames, tone, write_audio

EXAMPLES = Path(__file__).parents[2] / "examples"

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
    assert animate(folder, tmp_path / "driven.mp4", motion=REAL / "speaker_25fps.mp4", debug=True) == 0
    printed = capsys.readouterr().out
    assert "motion " in printed
    assert "pose and blink 0.0" in printed


@needs_real
@pytest.mark.parametrize("scheduler", ["unipc", "EulerDiscreteScheduler"])
def test_scheduler_can_be_named(folder, tmp_path, capsys, detector, scheduler):
    assert animate(folder, tmp_path / "out.mp4", scheduler=scheduler) == 0
    assert "Scheduler" in capsys.readouterr().out


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def bad(folder, tmp_path):
    """Files that cannot serve, by name."""
    (tmp_path / "inputs").mkdir()
    made = tmp_path / "inputs"
    (made / "text.png").write_text("no picture")
    (made / "empty.wav").write_bytes(b"")
    write_wav(made / "short.wav", tone(duration_s=0.01))
    write_video(made / "silent_film.mp4", moving_frames())
    write_video(made / "landscape.mp4", moving_frames(20))
    Image.new("RGB", (16_400, 16)).save(made / "poster.png")
    for name in ("without_pbnet", "only_pose"):  # nothing else of them is looked at
        (made / name / "pbnet").mkdir(parents=True)
        shutil.copy(folder / "tiny" / "model_index.json", made / name)
        shutil.copy(folder / "tiny" / "pbnet" / "config.json", made / name / "pbnet")
    change_json(made / "without_pbnet" / "model_index.json", pbnet=[None, None])
    change_json(made / "only_pose" / "pbnet" / "config.json", networks="pose")
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
    ({"scheduler": "UnCLIPScheduler"}, "UnCLIPScheduler cannot sample DAWN"),
    ({"scheduler": "nonsense"}, "`scheduler` is 'nonsense'"),
    ({"device": "nonsense"}, "`--device`"),
    ({"device": "meta"}, "`--device`"),
    ({"seed": -1}, "`--seed` is -1"),
    ({"seed": 10**20}, "`--seed` is 1000"),
    ({"guidance_scale": "nan"}, "`--guidance-scale` is nan"),
    ({"guidance_scale": "-1"}, "`--guidance-scale` is -1"),
    ({"guidance_scale": "voice=2"}, "`--guidance-scale` has 'voice', may only have speech, pose, blink"),
    ({"guidance_scale": "speech=-2"}, "`--guidance-scale` is {{'speech': -2.0}}, must be a number in [0, 1000]"),
    ({"head_motion": 2.5}, "`--head-motion` is 2.5, must be a number in [0, 2]"),
    ({"head_motion": "nan"}, "`--head-motion` is nan"),
    ({"size": 0}, "`--size` is 0, must be positive"),
    ({"size": 100}, "`--size` is 100, must be a positive multiple of 8"),
    ({"motion": "{bad}/nothing.mp4"}, "`--motion` does not exist: {bad}/nothing.mp4"),
    ({"motion": "head from {bad}"}, "`--motion` is a directory"),
    ({"motion": "head from /dev/null"}, "`--motion` is a pipe or a device, must be a file"),
    ({"motion": "https://example.com/a.mp4"}, "`--motion` is a URL, must be a file"),
    ({"motion": "{folder}/speech.wav"}, "`--motion` has no video track"),
    ({"motion": "{bad}/silent_film.mp4"}, "silent_film.mp4` lasts 0.48 s (12 frames), the clip 0.52 s (13 frames)"),
    ({"motion": "jump"}, "`--motion`: 'jump' is not understood"),
    ({"motion": "{bad}/nothing.npz"}, "`--motion` does not exist: {bad}/nothing.npz"),
    ({"motion": "{bad}/text.png.json"}, "`--motion` does not exist"),
    ({"save_motion": "{bad}/track.txt"}, "`--save-motion` is {bad}/track.txt, must end in .npz or .json"),
    ({"device": "cuda:99"}, "`--device` is cuda:99"),
    ({"window_frames": 0}, "`--window-frames` is 0"),
    ({"window_frames": 30}, "`--window-overlap` is 40, must be less than a window's 30 frames"),
    ({"window_overlap": -1}, "`--window-overlap` is -1"),
    ({"window_overlap": 200}, "`--window-overlap` is 200, must be less than a window's 200 frames"),
    ({"checkpoint": "./no such folder"}, "`--checkpoint` is ./no such folder, must be a folder or an id on the Hub"),
    ({"checkpoint": "{folder}/speech.wav"}, "speech.wav, must be a folder or an id on the Hub"),
    ({"checkpoint": "nobody/nothing"}, "`--checkpoint` nobody/nothing is no folder here, and cannot be loaded"),
    ({"lora": "./nope"}, "`--lora` is ./nope, must be a folder or an id on the Hub"),
    ({"lora": "{folder}/tiny"}, "`--lora` {folder}/tiny cannot be loaded"),
    ({"label": "für dich"}, "lacks 'ü'; give another font file"),
    ({"label": "x", "label_font": "{bad}/nothing.ttf"}, "the label's font is not a file"),
    ({"label": "x", "label_font": "{bad}/text.png"}, "text.png cannot be read"),
    ({"label_font": "{bad}/text.png"}, "`--label-font` needs `--label`"),
    ({"image": "{bad}/poster.png", "full_image": True}, "`--full-image` would be 16400x16 px, more than H.264 holds"),
    ({"checkpoint": "{bad}/without_pbnet"}, "has no PBNet that makes head pose and blinks; give `--motion FILE`"),
    ({"checkpoint": "{bad}/only_pose"}, "has no PBNet that makes head pose and blinks; give `--motion FILE`"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_input_is_one_line_and_writes_nothing(folder, bad, tmp_path, capsys, detector, arguments, message):
    places = {"bad": bad, "folder": folder}
    message = message.format(**places)
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
        ({"face_index": 5}, "`face_index` is 5"),
        ({"motion": "{bad}/landscape.mp4"}, "`--motion` shows no face in any of its 13 frames"),
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


@pytest.mark.parametrize("output", ["out.webm", "out.gif", "out"])
def test_suffix_of_the_output_says_what_is_written(folder, drawn, tmp_path, capsys, detector, output):
    assert animate(folder, tmp_path / output, **drawn) == 0
    assert f"wrote {tmp_path / output}" in capsys.readouterr().out
    if output == "out":
        assert len(os.listdir(tmp_path / "out")) == 13 + 1
    else:
        assert len(read_video(tmp_path / output)[0]) == 13
    assert os.listdir(tmp_path) == [output]


@pytest.mark.parametrize("output", ["", "nowhere/out.mp4", "out.xyz"])
def test_output_is_checked_before_anything_else(folder, tmp_path, capsys, output):
    (tmp_path / "diary.txt").write_text("dear")
    started = time.perf_counter()
    assert animate(folder, tmp_path / output, image="does not exist") == 1
    assert "`output`" in capsys.readouterr().err
    assert time.perf_counter() - started < 5


def test_the_old_name_of_an_option_is_refused_with_the_new_one(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        animate(folder, tmp_path / "out.mp4", pose_from="film.mp4")
    assert capsys.readouterr().err.endswith("error: `--pose-from` is now `--motion`\n")


def test_output_that_is_an_input_is_refused(folder, tmp_path, capsys):
    film = tmp_path / "film.mp4"
    write_video(film, moving_frames())
    before = film.read_bytes()
    assert animate(folder, film, image=folder / "blank.png", audio=film) == 1
    assert "`--output` is the file given as `--audio`" in capsys.readouterr().err
    assert animate(folder, film, image=folder / "blank.png", motion=film) == 1
    assert "`--output` is the file given as `--motion`" in capsys.readouterr().err
    assert film.read_bytes() == before


def test_without_a_checkpoint_the_one_that_ships_is_taken(folder, tmp_path, capsys, detector):
    picture = EXAMPLES / "portrait_1.png"
    assert animate(folder, tmp_path / "out.mp4", checkpoint=None, image=picture, steps=None) == 0
    assert "256x256" in capsys.readouterr().out
    with av.open(tmp_path / "out.mp4") as container:
        assert "with dawn-open, seed 0" in container.metadata["comment"]


def test_sound_of_which_only_the_first_channel_is_heard_is_named(folder, tmp_path, capsys, detector):
    stereo = write_audio(tmp_path / "s.wav", np.stack([tone()] * 2), RATE_HZ, "pcm_s16le", layout="stereo")
    for audio, is_said in ((stereo, True), (folder / "speech.wav", False)):
        assert animate(folder, tmp_path / "out.mp4", image=folder / "blank.png", audio=audio) == 1
        assert ("sound: the first of 2 channels is used" in capsys.readouterr().out) == is_said


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dawn {__version__}\n"


def test_options_are_known_without_torch():
    code = "import sys; from diffusers_dawn.cli.options import command_parser; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def drawn(folder):
    """A large picture with a small drawn face in it, and the shipped checkpoint for it."""
    picture = np.full((700, 900, 3), 200, np.uint8)
    picture[200:456, 300:556] = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    Image.fromarray(picture).save(folder / "drawn.png")
    return {"image": folder / "drawn.png", "checkpoint": None, "steps": 1}


def written_frames(monkeypatch):
    written, write = [], VideoWriter.write

    def write_and_remember(writer, frames):
        written.append(frames.copy())
        write(writer, frames)

    monkeypatch.setattr(VideoWriter, "write", write_and_remember)
    return written


def test_full_image_is_pasted_and_written_frame_by_frame(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    written = written_frames(monkeypatch)
    assert animate(folder, tmp_path / "square.mp4", **drawn) == 0
    plain, small = capsys.readouterr(), len(written)
    assert animate(folder, tmp_path / "full.mp4", full_image=True, **drawn) == 0
    whole = capsys.readouterr()
    assert [frames.shape for frames in written[small:]] == [(1, 700, 900, 3)] * 13
    picture = np.asarray(Image.open(drawn["image"]))
    assert all(np.array_equal(frames[0, :150], picture[:150]) for frames in written[small:])
    # (18 + 3) bytes a pixel to paste, 50 + 13 times 4 to encode: 0.07 GiB more
    announced = [float(re.search(r"about (\S+) GiB", said.out)[1]) for said in (plain, whole)]
    assert announced[1] - announced[0] == pytest.approx(0.07, abs=0.1)
    assert "13/13" in whole.err


def test_full_image_that_does_not_fit_in_the_memory_is_refused(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    monkeypatch.setattr(DAWNPipeline, "available_memory", lambda pipe: 2**27)
    assert animate(folder, tmp_path / "full.mp4", full_image=True, **drawn) == 1
    assert "; `--full-image` takes 0.1 GiB of it" in capsys.readouterr().err
    assert not (tmp_path / "full.mp4").exists()


def test_head_motion_is_a_factor_of_the_head(folder, drawn, tmp_path, detector, monkeypatch):
    written, frames = written_frames(monkeypatch), {}
    for factor in (None, 1, 0):
        written.clear()
        assert animate(folder, tmp_path / "out.mp4", head_motion=factor, **drawn) == 0
        frames[factor] = np.concatenate(written)
    assert np.array_equal(frames[None], frames[1])
    assert not np.array_equal(frames[0], frames[1])


def test_motion_by_a_text_is_kept_in_a_file_that_moves_another_video(folder, drawn, tmp_path, capsys, detector):
    text = "at 0.2 s yaw 20; blink at 0.1 s"
    assert animate(folder, tmp_path / "a.mp4", motion=text, save_motion=tmp_path / "m.json", **drawn) == 0
    assert f"wrote {tmp_path}/m.json" in capsys.readouterr().out
    track = load_track(tmp_path / "m.json")
    assert track.num_frames == 13 and track.pose[5, 0] == pytest.approx(20, abs=1e-3)
    arguments = {"motion": tmp_path / "m.json", "save_motion": tmp_path / "again.npz", "seed": 3}
    assert animate(folder, tmp_path / "b.mp4", **arguments, **drawn) == 0
    np.testing.assert_allclose(load_track(tmp_path / "again.npz").pose, track.pose, atol=1e-3)


def test_an_adapter_changes_the_video(folder, drawn, tmp_path, detector, monkeypatch):
    peft = pytest.importorskip("peft")
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(pipe.unet)
    settings = pipe.unet.peft_config["default"].to_dict()
    pipe.save_lora_weights(tmp_path / "lora", layers, unet_lora_adapter_metadata=settings)
    written, frames = written_frames(monkeypatch), []
    for lora in (None, tmp_path / "lora"):
        written.clear()
        assert animate(folder, tmp_path / "out.mp4", lora=lora, debug=True, **drawn) == 0
        frames.append(np.concatenate(written))
    assert not np.array_equal(*frames)


def test_driving_video_is_read_as_far_as_it_is_needed(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    face = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    write_video(tmp_path / "film.mp4", np.stack([face] * 40))
    read, stream = [], track_files.stream_video

    def stream_and_count(*args, **kwargs):
        for frame in stream(*args, **kwargs):
            read.append(frame)
            yield frame

    monkeypatch.setattr(track_files, "stream_video", stream_and_count)
    assert animate(folder, tmp_path / "out.mp4", motion=tmp_path / "film.mp4", **drawn) == 0
    assert len(read) == 13
    assert "pose and blink 0.0" in capsys.readouterr().out


def test_checkpoint_without_pbnet_is_driven_by_a_video(folder, drawn, tmp_path, detector):
    parts = DAWNPipeline.from_pretrained(folder / "tiny").components
    DAWNPipeline(**parts | {"pbnet": None}).save_pretrained(folder / "driven_only")
    face = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    write_video(tmp_path / "film.mp4", np.stack([face] * 13))
    arguments = drawn | {"checkpoint": folder / "driven_only", "motion": tmp_path / "film.mp4"}
    assert animate(folder, tmp_path / "out.mp4", **arguments) == 0
    assert len(read_video(tmp_path / "out.mp4")[0]) == 13


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_sound_can_come_through_a_pipe(folder, tmp_path, capsys, detector):
    os.mkfifo(tmp_path / "pipe")
    content = (folder / "speech.wav").read_bytes()
    feeder = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    feeder.start()
    assert animate(folder, tmp_path / "out.mp4", image=folder / "blank.png", audio=tmp_path / "pipe") == 1
    feeder.join()
    # it went on to the next thing that is wrong
    assert "no face" in capsys.readouterr().err


def test_full_disk_names_the_output(folder, drawn, tmp_path, capsys, detector):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        assert animate(folder, tmp_path / "out.mp4", **drawn) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"dawn: {tmp_path}/out.mp4 cannot be written: File too large" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_debug_shows_the_traceback(folder, tmp_path, capsys):
    assert animate(folder, tmp_path / "out.mp4", steps=0, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_init_does_not_touch_a_folder_in_use(folder, capsys):
    before = sorted(os.listdir(folder / "tiny"))
    assert main(["init", "-o", str(folder / "tiny")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert sorted(os.listdir(folder / "tiny")) == before


@pytest.mark.parametrize("seed", ["-1", "1" * 30])
def test_init_refuses_a_seed_that_no_generator_takes(tmp_path, capsys, seed):
    assert main(["init", "--seed", seed, "-o", str(tmp_path / "tiny")]) == 1
    assert capsys.readouterr().err == f"dawn: `--seed` is {seed}, must be from 0 to {2**63 - 1}\n"
    assert os.listdir(tmp_path) == []


def test_init_on_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert main(["init", "-o", str(tmp_path / "tiny")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert f"dawn: {tmp_path}/tiny cannot be written: " in error and len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("part", ["unet", "lfg", "pbnet", "audio_encoder"])
def test_missing_weights_are_one_line_and_nothing_of_the_libraries(folder, tmp_path, capfd, detector, part):
    broken = tmp_path / "broken"
    shutil.copytree(folder / "tiny", broken)
    weights = next((broken / part).glob("*.safetensors"))
    tensors = load_file(weights)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert animate(folder, tmp_path / "out.mp4", checkpoint=broken, image=folder / "blank.png") == 1
    printed = capfd.readouterr()
    assert printed.err.startswith(f"dawn: `--checkpoint` {broken} cannot be loaded: the weights of `{part}` lack 1 ")
    assert len(printed.err.splitlines()) == 1 and printed.out == ""


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
    code = "import sys; from diffusers_dawn.cli.command import main; sys.exit(main())"
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
