import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.data import motion_cache
from training.data.clip_shards import ClipShards
from training.data.datasets import MotionWindows
from training.data.draw import Draw
from training.data.motion_cache import MotionCache, weights_fingerprint
from training.objectives.estimated_motion import estimate_motion


@pytest.fixture(scope="module")
def lfg(tiny_pipeline_folder) -> LatentFlowGenerator:
    return LatentFlowGenerator.from_pretrained(tiny_pipeline_folder, subfolder="lfg").requires_grad_(False).eval()


@pytest.fixture
def clips(tiny_data_set) -> ClipShards:
    return ClipShards(tiny_data_set, "train")


@pytest.fixture
def cache(clips, lfg) -> MotionCache:
    cache = MotionCache(clips, lfg, 3)
    for shard in cache.shards():
        cache.build(clips, lfg, shard, torch.device("cpu"))
    return cache


def images(clips: ClipShards, index: int, frames) -> torch.Tensor:
    return torch.from_numpy(clips.read_frames(index, frames)).permute(0, 3, 1, 2).float() / 255


def test_cached_motion_is_what_the_network_says(clips, lfg, cache):
    reference = int(cache.references(4)[1])
    direct = estimate_motion(lfg, images(clips, 4, [reference]), images(clips, 4, range(7, 12))[None])[0]
    # float16 has a step of 0.0005 at 1
    torch.testing.assert_close(cache.read(4, reference, 7, 5), direct, rtol=0, atol=1e-3)


def test_motion_does_not_depend_on_the_chunks(clips, lfg):
    frames = images(clips, 0, range(5))[None]
    first, second = (estimate_motion(lfg, frames[:, 0], frames, chunk_size=size) for size in (2, 16))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_cache_is_not_built_twice(clips, lfg, cache):
    before = {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    for shard in cache.shards():
        cache.build(clips, lfg, shard, torch.device("cpu"))
    assert {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()} == before and len(before) == 2


def test_trainings_side_by_side_may_store_the_same_shard(clips, lfg, cache, monkeypatch):
    shard, device = cache.shards()[0], torch.device("cpu")
    path = (cache.folder / shard).with_suffix(".safetensors")
    stored = path.read_bytes()
    path.unlink()

    def save_while_another_does(tensors, place):
        save_file(tensors, place)
        monkeypatch.undo()
        cache.build(clips, lfg, shard, device)

    monkeypatch.setattr(motion_cache, "save_file", save_while_another_does)
    cache.build(clips, lfg, shard, device)
    assert path.read_bytes() == stored and len(list(cache.folder.iterdir())) == 2


def test_other_weights_have_another_cache(lfg):
    first = weights_fingerprint(lfg)
    other = LatentFlowGenerator.from_config(lfg.config)
    assert weights_fingerprint(other) != first == weights_fingerprint(lfg)


def test_references_begin_at_the_first_frame_and_are_spread(cache):
    assert cache.references(0).tolist() == [0, 10, 20]
    assert cache.nearest_reference(0, 14, 25) == 10
    assert cache.nearest_reference(0, 14, 5) == 0


def test_windows_with_a_cache_hold_the_motion_from_their_reference(clips, cache):
    for reference in ("first", "random"):
        samples = MotionWindows(clips, 4, 4, reference, colour_jitter=False, cache=cache)
        sample = samples[Draw(2, (5,), 4)]
        assert sample["motion"].shape == (3, 4, 16, 16) and "frames" not in sample
        found = [
            index for index in cache.references(2) if torch.equal(images(clips, 2, [index])[0], sample["reference"])
        ]
        assert len(found) == 1


def test_cache_travels_to_worker_processes(cache):
    cache.read(0, 0, 0, 2)
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy.read(0, 0, 0, 2), cache.read(0, 0, 0, 2))
