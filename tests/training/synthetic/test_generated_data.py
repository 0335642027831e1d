import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.synthetic.generated_data import GeneratorSettings, begin, check_settings, plan_shards, write_example
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.renderer import HeadRenderer
from training.synthetic.talking_head import FIRST_TEST_IDENTITY, identity_seed

SETTINGS = GeneratorSettings(7, 3, 4, 2, size_px=64, num_frames=25, clips_per_shard=3)


def test_shards_hold_all_clips_of_all_identities():
    shards = plan_shards(Path("data"), SETTINGS)
    assert [(shard.path.name, len(shard.clips)) for shard in shards] == [
        ("train-00000.tar", 3),
        ("train-00001.tar", 3),
        ("train-00002.tar", 1),
        ("test-00000.tar", 3),
        ("test-00001.tar", 1),
    ]
    train = [clip for shard in shards for clip in shard.clips if clip.split == "train"]
    assert [clip.identity_seed for clip in train] == [0, 1, 2, 0, 1, 2, 0]


@given(st.integers(0, 2**20 - 1), st.integers(1, 40), st.integers(1, 40))
def test_no_two_clips_are_the_same_and_no_identity_is_in_both_splits(seed, num_clips, test_clips):
    settings = GeneratorSettings(num_clips, 1, test_clips, 1, size_px=64, num_frames=25, seed=seed)
    clips = [clip for shard in plan_shards(Path("data"), settings) for clip in shard.clips]
    assert len({clip.clip_id for clip in clips}) == len(clips) == num_clips + test_clips
    assert len({clip.clip_seed for clip in clips}) == len(clips)
    assert all((clip.identity_seed >= FIRST_TEST_IDENTITY) == (clip.split == "test") for clip in clips)


def test_data_set_without_test_clips_can_be_planned():
    settings = replace(SETTINGS, test_clips=0, test_identities=0)
    check_settings(settings)
    assert {clip.split for shard in plan_shards(Path("data"), settings) for clip in shard.clips} == {"train"}


@pytest.mark.parametrize(
    "changes",
    [
        {"num_clips": 0},
        {"num_identities": 0},
        {"num_identities": 8},
        {"test_identities": 0},
        {"size_px": 31},
        {"size_px": 65},
        {"num_frames": 0},
        {"seed": -1},
        {"clips_per_shard": 0},
        {"flow_stride": 7},
        {"flow_stride": -1},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    check_settings(SETTINGS)
    with pytest.raises(ValueError, match=f"`{next(iter(changes))}` is"):
        check_settings(replace(SETTINGS, **changes))


def test_folder_is_gone_on_with_by_the_same_settings_only(tmp_path):
    begin(tmp_path / "data", SETTINGS)
    begin(tmp_path / "data", SETTINGS)
    assert json.loads((tmp_path / "data" / "generator.json").read_text()) == asdict(SETTINGS)
    with pytest.raises(ValueError, match="`seed` is 1, but .* was started with 0"):
        begin(tmp_path / "data", replace(SETTINGS, seed=1))


def test_folder_of_another_data_set_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="`output`: .* made otherwise"):
        begin(tmp_path, SETTINGS)


def test_damaged_settings_are_refused(tmp_path):
    (tmp_path / "generator.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="`output`: .*generator.json cannot be understood"):
        begin(tmp_path, SETTINGS)


def test_known_portrait_is_of_the_training_and_has_the_least_beard(tmp_path):
    settings = replace(SETTINGS, num_identities=4)
    write_example(tmp_path, settings)
    densities = [sum(draw_identity(identity_seed(index, "train")).beard[:3]) for index in range(4)]
    assert densities[0] > 0, "the first has one, otherwise nothing is tried"
    seed = identity_seed(densities.index(min(densities)), "train")
    expected = HeadRenderer(draw_identity(seed), 256).render(HeadState()).image
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "known_portrait.png")), expected)
