"""The `dawn` command as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
import torch
from command_calls import EXAMPLES, RATE_HZ, animate, write_speech, written_frames
from PIL import Image

from diffusers_dawn import DAWNPipeline, __version__
from diffusers_dawn.cli import command
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import read_video
from real_inputs import REAL, needs_real
from synthetic_media import tone, write_audio
from warm_processes import begin, exit_codes


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
    computing = f"computing on the CPU, {torch.get_num_threads()} thread"
    for wanted in (computing, "face:", "13 frames at 64x64", "GiB of memory", "denoising", f"wrote {output}"):
        assert wanted in printed
    assert os.listdir(tmp_path) == ["talk.mp4"]


@needs_real
def test_same_seed_gives_the_same_video_and_another_seed_another(folder, tmp_path, detector, monkeypatch):
    # compared before the encoder: of 64 px, x264 does not give the same bytes every time, even in one thread
    written, videos = written_frames(monkeypatch), []
    for seed in (3, 3, 4):
        written.clear()
        assert animate(folder, tmp_path / "out.mp4", seed=seed) == 0
        videos.append(np.concatenate(written))
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
        assert animate(folder, tmp_path / "out.mp4", audio=folder / "short.wav", steps=None, **arguments) == 0
        assert wanted in capsys.readouterr().out


@needs_real
@pytest.mark.parametrize("arguments", [{"label": True}, {"label": "made by me", "full_image": True}])
def test_a_label_is_seen_in_the_corner_of_every_frame(folder, tmp_path, detector, monkeypatch, arguments):
    written = written_frames(monkeypatch)
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
@pytest.mark.parametrize("scheduler", ["unipc", "EulerDiscreteScheduler"])
def test_scheduler_can_be_named(folder, tmp_path, capsys, detector, scheduler):
    assert animate(folder, tmp_path / "out.mp4", scheduler=scheduler) == 0
    assert "Scheduler" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["out.webm", "out.gif", "out"])
def test_suffix_of_the_output_says_what_is_written(folder, drawn, tmp_path, capsys, detector, output):
    assert animate(folder, tmp_path / output, image=drawn) == 0
    assert f"wrote {tmp_path / output}" in capsys.readouterr().out
    if output == "out":
        assert len(os.listdir(tmp_path / "out")) == 13 + 1
    else:
        assert len(read_video(tmp_path / output)[0]) == 13
    assert os.listdir(tmp_path) == [output]


def test_without_a_checkpoint_the_one_that_ships_is_taken(folder, tmp_path, capsys, detector):
    picture = EXAMPLES / "portrait_1.png"
    assert animate(folder, tmp_path / "out.mp4", checkpoint=None, image=picture) == 0
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


def test_init_writes_weights_for_other_code(tmp_path):
    assert main(["init", "--layout", "weights", "-o", str(tmp_path / "weights")]) == 0
    assert not (tmp_path / "weights" / "pipeline.py").exists()
    assert DAWNPipeline.from_pretrained(tmp_path / "weights").unet is not None


def test_full_image_is_pasted_and_written_frame_by_frame(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    written = written_frames(monkeypatch)
    assert animate(folder, tmp_path / "square.mp4", image=drawn) == 0
    plain, small = capsys.readouterr(), len(written)
    assert animate(folder, tmp_path / "full.mp4", full_image=True, image=drawn) == 0
    whole = capsys.readouterr()
    assert [frames.shape for frames in written[small:]] == [(1, 700, 900, 3)] * 13
    picture = np.asarray(Image.open(drawn))
    assert all(np.array_equal(frames[0, :150], picture[:150]) for frames in written[small:])
    # (18 + 3) bytes a pixel to paste, 50 + 13 times 4 to encode: 0.07 GiB more
    announced = [float(re.search(r"about (\S+) GiB", said.out)[1]) for said in (plain, whole)]
    assert announced[1] - announced[0] == pytest.approx(0.07, abs=0.1)
    assert "13/13" in whole.err


def test_full_image_that_does_not_fit_in_the_memory_is_refused(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    monkeypatch.setattr(DAWNPipeline, "available_memory", lambda pipe: 2**27)
    assert animate(folder, tmp_path / "full.mp4", full_image=True, image=drawn) == 1
    assert "; `--full-image` takes 0.1 GiB of it" in capsys.readouterr().err
    assert not (tmp_path / "full.mp4").exists()


def test_an_adapter_changes_the_video(folder, drawn, tmp_path, detector, monkeypatch):
    peft = pytest.importorskip("peft")
    pipe = DAWNPipeline.from_pretrained(folder / "tiny")
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(pipe.unet)
    settings = pipe.unet.peft_config["default"].to_dict()
    pipe.save_lora_weights(tmp_path / "lora", layers, unet_lora_adapter_metadata=settings)
    written, frames = written_frames(monkeypatch), []
    for lora in (None, tmp_path / "lora"):
        written.clear()
        assert animate(folder, tmp_path / "out.mp4", lora=lora, debug=True, image=drawn) == 0
        frames.append(np.concatenate(written))
    assert not np.array_equal(*frames)


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


def test_debug_shows_the_traceback(folder, tmp_path, capsys):
    assert animate(folder, tmp_path / "out.mp4", steps=0, debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_silent_recording_is_allowed_with_a_warning(folder, tmp_path, capsys, detector):
    write_speech(tmp_path / "silence.wav", np.zeros(RATE_HZ, np.float32))
    status = animate(folder, tmp_path / "out.mp4", image=folder / "blank.png", audio=tmp_path / "silence.wav")
    error = capsys.readouterr().err
    assert "dawn: warning: `audio`" in error
    # it went on to the next thing that is wrong
    assert status == 1
    assert "no face" in error


def animate_unless_interrupted(words):
    # a shell's background job ignores SIGINT, and hands that down
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main(words)


@needs_real
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(folder, tmp_path, tmp_path_factory, detector, signal_number):
    words = ["animate", "--image", REAL / "portrait_1.jpeg", "--audio", folder / "speech.wav", "--steps", "999"]
    words += ["--checkpoint", folder / "tiny", "--output", tmp_path / "out.mp4"]
    said = tmp_path_factory.mktemp("said") / "said.txt"
    process = begin(animate_unless_interrupted, words, said)
    while process.is_alive() and not (said.exists() and "frames at" in said.read_text()):
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal_number)
    assert exit_codes([process], timeout_s=60) == [130]
    assert os.listdir(tmp_path) == []


def test_an_interrupt_before_the_work_begins_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(command, "command_parser", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["init"]) == 130
    assert capsys.readouterr().err == "dawn: interrupted, nothing was written\n"


STOPPED_IMPORT = """
import signal, sys
import diffusers_dawn.__main__ as program

class Importing:
    def find_spec(name, *_):
        if name.endswith(".cli.command"):
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Importing)
program.program()
"""


def test_an_interrupt_while_modules_are_imported_says_nothing():
    done = subprocess.run([sys.executable, "-c", STOPPED_IMPORT], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
