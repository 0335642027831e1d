import numpy as np
import pytest
from tiny_clips import tiny_clip, write_tiny_data_set

from training.data.clip_mixture import ClipMixture, open_clips
from training.data.clip_shards import ClipShards
from training.data.dataset_info import DatasetInfo, replace_dataset_info, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed")
    write_tiny_data_set(root / "one", num_clips=2, num_frames=8)
    # somebody with three clips, somebody else with one
    (root / "other").mkdir()
    write_dataset_info(root / "other", DatasetInfo(64, "other", 32))
    names = ["often-0", "often-1", "often-2", "seldom-0"]
    write_shard(shard_path(root / "other", "train", 0), names, lambda name: tiny_clip(name, 8))
    return root / "one", root / "other"


def test_a_mixture_reads_the_clips_of_all_its_parts(folders):
    one, other = folders
    mixture = ClipMixture({str(one): 1, str(other): 1})
    assert [entry.clip_id for entry in mixture.entries][-1] == "seldom-0" and len(mixture) == 6
    alone = ClipShards(other)
    for name in ("pose", "mouth_px"):
        np.testing.assert_array_equal(mixture.read_labels(5)[name], alone.read_labels(3)[name])
    np.testing.assert_array_equal(mixture.read_frames(5, [1]), alone.read_frames(3, [1]))
    np.testing.assert_array_equal(mixture.read_samples(5), alone.read_samples(3))
    assert mixture.read_info(5)["identity"] == "seldom"


def test_parts_are_drawn_by_their_shares_and_people_alike(folders):
    one, other = folders
    mixture = ClipMixture({str(one): 1, str(other): 3})
    rng = np.random.default_rng(0)
    drawn = [mixture.entries[mixture.choose(rng)].identity for _ in range(400)]
    # 3 / 8 of 400 each, within three standard deviations
    assert all(120 < drawn.count(identity) < 180 for identity in ("often", "seldom"))


def test_a_folder_alone_is_opened_as_it_is(folders):
    assert isinstance(open_clips(str(folders[0])), ClipShards)
    assert isinstance(open_clips({str(folders[0]): 1.0}), ClipMixture)


@pytest.mark.parametrize("share", [0, -1, "half"])
def test_shares_must_be_positive_numbers(folders, share):
    with pytest.raises(ValueError, match="`dataset` gives .* the share"):
        ClipMixture({str(folders[0]): share})


def test_parts_of_several_sizes_are_refused_unless_sizes_do_not_matter(folders, tmp_path):
    other = write_tiny_data_set(tmp_path / "wide", num_clips=1, num_frames=8)
    replace_dataset_info(other, DatasetInfo(128, "audio_encoder", 32))
    with pytest.raises(ValueError, match="`size_px` 64 and .* with 128"):
        ClipMixture({str(folders[0]): 1, str(other): 1})
    mixed = ClipMixture({str(folders[0]): 1, str(other): 1}, alike=("audio_dim",))
    assert len(mixed) == len(ClipShards(folders[0])) + 1
