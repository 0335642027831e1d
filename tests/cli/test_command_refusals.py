"""The `dawn` command where it cannot do what is asked: one line, and nothing is written."""

import json
import os
import resource
import shutil
import time

import numpy as np
import pytest
from command_calls import animate, write_speech
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusers_dawn import MotionTrack
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.motion.track_files import save_track
from real_inputs import needs_real
from synthetic_media import moving_frames, tone


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def bad(folder, tmp_path):
    """Files that cannot serve, by name."""
    (tmp_path / "inputs").mkdir()
    made = tmp_path / "inputs"
    (made / "text.png").write_text("no picture")
    (made / "empty.wav").write_bytes(b"")
    write_speech(made / "short.wav", tone(duration_s=0.01))
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
    ({"preview_while": "{bad}/first.xyz"}, "`--preview-while`"),
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
    ({"checkpoint": "n" * 300}, "`--checkpoint` is nnn"),
    ({"lora": "n" * 300}, "`--lora` is nnn"),
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


EMPTY = (
    "image",
    "audio",
    "checkpoint",
    "lora",
    "motion",
    "save_motion",
    "background",
    "label",
    "enhance",
    "preview_while",
)


@pytest.mark.parametrize("name", [*EMPTY, "output"])
def test_an_option_without_a_word_is_refused_by_its_name(folder, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    output, others = ("", {}) if name == "output" else ("out.mp4", {name: ""})
    assert animate(folder, output, **others) == 1
    assert capsys.readouterr().err == f"dawn: `{name.replace('_', '-')}` is empty, must be given\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["init", "export-onnx"])
def test_a_folder_without_a_name_is_not_the_current_one(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command, *(["-o"] if command == "init" else []), ""]) == 1
    assert capsys.readouterr().err == "dawn: `output` is empty, must be given\n"
    assert os.listdir(tmp_path) == []


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
    new = tmp_path / "new.mp4"
    for preview, reason in (
        (film, "`--preview-while` is the file given as `--audio`"),
        (new, "`--output` is the file given as `--preview-while`"),
        (tmp_path / ".." / tmp_path.name / "new.mp4", "`--output` is the file given as `--preview-while`"),
    ):
        assert animate(folder, new, image=folder / "blank.png", audio=film, preview_while=preview) == 1
        assert f"{reason}; it would be overwritten" in capsys.readouterr().err
    assert film.read_bytes() == before
    track = tmp_path / "track.npz"
    save_track(MotionTrack(np.zeros((10, 6)), np.zeros((10, 2))), track)
    before = track.read_bytes()
    assert animate(folder, new, image=folder / "blank.png", motion=track, save_motion=track) == 1
    assert "`--save-motion` is the file given as `--motion`" in capsys.readouterr().err
    assert track.read_bytes() == before


def test_folder_of_frames_that_holds_what_is_given_is_refused(folder, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(folder / "blank.png", frames / "frame_000000.png")
    shutil.copy(folder / "speech.wav", frames / "sound.wav")
    for given, flag in (
        ({"image": frames / "frame_000000.png"}, "image"),
        ({"audio": frames / "sound.wav"}, "audio"),
        ({"preview_while": frames / "first.mp4"}, "preview-while"),
        ({"save_motion": frames / "track.json"}, "save-motion"),
    ):
        assert animate(folder, frames, **{"image": folder / "blank.png"} | given) == 1
        reason = f"`--output` is the folder of the file given as `--{flag}`; it would be overwritten"
        assert capsys.readouterr().err == f"dawn: {reason}\n"
    assert sorted(os.listdir(frames)) == ["frame_000000.png", "sound.wav"]


def test_full_disk_names_the_output(folder, drawn, tmp_path, capsys, detector):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        assert animate(folder, tmp_path / "out.mp4", image=drawn) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"dawn: {tmp_path}/out.mp4 cannot be written: File too large" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


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
