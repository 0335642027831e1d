"""Videos that are made all at once or in parts: which frames are made together, and from which picture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clips import tiny_clip
from tiny_evaluation import SHORT, quiet_pipeline, write_test_split

from diffusers_dawn.records import FaceState, Portrait
from training.data.dataset_info import DatasetInfo
from training.evaluation.clips import Evaluation, as_portrait
from training.evaluation.strategies import CHUNK_FRAMES, KEY_EVERY, STRATEGIES, Stretch, make_stretches

BLACK = np.zeros((8, 8, 3), np.uint8)
FACE = FaceState(np.zeros(6), np.full(2, 0.3), (2.0, 6.0, 1.0, 7.0), (8, 8))


class Calls:
    """Latents that are the numbers of their frames, and what they were made from."""

    def __init__(self) -> None:
        self.made: list[tuple[int, list[int]]] = []

    def animate(self, portrait: Portrait, frames: np.ndarray) -> torch.Tensor:
        self.made.append((int(portrait.image[0, 0, 0]), frames.tolist()))
        return torch.from_numpy(frames).float().view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2)

    def draw(self, stretch: Stretch, frame: int) -> Portrait:
        assert stretch.latents.shape[2] == 1 and stretch.latents.unique().tolist() == [frame]
        return Portrait(BLACK + np.uint8(frame), FACE)


@pytest.mark.parametrize("num_frames", [1, KEY_EVERY, KEY_EVERY + 1, CHUNK_FRAMES, 3 * CHUNK_FRAMES - 1])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_frame_is_in_the_video_once_and_in_order(strategy, num_frames):
    calls = Calls()
    stretches = make_stretches(strategy, Portrait(BLACK, FACE), num_frames, calls.animate, calls.draw)
    numbers = torch.cat([stretch.latents for stretch in stretches], dim=2)[0, 0, :, 0, 0]
    assert numbers.tolist() == list(range(num_frames))


def test_a_chunk_starts_from_the_last_frame_before_it():
    calls = Calls()
    make_stretches("sar", Portrait(BLACK, FACE), 100, calls.animate, calls.draw)
    assert [start for start, _ in calls.made] == [0, 39, 79]
    assert [(frames[0], len(frames)) for _, frames in calls.made] == [(0, 40), (40, 40), (80, 20)]


def test_key_frames_come_first_and_each_starts_those_up_to_the_next():
    calls = Calls()
    make_stretches("ttr", Portrait(BLACK, FACE), 25, calls.animate, calls.draw)
    assert calls.made == [
        (0, [0, 10, 20]),
        (0, list(range(10))),
        (10, list(range(10, 20))),
        (20, list(range(20, 25))),
    ]


@pytest.fixture(scope="module")
def pipe():
    return quiet_pipeline()


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "clips"
    return write_test_split(folder, lambda name: tiny_clip(name, CHUNK_FRAMES + 5), DatasetInfo(64, "x", 32))


@pytest.mark.parametrize("strategy", ["sar", "ttr"])
def test_parts_are_made_by_the_pipeline_with_the_speech_and_pose_of_their_frames(pipe, data_set, strategy):
    whole = replace(SHORT, clip_seconds=1.8, long_seconds=3.6)
    pictures = []
    for settings in (whole, replace(whole, strategy=strategy)):
        evaluation = Evaluation(pipe, data_set, settings, None)
        tracks = tuple(torch.from_numpy(evaluation.labels(0)[name]) for name in ("pose", "blink"))
        given = (evaluation.portrait(0), evaluation.speech(0), tracks, evaluation.random(0))
        pictures.append(evaluation.pictures(evaluation.render(*given)))
        given = (*given[:3], evaluation.random(0))
        stretches = evaluation.render(*given)
        assert np.array_equal(evaluation.pictures(stretches), pictures[-1])
    assert pictures[1].shape == pictures[0].shape == (CHUNK_FRAMES + 5, 64, 64, 3)
    assert not np.array_equal(*pictures)
    # across the border of two stretches
    end = slice(CHUNK_FRAMES - 2, CHUNK_FRAMES + 3)
    assert np.array_equal(evaluation.pictures(stretches, end), pictures[1][end])
    # what a later part starts from is the frame before it, with its pose
    later = stretches[1].portrait
    first = stretches[0].latents.shape[2]
    assert np.array_equal(later.face.pose, evaluation.labels(0)["pose"][first - (strategy == "sar")])
    if strategy == "sar":
        assert np.array_equal(later.image, pictures[1][first - 1])


def test_box_of_a_made_frame_has_its_size():
    portrait = as_portrait(np.zeros((16, 16, 3), np.uint8), FACE, np.ones(6), np.zeros(2))
    assert portrait.face.box_px == (4.0, 12.0, 2.0, 14.0) and portrait.face.image_size == (16, 16)
    assert portrait.face.pose.tolist() == [1.0] * 6 and portrait.face.blink.tolist() == [0.0, 0.0]
