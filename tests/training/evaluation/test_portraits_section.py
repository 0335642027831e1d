"""Portraits that are given pose and blinks are judged by whether they do what they are given."""

import wave
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import SHORT, quiet_pipeline

from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import FaceReader
from training.evaluation.identity import FaceEmbedding
from training.evaluation.report import LeftOut
from training.evaluation.sections import portraits
from training.evaluation.sections.portraits import (
    changed_border,
    eyes_closed_over_open,
    given_tracks,
    portraits_section,
)
from training.evaluation.settings import EvaluationSettings
from training.synthetic.talking_head import make_talking_head

NUM_FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits")
    for identity in (4, 6):
        Image.fromarray(make_talking_head(identity, 3, size_px=128, num_frames=1).frames[0]).save(
            folder / f"{identity}.png"
        )
    Image.new("RGB", (128, 128)).save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="module")
def reader():
    with FaceReader() as reader:
        yield reader


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    rng = np.random.default_rng(0)
    loud_and_quiet = np.repeat([1, 0, 1, 0], NUM_FRAMES * 160)
    samples = (rng.normal(size=NUM_FRAMES * 640) * 3000 * loud_and_quiet).astype(np.int16)
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(samples.tobytes())
    return path


def evaluation_of(folder, dataset, reader, recordings):
    settings = replace(
        SHORT,
        portraits=folder,
        recordings=recordings,
        num_clips=3,
        clip_seconds=NUM_FRAMES / 25,
        long_seconds=2 * NUM_FRAMES / 25,
    )
    return Evaluation(quiet_pipeline(), dataset, settings, reader)


def test_a_portrait_that_stands_still_keeps_its_identity_and_border_and_does_nothing_else(
    folder, tiny_data_set, reader, speech, monkeypatch
):
    evaluation = evaluation_of(folder, tiny_data_set, reader, (speech,))
    monkeypatch.setattr(evaluation, "render", lambda portrait, *rest: portrait)
    monkeypatch.setattr(evaluation, "pictures", lambda portrait: np.repeat(portrait.image[None], NUM_FRAMES, axis=0))
    report = portraits_section(evaluation)
    figures = {figure.key: figure.value for figure in report.figures}
    assert figures["identity"] < 0.01 and figures["border"] == 0
    assert figures["yaw"] == figures["pitch"] == figures["roll"] == figures["energy"] == 0
    assert all(abs(figures[f"{angle}_slope"]) < 1e-6 for angle in ("yaw", "pitch", "roll"))
    assert figures["eyes"] == pytest.approx(1, abs=1e-3) and figures["pauses"] == pytest.approx(0, abs=1e-6)
    assert any("1 pictures cannot be used" in note for note in report.notes)


def test_without_dlib_identity_is_left_out_and_said(folder, tiny_data_set, reader, speech, monkeypatch):
    def missing():
        raise ImportError("dlib is missing")

    monkeypatch.setattr(portraits, "FaceEmbedding", missing)
    report = portraits_section(evaluation_of(folder, tiny_data_set, reader, (speech,)))
    assert "identity" not in {figure.key for figure in report.figures}
    assert any("dlib is missing" in note for note in report.notes)


def test_without_portraits_or_recordings_the_part_is_left_out(folder, tiny_data_set, reader, speech):
    with pytest.raises(LeftOut, match="portraits"):
        portraits_section(Evaluation(quiet_pipeline(), tiny_data_set, SHORT, reader))
    with pytest.raises(LeftOut, match="recordings"):
        portraits_section(evaluation_of(folder, tiny_data_set, reader, ()))


def test_folders_without_a_face_or_that_are_not_there_are_refused(folder, tiny_data_set, reader, speech, tmp_path):
    with pytest.raises(ValueError, match="`portraits` is not there"):
        EvaluationSettings(portraits=tmp_path / "nowhere")
    Image.new("RGB", (128, 128)).save(tmp_path / "nobody.png")
    with pytest.raises(ValueError, match="`portraits` has no picture with a face"):
        portraits_section(evaluation_of(tmp_path, tiny_data_set, reader, (speech,)))


def test_given_blinks_are_found_where_the_lids_follow_them(folder, reader):
    portrait = quiet_pipeline().prepare_portrait(folder / "4.png")
    pose, blink, is_closed = given_tracks(portrait, 60)
    np.testing.assert_allclose(pose[0], portrait.face.pose, rtol=1e-6)
    assert is_closed.sum() == 6 and (blink[is_closed] == 0.05).all()
    open_eyes = portrait.face.blink.mean()
    assert eyes_closed_over_open(blink, is_closed) == pytest.approx(0.05 / open_eyes, rel=1e-4)
    assert eyes_closed_over_open(np.full_like(blink, 0.3), is_closed) == pytest.approx(1)


def test_only_what_changes_beside_the_person_counts_at_the_border():
    picture = np.full((64, 64, 3), 100, np.uint8)
    person = np.zeros((64, 64), np.float32)
    person[:, 40:] = 1
    moved = np.stack([picture, picture])
    moved[:, :, 48:] = 0
    assert changed_border(moved, picture, person) == 0
    moved[1, :, :4] = 200
    # the left border of one of two frames: 4 of the columns up to the person's surroundings
    background = 4 * 64 + 2 * 4 * (40 - 8 - 4)
    assert changed_border(moved, picture, person) == pytest.approx(4 * 64 / background / 2)
    assert np.isnan(changed_border(moved, picture, np.ones((64, 64), np.float32)))


def test_one_person_is_nearer_than_another(folder, reader):
    frames = [make_talking_head(identity, 3, size_px=256, num_frames=30).frames for identity in (4, 6)]
    embed = FaceEmbedding()
    same, moved, other = (
        embed(picture, reader(picture[None]).face_box_px[0]) for picture in (frames[0][0], frames[0][29], frames[1][0])
    )
    assert np.linalg.norm(same - moved) < 0.4 * np.linalg.norm(same - other)
