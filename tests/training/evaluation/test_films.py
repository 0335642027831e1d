"""Films are judged by what was filmed: here of drawn people, who are never wrong about themselves."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_evaluation import SHORT, quiet_pipeline

from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import FaceReader
from training.evaluation.likeness import LANDMARK_LABELS
from training.evaluation.metrics.image_quality import LARGEST_PSNR_DB
from training.evaluation.paper_figures import MOVEMENT
from training.evaluation.report import LeftOut
from training.evaluation.sections import films
from training.evaluation.settings import EvaluationSettings
from training.synthetic.talking_head import make_talking_head

NUM_FRAMES = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for identity in (4, 6):
        clip = make_talking_head(identity, 3, size_px=128, num_frames=NUM_FRAMES)
        write_video(folder / f"{identity}.mp4", clip.frames, Waveform(clip.samples, SAMPLE_RATE_HZ))
    return folder


@pytest.fixture(scope="module")
def reader():
    with FaceReader() as reader:
        yield reader


def evaluation_of(folder, dataset, reader, **changes):
    lengths = {"clip_seconds": NUM_FRAMES / 25, "long_seconds": 2 * NUM_FRAMES / 25}
    settings = replace(SHORT, real_clips=folder, **lengths, **changes)
    return Evaluation(quiet_pipeline(), dataset, settings, reader)


def figures_of(report):
    return {figure.key: figure.value for figure in report.figures}


@pytest.fixture(scope="module")
def truth(folder, tiny_data_set, reader, tmp_path_factory):
    """Report of a pipeline that shows what was filmed, and the folder of its pictures."""
    output = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(films, "_rendered", lambda evaluation, film, sound, place: film.frames)
        evaluation = evaluation_of(folder, tiny_data_set, reader, output=output, num_videos=1)
        return films.films_section(evaluation), output


def test_a_pipeline_that_shows_what_was_filmed_has_full_marks(truth):
    report, _ = truth
    figures = figures_of(report)
    for name in ("opening", "opening_size", "width", "sharpness", "other_sound", "lag_within_1"):
        assert figures[name] == pytest.approx(1, abs=1e-3), name
    assert figures["psnr_db"] == LARGEST_PSNR_DB and figures["ssim"] == 1
    for name in LANDMARK_LABELS:
        assert figures[name] == pytest.approx(0, abs=1e-4), name
    # what is no matter of truth stands beside the films' own
    movement = {figure.key: figure for figure in report.figures if figure.key in MOVEMENT}
    assert list(movement) == list(MOVEMENT)
    for name in ("bas", "blinks_per_s", "head_diversity_deg", "head_jerk_deg_per_s3", "mouth_jerk_per_s3"):
        assert movement[name].value == movement[name].beside, name


def test_curves_of_the_mouths_are_drawn_and_named(truth):
    report, output = truth
    assert [path.name for path in output.iterdir()] == ["mouths_of_films.png"]
    assert "Curves of the mouth's opening: mouths_of_films.png." in report.notes


def test_a_picture_that_stands_still_has_none(folder, tiny_data_set, reader, monkeypatch):
    still = lambda evaluation, film, sound, place: np.repeat(film.frames[:1], len(film.frames), axis=0)  # noqa: E731
    monkeypatch.setattr(films, "_rendered", still)
    figures = figures_of(films.films_section(evaluation_of(folder, tiny_data_set, reader)))
    assert figures["opening"] == 0 and figures["opening_size"] < 0.01 and abs(figures["pauses"]) < 1e-6


def test_noise_without_a_face_is_told_and_improves_nothing(folder, tiny_data_set, reader):
    report = films.films_section(evaluation_of(folder, tiny_data_set, reader))
    assert figures_of(report)["opening"] == 0
    assert any("2 films" in note for note in report.notes)


def test_without_films_or_a_reader_the_part_is_left_out(folder, tiny_data_set, reader):
    with pytest.raises(LeftOut, match="real_clips"):
        films.films_section(Evaluation(quiet_pipeline(), tiny_data_set, SHORT, reader))
    with pytest.raises(LeftOut, match="mediapipe"):
        films.films_section(evaluation_of(folder, tiny_data_set, None))


def test_a_folder_that_is_not_there_and_films_too_short_are_refused(folder, tiny_data_set, reader, tmp_path):
    with pytest.raises(ValueError, match="`real_clips` is not there"):
        EvaluationSettings(real_clips=tmp_path / "nowhere")
    clip = make_talking_head(4, 3, size_px=128, num_frames=5)
    write_video(tmp_path / "short.mp4", clip.frames, Waveform(clip.samples, SAMPLE_RATE_HZ))
    with pytest.raises(ValueError, match="short.mp4 has 5 frames"):
        films.films_section(evaluation_of(tmp_path, tiny_data_set, reader))
