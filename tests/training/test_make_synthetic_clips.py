import json
import signal
import time

import numpy as np
import pytest
from accelerate import PartialState

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from training import make_synthetic_clips
from training.data.clip_shards import ClipShards
from training.data.dataset_info import read_dataset_info
from training.make_synthetic_clips import main
from training.synthetic.speech_report import count_blinks
from warm_processes import begin, begin_two, begin_workers_warm, exit_codes, run_command

pytest.importorskip("espeakng_loader")

TINY = (
    *("--num_clips", "4", "--num_identities", "2", "--test_clips", "1", "--test_identities", "1", "--size", "64"),
    *("--seconds", "1", "--clips_per_shard", "2", "--flow_stride", "8", "--quiet"),
)


def arguments(folder, *more, audio_encoder="none"):
    return ["--output", str(folder), "--audio_encoder", str(audio_encoder), *TINY, *more]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


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
    examples = ["known_portrait.png", "portrait.png", "speech.wav"]
    assert sorted(contents(data_set)) == sorted([*names, *reports, *examples, "dataset.json", "generator.json"])
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


def test_two_workers_give_the_same_bytes_as_one_process(data_set, tmp_path, monkeypatch):
    begin_workers_warm(monkeypatch)
    assert main(arguments(tmp_path / "data", "--num_processes", "2")) == 0
    assert contents(tmp_path / "data") == contents(data_set)


def test_killed_run_resumes_to_the_same_bytes(data_set, tmp_path):
    folder = tmp_path / "data"
    run = begin(main, arguments(folder))
    journal, deadline = folder / "train-00000.jsonl", time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    assert exit_codes([run]) == [-signal.SIGKILL] and not (folder / "dataset.json").exists()
    assert main(arguments(folder)) == 0
    assert contents(folder) == contents(data_set)


def test_two_launched_processes_give_the_same_bytes_as_one(data_set, tmp_path):
    folder = tmp_path / "data"
    assert exit_codes(begin_two(main, arguments(folder))) == [0, 0]
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


ENCODER_SETTINGS = """
model: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32}
clips_per_epoch: 2
seconds: 1
max_train_steps: 1
num_validation_clips: 0
report_to: none
"""


@pytest.fixture(scope="module")
def with_encoder(tmp_path_factory):
    """A data set whose encoder was trained first, under the variables that a launcher gives the first of two."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "encoder.yaml").write_text(ENCODER_SETTINGS)
    # this process is alone already, and would not look at the variables any more
    PartialState(cpu=True)
    launched = dict.fromkeys(("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "TORCHELASTIC_RESTART_COUNT"), "0")
    launched |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "ACCELERATE_USE_CPU": "true"}
    with pytest.MonkeyPatch.context() as patch:
        # who tries to meet the other process fails at once instead of waiting for it
        for name, value in (launched | {"MASTER_PORT": "no port"}).items():
            patch.setenv(name, value)
        patch.setattr(make_synthetic_clips, "run_command", run_command)
        assert main(arguments(folder / "data", audio_encoder=folder / "encoder.yaml")) == 0
    return folder


def test_an_encoder_is_trained_first_by_one_of_several_processes(with_encoder):
    info = read_dataset_info(with_encoder / "data")
    assert (info.audio_encoder, info.audio_dim) == ("audio_encoder_run/audio_encoder", 32)
    assert ClipShards(with_encoder / "data").read_labels(0)["audio_features"].shape == (25, 32)


def test_same_settings_of_the_encoder_go_on_with_it_and_others_are_refused(with_encoder, tmp_path, capsys):
    data, encoder = with_encoder / "data", with_encoder / "data" / "audio_encoder_run" / "audio_encoder"
    before, trained = contents(data), contents(encoder)
    settings = tmp_path / "encoder.yaml"
    settings.write_text(ENCODER_SETTINGS + "seed: 0\ndebug: true\n")
    assert main(arguments(data, audio_encoder=settings)) == 0
    settings.write_text(ENCODER_SETTINGS.replace("max_train_steps: 1", "max_train_steps: 2") + "learning_rate: 1\n")
    assert main(arguments(data, audio_encoder=settings)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has `max_train_steps` 2, but the encoder in" in error
    assert "was trained with 1;" in error
    assert contents(data) == before and contents(encoder) == trained


def test_wrong_settings_of_the_encoder_end_with_one_line(tmp_path, capsys):
    data = tmp_path / "data"
    assert main(arguments(data, audio_encoder=tmp_path / "missing.yaml")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "missing.yaml cannot be read" in error
    assert not data.exists()


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
