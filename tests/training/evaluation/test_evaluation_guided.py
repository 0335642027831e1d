import math

import numpy as np
import pytest
from tiny_clips import AUDIO_DIM, eyed_clip, tiny_clip
from tiny_evaluation import SHORT, quiet_pipeline, write_test_split

from training.data.dataset_info import DatasetInfo
from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import FaceReadings, labelled_opening
from training.evaluation.report import LeftOut
from training.evaluation.sections.guided import (
    control_section,
    fidelity,
    lips_section,
    reader_section,
    reconstruction_section,
)


@pytest.fixture(scope="module")
def pipe():
    return quiet_pipeline()


def test_eyes_are_judged_where_the_data_set_knows_them(pipe, tmp_path):
    folder = write_test_split(tmp_path / "clips", eyed_clip, DatasetInfo(64, "x", AUDIO_DIM))
    report = reconstruction_section(Evaluation(pipe, folder, SHORT, None))
    figures = {figure.key: figure for figure in report.figures}
    assert figures["gain_eyes"].value == pytest.approx(figures["psnr_eyes"].value - figures["psnr_eyes"].beside)
    assert not any("eyes" in note for note in report.notes)
    assert any("opening is left out" in note for note in report.notes)


def test_lfg_without_motion_estimator_reconstructs_nothing_unless_another_is_given(pipe, tiny_data_set):
    bare = quiet_pipeline(full=False)
    evaluation = Evaluation(bare, tiny_data_set, SHORT, None)
    with pytest.raises(LeftOut, match="pass one that has it with `--lfg`"):
        reconstruction_section(evaluation)
    assert reconstruction_section(Evaluation(bare, tiny_data_set, SHORT, None, pipe.lfg)).figures


def test_frames_drawn_perfectly_gain_all_and_copies_of_the_source_nothing():
    clip = tiny_clip("test-0")
    source, frames = clip.frames[:1], clip.frames[1:]
    labels = {"mouth_px": clip.labels["mouth_px"][1:]}
    perfect = dict(fidelity(source, frames, frames, labels))
    copied = dict(fidelity(source, frames, np.broadcast_to(source, frames.shape).copy(), labels))
    assert perfect.keys() == {"picture", "mouth"}
    for part, (made, beside) in perfect.items():
        assert made == 100 > beside == copied[part][0] == copied[part][1]


def test_frames_in_which_nothing_moves_do_not_count():
    clip = tiny_clip("test-0")
    frames = np.concatenate((clip.frames[:1], clip.frames[5:6]))
    labels = {"mouth_px": clip.labels["mouth_px"][[0, 5]]}
    drawn = np.full_like(frames, 128)
    both = dict(fidelity(clip.frames[:1], frames, drawn, labels))
    moved = dict(fidelity(clip.frames[:1], frames[1:], drawn[1:], {"mouth_px": labels["mouth_px"][1:]}))
    assert both == moved


def test_a_reader_that_reads_what_the_labels_say_has_full_marks(pipe, tiny_data_set):
    clips = iter(range(len(Evaluation(pipe, tiny_data_set, SHORT, None))))

    def read(frames: np.ndarray) -> FaceReadings:
        labels = evaluation.labels(next(clips))
        opening = labelled_opening(labels)
        mesh_px = np.zeros((len(opening), 468, 2))
        return FaceReadings(opening, labels["pose"], labels["blink"], labels["face_box_px"], 0 * opening, mesh_px)

    evaluation = Evaluation(pipe, tiny_data_set, SHORT, read)
    figures = {figure.key: figure for figure in reader_section(evaluation).figures}
    assert figures["yaw"].value == pytest.approx(1)
    assert math.isnan(figures["roll"].value)  # nobody rolls the head


@pytest.mark.parametrize("section", [reader_section, lips_section, control_section])
def test_without_a_reader_nothing_can_be_said_of_faces(section, pipe, tiny_data_set):
    with pytest.raises(LeftOut, match="mediapipe"):
        section(Evaluation(pipe, tiny_data_set, SHORT, None))
