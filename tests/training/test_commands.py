"""The documented commands, from nothing to a talking head, at the smallest size."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffusers_dawn.cli.command import main as dawn
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.records import Waveform
from real_inputs import REAL, needs_real
from training.align_speech import main as align_speech
from training.evaluate import main as evaluate
from training.make_examples import main as make_examples
from training.make_synthetic_clips import main as make_synthetic_clips
from training.prepare_clips import main as prepare_clips
from training.train_a2v import main as train_a2v
from training.train_audio_encoder import main as train_audio_encoder
from training.train_lfg import main as train_lfg
from training.train_pbnet import main as train_pbnet
from training.train_syncnet import main as train_syncnet

TOY = Path(__file__).parents[2] / "training" / "configs" / "toy"
ONE_STEP = [
    "--max_train_steps",
    "1",
    "--train_batch_size",
    "2",
    "--report_to",
    "none",
    "--dataloader_num_workers",
    "0",
]


def settings(name: str, *changes: str) -> list[str]:
    return ["--config", str(TOY / f"{name}.yaml"), *ONE_STEP, *changes]


def train_everything(data: Path, runs: Path, *changes: str) -> Path:
    """Train one step of each stage; returns the pipeline's folder."""
    common = ["--dataset", str(data), "--num_validation_clips", "1", *changes]
    assert train_lfg(settings("lfg", *common, "--output_dir", str(runs / "lfg"))) == 0
    assert train_pbnet(settings("pbnet", *common, "--output_dir", str(runs / "pbnet"))) == 0
    parts = ["--lfg", str(runs / "lfg"), "--pbnet", str(runs / "pbnet"), "--validation_inference_steps", "1"]
    parts += ["--min_frames", "5", "--max_frames", "10", "--validation_frames", "15"]
    assert train_a2v(settings("a2v", *common, *parts, "--output_dir", str(runs / "a2v"))) == 0
    return runs / "a2v" / "pipeline"


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (train_lfg, [*settings("lfg"), "--dataset", "none", "--output_dir"]),
        (train_pbnet, [*settings("pbnet"), "--dataset", "none", "--output_dir"]),
        (train_a2v, [*settings("a2v"), "--dataset", "none", "--lfg", "none", "--output_dir"]),
        (train_audio_encoder, [*settings("audio_encoder"), "--output_dir"]),
        (make_synthetic_clips, ["--size", "64", "--audio_encoder", "none", "--output"]),
        (prepare_clips, ["--videos", "none", "--size", "64", "--audio_encoder", "none", "--output"]),
        (align_speech, ["--recordings", "none", "--grid_names", "--output"]),
        (evaluate, ["--pipeline", "none", "--dataset", "none", "--output"]),
        (make_examples, ["--output"]),
    ],
)
def test_an_output_that_is_a_file_is_refused_before_the_work(main, words, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main([*words, str(tmp_path / "mine" / "below")]) == 2
    name = words[-1].removeprefix("--")
    message = f"`{name}` lies in a folder that does not exist: {tmp_path}/mine"
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and (tmp_path / "mine").read_text() == "mine"


@pytest.mark.slow
def test_synthetic_clips_train_every_stage_to_a_pipeline_that_animates(tmp_path, detector, capsys):
    runs, data = tmp_path / "runs", tmp_path / "clips"
    encoder = ["--model.hidden_size", "32", "--seconds", "1", "--output_dir", "x", "--dry-run"]
    assert train_audio_encoder(settings("audio_encoder", *encoder)) == 0
    encoder_settings = tmp_path / "audio_encoder.yaml"
    encoder_settings.write_text(capsys.readouterr().out.replace("output_dir: x\n", ""))
    counts = ["--num_clips", "2", "--num_identities", "2", "--test_clips", "1", "--test_identities", "1"]
    made = ["--output", str(data), *counts, "--size", "64", "--seconds", "1", "--quiet"]
    assert make_synthetic_clips([*made, "--audio_encoder", str(encoder_settings)]) == 0
    pipeline = train_everything(data, runs)
    video = tmp_path / "talk.mp4"
    given = ["--image", str(data / "portrait.png"), "--audio", str(data / "speech.wav"), "-o", str(video)]
    assert dawn(["animate", "--checkpoint", str(pipeline), *given, "--steps", "1"]) == 0
    assert read_video(video)[0].shape[1:] == (64, 64, 3)


@needs_real
@pytest.mark.slow
def test_real_speakers_are_prepared_and_train_every_stage(tmp_path, detector):
    videos, data, encoder = tmp_path / "videos", tmp_path / "clips", tmp_path / "encoder"
    videos.mkdir()
    for name in ("speaker_25fps.mp4", "speaker_30fps.mp4"):
        frames, fps = read_video(REAL / name, max_frames=60)
        sound = read_waveform(REAL / name)
        samples = sound.samples[: round(len(frames) / fps * sound.sample_rate_hz)]
        write_video(videos / name, frames, Waveform(samples, sound.sample_rate_hz), fps=fps)
    pipe = random_pipeline("tiny")
    pipe.audio_encoder.save_pretrained(encoder)
    pipe.feature_extractor.save_pretrained(encoder)
    given = ["--videos", str(videos), "--output", str(data), "--size", "128", "--audio_encoder", str(encoder)]
    assert prepare_clips([*given, "--allow_silent", "--test_share", "0", "--clip_seconds", "2", "--quiet"]) == 0
    train_everything(data, tmp_path / "runs")


COMMANDS = sorted(path.stem for path in TOY.parents[1].glob("[a-z]*.py"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_made_to_run_by_path_and_ends_by_the_one_wrapper(name):
    text = (TOY.parents[1] / f"{name}.py").read_text(encoding="utf-8")
    assert 'if __name__ == "__main__" and not __package__:\n    import _by_path' in text
    assert text.endswith('if __name__ == "__main__":\n    commands.program(main)\n')


@pytest.mark.slow
@pytest.mark.parametrize("words", [["training/make_examples.py"], ["-m", "training.make_examples"]])
def test_commands_run_by_path_and_as_modules(words):
    done = subprocess.run(
        [sys.executable, *words, "--help"], cwd=TOY.parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: make_examples.py") and "--output" in done.stdout


def test_an_interrupt_while_libraries_are_imported_says_nothing():
    stopped = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import _by_path"
    words = [sys.executable, "-c", f"{stopped}; signal.raise_signal(signal.SIGINT)"]
    done = subprocess.run(words, cwd=TOY.parents[1], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


SETTINGS = {
    train_lfg: ["lfg_128", "lfg_256", "toy/lfg", "open/lfg"],
    train_pbnet: ["pbnet_pose", "pbnet_blink", "toy/pbnet", "open/pbnet"],
    train_a2v: [
        *(f"a2v_{size}_stage{stage}" for size in (128, 256) for stage in (1, 2)),
        *("toy/a2v", "open/a2v"),
    ],
    train_syncnet: ["open/syncnet"],
    train_audio_encoder: ["toy/audio_encoder", "open/synthetic_voices", "open/audio_encoder"],
}


@pytest.mark.parametrize("main", SETTINGS)
def test_every_file_of_settings_is_understood(main, capsys):
    extra = ["--lfg", "x"] if main is train_a2v else []
    extra += [] if main is train_audio_encoder else ["--dataset", "x"]
    for name in SETTINGS[main]:
        file = str(TOY.parent / f"{name}.yaml")
        # whose speakers are held out is told where the recordings are, and which encoder goes on
        recordings = ["--aligned_speech", "[x]", "--pretrained_model", "x"] if name == "open/audio_encoder" else []
        assert main(["--config", file, "--output_dir", "x", *extra, *recordings, "--dry-run"]) == 0
    assert not Path("x").exists()
    assert "learning_rate" in capsys.readouterr().out


def test_every_settings_file_is_tried():
    found = {path.relative_to(TOY.parent).with_suffix("").as_posix() for path in TOY.parent.rglob("*.yaml")}
    assert found == {name for names in SETTINGS.values() for name in names}
