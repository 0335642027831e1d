import pytest
from tiny_clips import AUDIO_DIM, tiny_clip
from tiny_evaluation import SHORT, quiet_pipeline, write_test_split

from diffusers_dawn.models.pbnet import PoseBlinkNet
from training.data.dataset_info import DatasetInfo
from training.evaluation.clips import Evaluation
from training.evaluation.report import LeftOut
from training.evaluation.sections.unguided import long_section, recordings_section, tracks_section


@pytest.fixture(scope="module")
def pipe():
    return quiet_pipeline()


def test_without_a_training_split_nothing_is_beside_the_tracks(pipe, tmp_path):
    folder = write_test_split(tmp_path / "clips", tiny_clip, DatasetInfo(64, "x", AUDIO_DIM))
    report = tracks_section(Evaluation(pipe, folder, SHORT, None))
    assert {figure.beside for figure in report.figures} == {None}
    assert "no training split" in report.notes[0]


def test_pipeline_without_pbnet_has_no_tracks(pipe, tiny_data_set):
    bare = type(pipe)(**(pipe.components | {"pbnet": None}))
    with pytest.raises(LeftOut, match="no PBNet"):
        tracks_section(Evaluation(bare, tiny_data_set, SHORT, None))


@pytest.mark.parametrize(("networks", "there", "missing"), [("pose", "yaw", "blinks"), ("blink", "blinks", "yaw")])
def test_pbnet_that_makes_one_track_is_judged_by_it(networks, there, missing, pipe, tiny_data_set):
    sizes = {key: value for key, value in pipe.pbnet.config.items() if not key.startswith("_")}
    pbnet = PoseBlinkNet(**(sizes | {"networks": networks})).eval()
    report = tracks_section(Evaluation(type(pipe)(**(pipe.components | {"pbnet": pbnet})), tiny_data_set, SHORT, None))
    keys = [figure.key for figure in report.figures]
    assert any(there in key for key in keys) and not any(missing in key for key in keys)
    assert any(note.startswith("This PBNet makes no") for note in report.notes)


def test_two_samples_of_the_same_speech_differ(pipe, tiny_data_set):
    figures = {figure.key: figure for figure in tracks_section(Evaluation(pipe, tiny_data_set, SHORT, None)).figures}
    assert figures["least_yaw_difference_deg"].value > 0
    assert figures["yaw_speed_median_deg_per_s"].beside > 0


@pytest.mark.parametrize("section", [long_section, recordings_section])
def test_without_a_reader_nothing_can_be_said_of_faces(section, pipe, tiny_data_set):
    with pytest.raises(LeftOut, match="mediapipe"):
        section(Evaluation(pipe, tiny_data_set, SHORT, None))
