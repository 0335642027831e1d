import logging

import numpy as np
import pytest
import torch
from tiny_clips import write_tiny_data_set

from training.data.shard_journal import shard_path
from training.data.shard_writing import ClipSkipped, write_shard
from training.evaluation.validation import (
    TruthClip,
    box_inside,
    mean_of_rows,
    mouth_metrics,
    picture_metrics,
    validation_clips,
)
from training.synthetic.talking_head import identity_seed, make_talking_head


@pytest.fixture(scope="module")
def talking() -> TruthClip:
    clip = make_talking_head(identity_seed(3, "test"), 1, "test", 128, 50)
    return TruthClip(clip.clip_id, clip.frames, clip.samples, clip.labels)


def as_floats(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / 255


def test_truth_itself_has_the_best_marks(talking, detector):
    pictures = picture_metrics(as_floats(talking.frames), talking)
    assert pictures["psnr"] == np.inf and pictures["ssim"] == pytest.approx(1)
    mouth = mouth_metrics(as_floats(talking.frames), talking)
    assert mouth["mouth_correlation"] > 0.8 and mouth["mouth_lag_frames"] == 0
    # the reader's landmarks of a 128 px face are a pixel or two off
    assert 0 < mouth["m_lmd_px"] < 4


def test_mouth_of_another_time_is_told_by_its_lag(talking, detector):
    late = np.concatenate((talking.frames[:1].repeat(3, axis=0), talking.frames[:-3]))
    assert mouth_metrics(as_floats(late), talking)["mouth_lag_frames"] == 3


def test_frozen_face_has_no_mouth_to_measure(talking, detector):
    frozen = np.broadcast_to(talking.frames[:1], talking.frames.shape)
    assert mouth_metrics(as_floats(frozen), talking) == {}
    assert picture_metrics(as_floats(frozen), talking)["psnr_mouth"] < 40


def test_picture_without_a_face_has_no_mouth_metrics(talking, detector):
    labels = {name: values[:5] for name, values in talking.labels.items()}
    clip = TruthClip(talking.clip_id, talking.frames[:5], talking.samples[: 5 * 640], labels)
    assert mouth_metrics(np.zeros(clip.frames.shape, np.float32), clip) == {}


def test_mouth_box_is_judged_by_itself(talking):
    frames = as_floats(talking.frames)
    frames[:, :20] = 0
    found = picture_metrics(frames, talking)
    assert found["psnr_mouth"] == np.inf and found["psnr"] < 40


def test_boxes_are_cut_at_the_border_and_never_empty():
    boxes_px = torch.tensor([[-5.0, 3.0, 2.0, 99.0], [70.0, 80.0, -9.0, -4.0], [1.0, 2.5, 3.0, 4.5]])
    assert box_inside(boxes_px, (48, 64)).tolist() == [[0, 3, 2, 48], [63, 64, 0, 1], [1, 2.5, 3, 4.5]]


def test_clips_are_those_of_the_test_split_cut_to_the_length(tiny_data_set):
    (clip,) = validation_clips(str(tiny_data_set), 3, 10)
    assert clip.clip_id == "test-0" and len(clip.frames) == 10 == len(clip.labels["pose"])
    assert len(clip.samples) == 6_400
    assert clip.portrait().face.box_px == pytest.approx(clip.labels["face_box_px"][0])


def test_without_a_test_split_it_is_said_that_training_clips_are_used(tmp_path, caplog):
    folder = write_tiny_data_set(tmp_path / "clips", num_clips=2, num_test_clips=0)
    with caplog.at_level(logging.WARNING, "training"):
        (clip, _) = validation_clips(str(folder), 2, 10)
    assert clip.clip_id == "train-0" and "no test clips" in caplog.text


def test_test_split_whose_clips_were_all_skipped_is_as_none(tmp_path):
    folder = write_tiny_data_set(tmp_path / "clips", num_clips=2, num_test_clips=0)

    def skip(name: str):
        raise ClipSkipped("no face")

    write_shard(shard_path(folder, "test", 0), ["test-0"], skip)
    assert validation_clips(str(folder), 1, 10)[0].clip_id == "train-0"


def test_metric_that_some_clips_lack_is_the_mean_of_the_others():
    assert mean_of_rows([{"a": 1.0, "b": 2.0}, {"a": 3.0}]) == {"a": 2.0, "b": 2.0}
