import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffusers_dawn.random_checkpoint import random_pipeline
from training.clip_shards import ClipShards, read_dataset_info
from training.make_synthetic_clips import main
from training.synthetic.speech_report import count_blinks

pytest.importorskip("espeakng_loader")

ROOT = Path(__file__).parents[2]
SCRIPT = "training/make_synthetic_clips.py"
TINY = (
    *("--num_clips", "4", "--num_identities", "2", "--test_clips", "1", "--test_identities", "1", "--size", "64"),
    *("--seconds", "1", "--clips_per_shard", "2", "--flow_stride", "8", "--quiet"),
)


def arguments(folder, *more, audio_encoder="none"):
    return ["--output", str(folder), "--audio_encoder", str(audio_encoder), *TINY, *more]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def environment():
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    assert main(arguments(folder)) == 0
    return folder


def test_command_writes_a_prepared_data_set(data_set):
    names = [
        f"{split}.{suffix}" for split in ("test-00000", "train-00000", "train-00001") for suffix in ("jsonl", "tar")
    ]
    reports = ["contact_sheet.png", "report.csv", "statistics.json", "synthetic_statistics.json"]
    assert sorted(contents(data_set)) == sorted([*names, *reports, "dataset.json", "generator.json"])
    train, test = (ClipShards(data_set, split) for split in ("train", "test"))
    assert len(train) == 4 and len(test) == 1
    assert len({entry.identity for entry in train.entries}) == 2
    assert not {entry.identity for entry in train.entries} & {entry.identity for entry in test.entries}
    assert train.info.audio_encoder is None and train.info.size_px == 64
    assert train.read_frames(0, [0, 24]).shape == (2, 64, 64, 3)
    assert train.read_samples(0).shape == (16_000,)
    assert "audio_features" not in train.read_labels(0)
    assert train.read_info(0)["sentences"]


def test_statistics_tell_what_was_said_and_done(data_set):
    train = json.loads((data_set / "synthetic_statistics.json").read_text())["train"]
    assert train["num_clips"] == 4 and train["duration_s"] == 4
    assert sum(train["phonemes"].values()) == pytest.approx(1, abs=1e-3)
    assert train["mouth_speech_correlation"] > 0.3
    assert 0 < train["mouth_opening"][0] < train["mouth_opening"][1] < 0.3


def test_two_workers_give_the_same_bytes_as_one_process(data_set, tmp_path):
    assert main(arguments(tmp_path / "data", "--num_processes", "2")) == 0
    assert contents(tmp_path / "data") == contents(data_set)


def test_killed_run_resumes_to_the_same_bytes(data_set, tmp_path):
    folder = tmp_path / "data"
    with subprocess.Popen([sys.executable, SCRIPT, *arguments(folder)], cwd=ROOT, env=environment()) as run:
        deadline = time.monotonic() + 120
        journal = folder / "train-00000.jsonl"
        while not (journal.exists() and journal.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    assert not (folder / "dataset.json").exists()
    assert main(arguments(folder)) == 0
    assert contents(folder) == contents(data_set)


@pytest.mark.slow
def test_two_launched_processes_give_the_same_bytes_as_one(data_set, tmp_path):
    folder = tmp_path / "data"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    ended = subprocess.run([*launch, SCRIPT, *arguments(folder)], cwd=ROOT, env=environment(), capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert contents(folder) == contents(data_set)


def test_audio_features_and_augmented_sound_are_stored(data_set, tmp_path):
    pipe = random_pipeline("tiny")
    pipe.audio_encoder.save_pretrained(tmp_path / "encoder")
    pipe.feature_extractor.save_pretrained(tmp_path / "encoder")
    folder = tmp_path / "data"
    assert main(arguments(folder, "--augment_audio", audio_encoder=tmp_path / "encoder")) == 0
    info = read_dataset_info(folder)
    assert info.audio_dim == 32 and info.audio_encoder == str(tmp_path / "encoder")
    augmented, clean = ClipShards(folder), ClipShards(data_set)
    labels = augmented.read_labels(0)
    features = labels.pop("audio_features")
    assert features.shape == (25, 32) and features.dtype == np.float16
    assert not np.array_equal(augmented.read_samples(0), clean.read_samples(0))
    np.testing.assert_array_equal(labels["phonemes"], clean.read_labels(0)["phonemes"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--size", "63"), "`size_px` is 63"),
        (("--seconds", "0"), "`num_frames` is 0"),
        (("--seed", "-1"), "`seed` is -1"),
        (("--num_processes", "0"), "`num_processes` is 0"),
        (("--flow_stride", "7"), "`flow_stride` is 7"),
        (("--audio_encoder", "no/where/at/all"), "`audio_encoder` 'no/where/at/all' cannot be loaded"),
    ],
)
def test_bad_input_ends_with_one_line(tmp_path, capsys, more, message):
    folder = tmp_path / "data"
    assert main(arguments(folder, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("make_synthetic_clips: ") and error.count("\n") == 1 and message in error
    assert not folder.exists()


def test_other_settings_in_the_same_folder_are_refused(data_set, capsys):
    before = contents(data_set)
    assert main(arguments(data_set, "--seed", "1")) == 2
    assert "`seed` is 1" in capsys.readouterr().err
    assert contents(data_set) == before


def test_blinks_are_counted_also_at_the_ends():
    openness = np.full(50, 0.3)
    assert count_blinks(openness) == 0
    openness[[0, 1, 20, 21, 22, 49]] = 0.05
    assert count_blinks(openness) == 3
