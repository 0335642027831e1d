import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from training.add_denoised_motion import NUM_FRAMES, main
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.denoised_motion import SUFFIX, denoised_path
from training.data.draw import Draw
from training.data.known_pairs import KnownPairs, replaced_around
from training.train_lfg import LFGConfig, LFGStage


@pytest.fixture(scope="module")
def denoised_data_set(tmp_path_factory, moving_data_set, tiny_pipeline_folder):
    folder = tmp_path_factory.mktemp("denoised") / "clips"
    shutil.copytree(moving_data_set, folder)
    assert main(["--dataset", str(folder), "--pipeline", str(tiny_pipeline_folder), "--device", "cpu"]) == 0
    return folder


def test_every_training_clip_gets_a_window_of_denoised_motion(denoised_data_set):
    clips = ClipShards(denoised_data_set)
    for index, entry in enumerate(clips.entries):
        which, first, motion = clips.read_denoised(index)
        labels = clips.read_labels(index, ["motion", "motion_references"])
        num_frames = min(NUM_FRAMES, entry.num_frames)
        assert 0 <= which < len(labels["motion_references"]) and 0 <= first <= entry.num_frames - num_frames
        assert motion.shape == (num_frames, *labels["motion"].shape[2:]) and np.isfinite(motion).all()
        # an untrained denoiser says something else than what is known
        assert np.abs(motion - labels["motion"][first : first + num_frames, which]).max() > 0.01
    mixed = ClipMixture({str(denoised_data_set): 1.0})
    np.testing.assert_array_equal(mixed.read_denoised(0).motion, clips.read_denoised(0).motion)


def test_a_stopped_run_is_gone_on_with_and_gives_the_same(denoised_data_set, tiny_pipeline_folder):
    path = denoised_path(denoised_data_set / ClipShards(denoised_data_set).entries[0].shard)
    before = path.read_bytes()
    words = ["--dataset", str(denoised_data_set), "--pipeline", str(tiny_pipeline_folder), "--device", "cpu"]
    assert main(words) == 0 and path.read_bytes() == before
    path.unlink()
    assert main(words) == 0 and path.read_bytes() == before
    assert not list(denoised_data_set.glob("*.partial"))
    for damaged in (b"damaged", before[: len(before) // 2]):
        path.write_bytes(damaged)
        assert main(words) == 0 and path.read_bytes() == before


def test_motion_of_another_denoiser_or_seed_is_replaced(denoised_data_set, tiny_pipeline_folder, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(denoised_data_set, folder)
    path = denoised_path(folder / ClipShards(folder).entries[0].shard)
    before = path.read_bytes()
    random_pipeline("tiny", seed=5).save_pretrained(tmp_path / "other")
    for pipeline, seed in ((tmp_path / "other", 0), (tiny_pipeline_folder, 1)):
        words = ["--dataset", str(folder), "--pipeline", str(pipeline), "--seed", str(seed), "--device", "cpu"]
        assert main(words) == 0 and path.read_bytes() != before


def test_pairs_are_drawn_from_denoised_motion_or_take_it_around_the_eyes(denoised_data_set):
    clips = ClipShards(denoised_data_set)
    whole = around_eyes = 0
    for seed in range(12):
        draw = Draw(0, (seed,))
        sample = KnownPairs(clips, None, 0, False, denoised_share=1.0)[draw]
        _, first, motion = clips.read_denoised(draw.index)
        flow = torch.cat((sample["flow"].permute(2, 0, 1), sample["occlusion"])).numpy()
        known = clips.read_labels(draw.index, ["motion"])["motion"].astype(np.float32)
        is_told = min(np.abs(flow - told).max() for told in motion) < 1e-6
        corner = flow[:, -1, -1]
        is_known_outside = min(np.abs(corner - one[:, -1, -1]).max() for one in known.reshape(-1, *flow.shape)) < 1e-4
        assert is_told or is_known_outside
        whole, around_eyes = whole + is_told, around_eyes + (not is_told)
    assert whole and around_eyes


def test_other_motion_takes_its_place_in_the_box_and_fades_around():
    motion, other = np.zeros((3, 32, 32), np.float32), np.ones((3, 32, 32), np.float32)
    result = replaced_around(np.array([[40, 60, 50, 58]], np.float32), motion, other, 128)
    assert result[:, 13, 12].min() > 0.9 and result[:, 0, 0].max() == 0 and result[:, 31, 31].max() == 0
    assert 0 < result[0, 13, 18] < 0.9


def test_lfg_learns_from_denoised_motion(configs, denoised_data_set):
    model = configs["lfg"].model | {"with_motion_estimator": False}
    known = {"dataset": str(denoised_data_set), "motion": "known", "model": model, "denoised_share": 1.0}
    stage = LFGStage(replace(configs["lfg"], **known))
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,))] for seed in range(2)])
    assert stage.objectives["lfg"](batch, 0.0)["loss"].isfinite()


def test_data_sets_without_denoised_motion_are_refused(denoised_data_set, moving_data_set):
    with pytest.raises(ValueError, match="denoised.safetensors is missing or damaged .* add_denoised_motion.py"):
        KnownPairs(ClipShards(moving_data_set), denoised_share=0.5)
    with pytest.raises(ValueError, match="denoised.safetensors is missing or damaged .* add_denoised_motion.py"):
        KnownPairs(ClipMixture({str(denoised_data_set): 0.5, str(moving_data_set): 0.5}), denoised_share=0.5)
    with pytest.raises(ValueError, match="`denoised_share` is 0.5, must be 0 unless `motion` is 'known'"):
        LFGConfig(dataset="x", output_dir="y", denoised_share=0.5)
    with pytest.raises(ValueError, match=r"`denoised_share` is 1.5, must be in \[0, 1\]"):
        LFGConfig(dataset="x", output_dir="y", motion="known", denoised_share=1.5)


def test_data_sets_without_known_motion_and_missing_pipelines_are_refused(
    tmp_path, tiny_data_set, moving_data_set, tiny_pipeline_folder, capsys
):
    assert main(["--dataset", str(tiny_data_set), "--pipeline", str(tiny_pipeline_folder)]) == 2
    assert "`dataset`" in capsys.readouterr().err
    assert not list(tiny_data_set.glob(f"*{SUFFIX}"))
    assert main(["--dataset", str(moving_data_set), "--pipeline", str(tmp_path / "nowhere")]) == 2
    assert "`pipeline` " in capsys.readouterr().err
