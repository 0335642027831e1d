import numpy as np
import pytest

from diffusers_dawn.face.pose import pose_in_crop_of
from diffusers_dawn.records import FaceState
from training.evaluation.face_reader import MOUTH_POINTS, FaceReader, FaceReadings, labelled_opening, readings_of
from training.evaluation.metrics.track_agreement import pearson_correlation
from training.synthetic.talking_head import identity_seed, make_talking_head
from warm_processes import begin_workers_warm


@pytest.fixture(scope="module")
def talking():
    return make_talking_head(identity_seed(3, "test"), 1, "test", 128, 30)


@pytest.fixture(scope="module")
def reader(detector):
    with FaceReader() as made:
        yield made


def face(left_px=20.0, gap_px=4.0):
    mouth_px = np.zeros((20, 2))
    mouth_px[18, 1] = gap_px
    pose = np.array([10.0, 5.0, 2.0, 5e-4, 60.0, 60.0])
    state = FaceState(pose, np.array([0.3, 0.2]), (left_px, left_px + 40, 10.0, 60.0), (64, 64), mouth_px)
    return state, np.full((468, 2), left_px)


def readings(opening):
    num_frames = len(opening)
    zeros = [np.zeros((num_frames, width)) for width in (6, 2, 4)]
    return FaceReadings(np.array(opening, np.float32), *zeros, np.zeros(num_frames), np.zeros((num_frames, 468, 2)))


def test_mouth_of_rendered_head_is_read_as_it_was_drawn(talking, reader):
    found = reader(talking.frames)
    assert found.seen.all() and found.show_face()
    # the landmarks of a 128 px face are a pixel or so off; 0.8 leaves room for that, another sentence is below 0.5
    assert pearson_correlation(labelled_opening(talking.labels), found.opening) > 0.8
    # the reader's own offset: some degrees
    assert np.abs(found.pose[:, :3] - talking.labels["pose"][:, :3]).mean() < 8
    assert np.abs(found.face_box_px - talking.labels["face_box_px"]).mean() < 8


def test_frame_without_a_face_is_nan_and_the_others_are_not(talking, reader):
    frames = np.stack([np.zeros_like(talking.frames[0]), *talking.frames[:2]])
    found = reader(frames)
    assert found.seen.tolist() == [False, True, True]
    for name in ("opening", "pose", "blink", "face_box_px", "width", "mesh_px"):
        values = getattr(found, name)
        assert np.isnan(values[0]).all() and np.isfinite(values[1:]).all()


def test_mesh_has_the_mouth_that_is_read_and_lies_in_the_box(talking, reader, detector):
    found, (state,) = reader(talking.frames[:1]), detector(talking.frames[0])
    np.testing.assert_allclose(found.mesh_px[0, list(MOUTH_POINTS)], state.mouth_px, atol=1e-3)
    x_min, x_max, y_min, y_max = found.face_box_px[0]
    np.testing.assert_allclose(found.mesh_px[0].min(axis=0), (x_min, y_min))
    np.testing.assert_allclose(found.mesh_px[0].max(axis=0), (x_max, y_max))


def test_frames_may_come_one_by_one(talking, reader):
    one_by_one = reader(frame for frame in talking.frames[:3])
    np.testing.assert_array_equal(one_by_one.pose, reader(talking.frames[:3]).pose)


def test_two_processes_read_the_same_as_one(talking, reader, monkeypatch):
    begin_workers_warm(monkeypatch)
    with FaceReader(num_processes=2) as pair:
        found = pair(talking.frames[:5])
    np.testing.assert_array_equal(found.opening, reader(talking.frames[:5]).opening)


def test_no_process_is_refused():
    with pytest.raises(ValueError, match="`num_processes` is 0"):
        FaceReader(num_processes=0)


def test_pose_is_that_in_the_crop_of_the_first_face_seen():
    first, moved = face(), face(left_px=25.0)
    found = readings_of([None, first, moved])
    np.testing.assert_allclose(found.pose[1:], [first[0].pose, pose_in_crop_of(moved[0], first[0])], rtol=1e-6)
    assert found.pose[2, 4] != pytest.approx(found.pose[1, 4])


def test_opening_is_the_gap_of_the_lips_over_the_height_of_the_face():
    assert readings_of([face(gap_px=5.0)]).opening == pytest.approx([5 / 50])


def test_clip_without_any_face_is_nan_throughout():
    found = readings_of([None, None])
    assert not found.seen.any() and found.pose.shape == (2, 6) and not found.show_face()


def test_nine_of_ten_frames_must_show_the_face():
    assert readings([0.1] * 9 + [np.nan]).show_face()
    assert not readings([0.1] * 8 + [np.nan] * 2).show_face()
    assert not readings([0.1] * 9).show_face(fewest_frames=10)


def test_labels_of_rendered_heads_open_as_the_renderer_says(talking):
    # the renderer measures from forehead to chin of the unturned head, the labels over the box in the picture
    found = labelled_opening(talking.labels)
    assert pearson_correlation(found, talking.labels["mouth_opening"]) > 0.99
