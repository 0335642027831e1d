"""The sync network looks at mouths, hears what sounds with them, and finds by how much the two are apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clips import tiny_clip, write_tiny_data_set

from training.data.clip_members import PreparedClip
from training.data.draw import Draw
from training.evaluation.dawn_sync import TRIED_OFFSETS, found_offsets
from training.evaluation.validation import TruthClip
from training.objectives.sync_network import MOUTH_PX, SyncEmbeddings, mouth_squares, sound_bands, sync_loss
from training.train_syncnet import SyncConfig, SyncStage

NUM_FRAMES = 40
MODEL = {"channels": [8, 8, 16], "width": 32, "embedding_dim": 16}


def speaking_clip(clip_id: str, num_frames: int = NUM_FRAMES) -> PreparedClip:
    """A tiny clip that never repeats itself: its mouth is as bright as its sound is loud."""
    clip, rng = tiny_clip(clip_id, num_frames), np.random.default_rng(sum(clip_id.encode()) + 1)
    loudness = rng.uniform(0.05, 1, num_frames)
    frames = np.repeat((255 * loudness).astype(np.uint8), 64 * 64 * 3).reshape(clip.frames.shape)
    samples = np.repeat(loudness, 640) * np.sin(np.arange(640 * num_frames) * 0.4) * 0.5
    return replace(clip, frames=frames, samples=samples.astype(np.float32))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> SyncConfig:
    folder = write_tiny_data_set(tmp_path_factory.mktemp("data") / "clips", 4, 2, NUM_FRAMES, speaking_clip)
    return SyncConfig(dataset=str(folder), output_dir="unused", model=MODEL, report_to="none", num_frames=20)


def test_square_lies_around_the_mouth_and_is_grey():
    columns = torch.linspace(0, 1, 100).expand(3, 100, 100)
    pictures = torch.stack((columns, columns.mT)).repeat_interleave(4, dim=0)
    boxes = torch.tensor([20.0, 70.0, 10.0, 90.0]).repeat(8, 1)
    squares = mouth_squares(pictures, boxes)
    assert squares.shape == (8, MOUTH_PX, MOUTH_PX)
    # 40 px wide around the box's middle, 45; from 30 px below its top on
    assert squares[0, 0, [0, -1]].tolist() == pytest.approx([25.1 / 99, 63.9 / 99], abs=0.01)
    assert squares[4, [0, -1], 0].tolist() == pytest.approx([40.1 / 99, 78.9 / 99], abs=0.01)
    lower_jaw = mouth_squares(pictures, boxes + torch.tensor([0.0, 0.0, 0.0, 9.0]))
    torch.testing.assert_close(lower_jaw, squares)


def test_bands_lie_on_their_frames_and_do_not_know_how_loud_the_whole_is():
    samples = np.random.default_rng(0).normal(size=10 * 640) * np.repeat(np.arange(10) == 6, 640)
    samples += 0.01 * np.random.default_rng(1).normal(size=10 * 640)
    bands = sound_bands(torch.from_numpy(samples))
    assert bands.shape == (40, 40)
    loudest = bands.mean(dim=1).topk(4).indices.sort().values
    assert loudest.tolist() == [24, 25, 26, 27]
    torch.testing.assert_close(sound_bands(torch.from_numpy(samples * 3)), bands, atol=1e-3, rtol=0)


def test_moved_sound_is_found_where_it_was_moved_to():
    clip = speaking_clip("test-0")
    truth = TruthClip("a", clip.frames, clip.samples, clip.labels)

    def embed(pictures, samples, boxes):
        # an ear and an eye without error, as points on a circle
        loudness = pictures.mean(dim=(1, 2, 3)), samples.view(-1, 640).abs().amax(dim=1) * 2
        return tuple(torch.stack((part.cos(), part.sin()), dim=1) for part in loudness)

    assert found_offsets(embed, truth) == list(TRIED_OFFSETS)


def test_loss_is_that_of_a_guess_without_and_small_with_agreement():
    same = torch.eye(6)[None]
    scale = torch.tensor(np.log(20.0))
    assert float(sync_loss(SyncEmbeddings(same, same), scale)) < 1e-6
    constant = torch.zeros(1, 6, 6)
    assert float(sync_loss(SyncEmbeddings(constant, constant), scale)) == pytest.approx(np.log(6))


def test_a_trained_network_finds_offsets_of_held_out_clips(config):
    stage = SyncStage(config)
    samples, objective = stage.samples(), stage.objectives["syncnet"]
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    untrained = stage.validate().metrics["offsets_within_1"]
    for step in range(40):
        parts = [samples[Draw(index, (step, index))] for index in range(4)]
        objective({name: torch.stack([part[name] for part in parts]) for name in parts[0]}, 0.0)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    found = stage.validate().metrics
    assert untrained < 0.6 and found["offsets_within_1"] > 0.9 >= found["offsets_missed_by_frames"]


def test_everything_that_is_trained_gets_a_gradient_and_the_same_draw_the_same_window(config):
    stage = SyncStage(config)
    samples = stage.samples()
    first, again, other = (samples[Draw(0, seed)] for seed in ((1,), (1,), (2,)))
    assert torch.equal(first["mouths"], again["mouths"]) and not torch.equal(first["mouths"], other["mouths"])
    stage.objectives["syncnet"]({name: part[None] for name, part in first.items()}, 0.0)["loss"].backward()
    assert [name for name, weight in stage.network.named_parameters() if weight.grad is None] == []


def test_clips_shorter_than_a_window_are_refused(config):
    with pytest.raises(ValueError, match="`num_frames` is 50, but `dataset` .* has a clip of 40"):
        SyncStage(replace(config, num_frames=50)).samples()
    with pytest.raises(ValueError, match="`num_frames` is 1, must be at least 2"):
        replace(config, num_frames=1)
