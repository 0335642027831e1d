"""The paper's figures of the test split: with networks all of them, without only what needs none."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clips import tiny_clip
from tiny_evaluation import SHORT, quiet_pipeline

from training.evaluation.clips import Evaluation
from training.evaluation.extractors import Extractors
from training.evaluation.face_reader import FaceReadings, labelled_opening
from training.evaluation.likeness import LIKENESS_LABELS, PICTURE_LABELS, frame_likeness, landmark_distances
from training.evaluation.paper_figures import (
    DAWN_SYNC,
    MOVEMENT,
    SYNC,
    PaperFigures,
    WatchedClip,
    movement_figures,
    without_gaps,
)
from training.evaluation.report import LeftOut, SectionReport
from training.evaluation.sections.paper import paper_section, pictures_section


def readings_of_clip(clip) -> FaceReadings:
    """What a reader without error reads from a tiny clip; its mesh is the mouth and the corners of the face."""
    labels, opening = clip.labels, labelled_opening(clip.labels)
    num_frames = len(opening)
    mesh_px = np.repeat(labels["mouth_px"], 24, axis=1)[:, :468].astype(np.float32)
    assert mesh_px.shape == (num_frames, 468, 2)
    return FaceReadings(opening, labels["pose"], labels["blink"], labels["face_box_px"], 0 * opening, mesh_px)


def average_faces(pictures: torch.Tensor, face_box_px: torch.Tensor) -> torch.Tensor:
    return pictures.mean(dim=(2, 3))


NETWORKS = Extractors(
    inception=lambda pictures: pictures[:, :, ::32, ::32].flatten(1),
    i3d=lambda videos: videos.mean(dim=(3, 4)).flatten(1),
    syncnet=lambda pictures, samples, boxes: (pictures.mean(dim=(2, 3)), samples.view(-1, 640)[:, :3]),
    dawn_sync=lambda pictures, samples, boxes: (pictures.mean(dim=(2, 3)), samples.view(-1, 640)[:, 3:6]),
    arcface=average_faces,
    lpips=lambda made, truth: (made - truth).abs().mean(dim=(1, 2, 3)),
)


def figures_of(clips: list[tuple], extractors: Extractors) -> tuple[dict, list[str]]:
    """Figures of pairs of clips, made and true, and the notes."""
    found, report, rows = PaperFigures(extractors, None), SectionReport("title"), []
    for made, truth in clips:
        pair = (WatchedClip(clip.frames, readings_of_clip(clip)) for clip in (made, truth))
        rows.append(found.row(*pair, truth.samples))
    found.report(report, rows, 0)
    return {figure.key: figure for figure in report.figures}, report.notes


def clips(count: int, num_frames: int = 40) -> list:
    """Tiny clips that begin with silence."""
    found = [tiny_clip(f"test-{index}", num_frames) for index in range(count)]
    for clip in found:
        clip.samples[: 8 * 640] = 0
    return found


def test_a_video_that_is_the_film_is_without_distance_and_as_the_film():
    figures, notes = figures_of([(clip, clip) for clip in clips(2)], NETWORKS)
    assert list(figures) == ["fid", "fvd16", "fvd32", *SYNC, *DAWN_SYNC, "csim", *MOVEMENT]
    for name in ("fid", "fvd16", "fvd32"):
        assert figures[name].value == pytest.approx(0, abs=1e-6), name
    for name in (*SYNC, *DAWN_SYNC, "csim", *MOVEMENT):
        assert figures[name].value == figures[name].beside, name
    assert [figures[name].count for name in ("fid", "fvd16", "fvd32")] == [80, 4, 2]
    assert any(note.startswith("FVD16, FVD32: fewer pictures or windows") for note in notes)
    assert not any(note.startswith("Left out, as") for note in notes)


def test_other_videos_have_a_distance_that_no_order_changes():
    first, second, third, fourth = clips(4)
    figures, _ = figures_of([(first, second), (third, fourth)], NETWORKS)
    turned, _ = figures_of([(third, fourth), (first, second)], NETWORKS)
    for name in ("fid", "fvd16", "fvd32"):
        assert figures[name].value > 1e-4 and turned[name].value == pytest.approx(figures[name].value), name


def test_without_networks_their_figures_are_left_out_by_name():
    figures, notes = figures_of([(clip, clip) for clip in clips(2)], Extractors())
    assert list(figures) == list(MOVEMENT)
    (left_out,) = [note for note in notes if note.startswith("Left out, as")]
    for name in (
        "FID (inception)",
        "FVD16 and FVD32 (i3d)",
        "LSE-C and LSE-D (syncnet)",
        "LSE-D (dawn-sync) (dawn_sync)",
        "CSIM (arcface)",
    ):
        assert name in left_out
    assert "Left out: CSIM (dlib), which needs the extra `identity`." in notes


def test_clips_too_short_for_windows_have_no_distance_of_videos():
    figures, notes = figures_of([(clip, clip) for clip in clips(2, 20)], NETWORKS)
    assert "fvd16" in figures and "fvd32" not in figures
    assert any(note.startswith("Left out: FVD32") for note in notes)


def test_videos_without_a_face_do_not_count_in_what_is_read_from_faces():
    clip = tiny_clip("test-0")
    readings = readings_of_clip(clip)
    readings.opening[:5] = np.nan
    assert all(math.isnan(value) for value in movement_figures(readings, clip.samples).values())
    report, found = SectionReport("title"), PaperFigures(NETWORKS, None)
    watched = WatchedClip(clip.frames, readings), WatchedClip(clip.frames, readings_of_clip(clip))
    found.report(report, [found.row(*watched, clip.samples)], 0)
    figures = {figure.key: figure for figure in report.figures}
    for name in (*SYNC, "csim"):
        assert figures[name].count == 0 and math.isfinite(figures[name].beside), name
    assert any(note.startswith("In 1 of 1 videos the reader sees the face in less than") for note in report.notes)


def test_frames_without_a_face_are_filled_from_their_neighbours():
    track = np.array([[np.nan, np.nan], [1, 10], [np.nan, np.nan], [3, 30]])
    np.testing.assert_allclose(without_gaps(track), [[1, 10], [1, 10], [2, 20], [3, 30]])


def test_videos_of_another_length_are_refused():
    clip = tiny_clip("test-0")
    watched = WatchedClip(clip.frames, None), WatchedClip(clip.frames[:5], None)
    with pytest.raises(ValueError, match="`made` has frames .*, `truth`"):
        PaperFigures(Extractors(), None).row(*watched, clip.samples)


def test_likeness_of_the_truth_is_full_and_its_first_frame_does_not_count():
    clip = tiny_clip("test-0")
    made, readings = clip.frames.copy(), readings_of_clip(clip)
    made[0] = 0
    found = frame_likeness(made, clip.frames, readings, readings, NETWORKS)
    assert found.keys() == LIKENESS_LABELS.keys()
    assert [found[name] for name in LIKENESS_LABELS] == pytest.approx([100, 1, 0, 0, 0, 0, 0], abs=1e-4)
    for frames in (made[:1], made[:, :32]):
        with pytest.raises(ValueError, match="`made` is .* and `truth`"):
            frame_likeness(frames, clip.frames, None, None, NETWORKS)


def test_likeness_without_readings_and_network_is_that_of_pixels():
    clip = tiny_clip("test-0")
    made = clip.frames // 2 + 64
    found = frame_likeness(made, clip.frames, None, None, Extractors())
    assert found.keys() == {"psnr_db", "ssim"}
    expected = -10 * np.log10(np.square((made / 255.0 - clip.frames / 255.0)[1:]).mean(axis=(1, 2, 3))).mean()
    assert found["psnr_db"] == pytest.approx(expected, abs=1e-3) and 0 < found["ssim"] < 1


def test_a_face_that_moves_as_a_whole_has_a_distance_only_before_it_is_aligned():
    truth = readings_of_clip(tiny_clip("test-0"))
    moved = readings_of_clip(tiny_clip("test-0"))
    moved.mesh_px[...] += (3, 4)
    found = landmark_distances(moved, truth)
    assert found["m_lmd_px"] == pytest.approx(5, abs=1e-3) and found["f_lmd_px"] == pytest.approx(5, abs=1e-3)
    assert found["m_lmd_aligned_px"] == pytest.approx(0, abs=1e-3) == found["f_lmd_aligned_px"]
    moved.opening[:] = np.nan
    assert all(math.isnan(value) for value in landmark_distances(moved, truth).values())


@pytest.fixture(scope="module")
def pipe():
    return quiet_pipeline()


def test_sections_need_no_reader_for_pixels_and_networks_of_pictures(pipe, tiny_data_set):
    evaluation = Evaluation(pipe, tiny_data_set, SHORT, None, None, NETWORKS)
    pictures, paper = pictures_section(evaluation), paper_section(evaluation)
    assert [figure.key for figure in pictures.figures] == list(PICTURE_LABELS)
    assert [figure.key for figure in paper.figures] == ["fid"] and paper.figures[0].value > 0
    assert any("mediapipe" in note for note in pictures.notes) and any("mediapipe" in note for note in paper.notes)
    with pytest.raises(LeftOut, match="mediapipe"):
        paper_section(Evaluation(pipe, tiny_data_set, SHORT, None))


@pytest.mark.parametrize(
    ("motion", "said"),
    [("pbnet", "pose is PBNet's"), ("held", "pose is the portrait's"), ("given", "eye openness are the clip's own")],
)
def test_pose_and_blinks_are_made_given_or_held(pipe, tiny_data_set, monkeypatch, motion, said):
    evaluation = Evaluation(pipe, tiny_data_set, replace(SHORT, motion=motion), None, None, NETWORKS)
    render, seen = evaluation.render, []
    monkeypatch.setattr(evaluation, "render", lambda *given: seen.append(given[2]) or render(*given))
    report = paper_section(evaluation)
    assert any(said in note for note in report.notes)
    poses, labels = [pose.numpy() for pose, _ in seen], [evaluation.labels(0)["pose"]]
    assert all(np.array_equal(*pair) for pair in zip(poses, labels, strict=True)) == (motion == "given")
    assert all((pose == pose[:1]).all() for pose in poses) == (motion == "held")


def test_a_clip_with_its_own_speech_is_rendered_once_for_lips_and_pictures(pipe, tiny_data_set, monkeypatch):
    clip = tiny_clip("test-0")
    readings = readings_of_clip(clip).first(15)
    evaluation = Evaluation(pipe, tiny_data_set, SHORT, lambda frames: readings)
    rendered = []
    monkeypatch.setattr(evaluation, "_guided", lambda *places: rendered.append(places) or evaluation.truth(0).frames)
    assert evaluation.readings(0, 0) is readings and evaluation.likeness(0)["psnr_db"] == 100
    assert rendered == [(0, 0)]
