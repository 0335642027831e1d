"""Absurd numbers in the configs of a saved pipeline, of whatever part, are refused before anything is built."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn import DAWNPipeline, demo_checkpoint
from diffusers_dawn.sharing.saved_configs import check_saved_numbers

PLACES = {
    "audio_encoder/config.json": ("hidden_size", "num_hidden_layers", "conv_dim"),
    "scheduler/scheduler_config.json": ("num_train_timesteps",),
    "feature_extractor/preprocessor_config.json": ("sampling_rate", "feature_size"),
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """The configs of the checkpoint that ships, without weights."""
    folder = tmp_path_factory.mktemp("configs") / "shipped"
    return shutil.copytree(demo_checkpoint(), folder, ignore=shutil.ignore_patterns("*.safetensors", "*.py"))


@given(
    place=st.sampled_from([(path, name) for path, names in PLACES.items() for name in names]),
    value=st.integers(10**6 + 1) | st.just(float("nan")) | st.integers(max_value=-(10**6) - 1),
    in_list=st.booleans(),
)
def test_absurd_numbers_are_refused_by_name_and_file(configs, place, value, in_list):
    path, name = place
    kept = (configs / path).read_text()
    (configs / path).write_text(json.dumps(json.loads(kept) | {name: [8, value] if in_list else value}))
    try:
        with pytest.raises(ValueError, match=f"^`{name}` in {path} is {value}, must be a number, (of|from . to) "):
            check_saved_numbers(configs)
    finally:
        (configs / path).write_text(kept)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("audio_encoder/config.json", "conv_stride", [5, 2, 0]),
        ("audio_encoder/config.json", "conv_kernel", [-1, 3, 3]),
        ("audio_encoder/config.json", "conv_dim", [0]),
        ("scheduler/scheduler_config.json", "num_train_timesteps", -5),
    ],
)
def test_counts_that_are_negative_and_convolutions_without_a_size_are_refused(configs, tmp_path, path, name, value):
    folder = shutil.copytree(configs, tmp_path / "small")
    (folder / path).write_text(json.dumps(json.loads((folder / path).read_text()) | {name: value}))
    with pytest.raises(ValueError, match=f"^`{name}` in {path} is (0|-.), must be a number, from [01] to 1,000,000$"):
        check_saved_numbers(folder)


def test_more_layers_than_any_network_has_are_refused_before_weights_are_looked_for(configs, tmp_path):
    folder = shutil.copytree(configs, tmp_path / "deep")
    path = folder / "audio_encoder/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 257}))
    with pytest.raises(ValueError, match="^`num_hidden_layers` in audio_encoder/config.json is 257, .* to 256$"):
        DAWNPipeline.from_pretrained(folder)


def test_what_ships_and_infinite_bounds_of_schedulers_pass(configs, tmp_path):
    folder = shutil.copytree(configs, tmp_path / "bounded")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lambda_min_clipped": -float("inf")}))
    check_saved_numbers(configs)
    check_saved_numbers(folder)
