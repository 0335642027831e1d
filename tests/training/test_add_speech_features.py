import shutil

import numpy as np
import pytest
from tiny_clips import AUDIO_DIM, write_tiny_data_set

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from training.add_speech_features import add_features, main
from training.data.clip_shards import ClipShards
from training.data.dataset_info import read_dataset_info
from training.data.features_beside import features_path


@pytest.fixture
def folder(tmp_path):
    return write_tiny_data_set(tmp_path / "clips", 2, 1, 6)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    pipe = random_pipeline("tiny", seed=5)
    pipe.audio_encoder.save_pretrained(folder)
    pipe.feature_extractor.save_pretrained(folder)
    return folder


def test_features_of_another_encoder_take_the_place_of_those_inside(folder, encoder):
    before = [ClipShards(folder, split).read_labels(0)["audio_features"] for split in ("train", "test")]
    add_features(folder, str(encoder))
    info = read_dataset_info(folder)
    assert info.audio_encoder == str(encoder) and info.audio_dim == AUDIO_DIM
    for split, old in zip(("train", "test"), before, strict=True):
        clips = ClipShards(folder, split)
        new = clips.read_labels(0, ["pose", "audio_features"])["audio_features"]
        assert new.shape == old.shape and new.dtype == np.float16 and not np.array_equal(new, old)
        np.testing.assert_array_equal(clips.read_labels(0)["audio_features"], new)
        assert "audio_features" not in clips.read_labels(0, ["pose"])


def test_a_stopped_run_changes_nothing_and_is_gone_on_with(folder, encoder):
    shard = folder / ClipShards(folder).entries[0].shard
    add_features(folder, str(encoder))
    finished = features_path(shard, str(encoder)).read_bytes()
    info = (folder / "dataset.json").read_bytes()
    # another encoder's run, stopped after its first shard
    other = folder.parent / "other"
    shutil.copytree(encoder, other)
    features_path(shard, str(other)).write_bytes(b"begun")
    clips = ClipShards(folder)
    assert clips.read_labels(0)["audio_features"].shape == (6, AUDIO_DIM)
    features_path(shard, str(other)).unlink()
    add_features(folder, str(other))
    assert not features_path(shard, str(encoder)).exists()
    add_features(folder, str(encoder))
    assert features_path(shard, str(encoder)).read_bytes() == finished
    assert (folder / "dataset.json").read_bytes() == info


def test_damaged_features_are_refused(folder, encoder):
    add_features(folder, str(encoder))
    clips = ClipShards(folder)
    features_path(folder / clips.entries[0].shard, str(encoder)).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged .* add_speech_features.py"):
        clips.read_labels(0)


def test_a_missing_encoder_ends_the_command_in_one_sentence(folder, capsys):
    assert main(["--dataset", str(folder), "--audio_encoder", str(folder / "nowhere")]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
    assert read_dataset_info(folder).audio_encoder == "audio_encoder"
