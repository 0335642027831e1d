import numpy as np
import pytest

from diffusers_dawn.face.pose import box_area
from diffusers_dawn.face.track import (
    find_missing_frames,
    follow_face,
    interpolate_missing,
    track_face,
)
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.records import FPS, FaceState
from real_inputs import REAL, needs_real

FACE_SIDE_PX = 40
# 3DDFA's crop of a square face: 120 px for 1.58 of its sides
CROP_ZOOM = 120 / (1.58 * FACE_SIDE_PX)


class PaintedFaceDetector:
    """Find painted rectangles: red numbers the face, green is its yaw [deg], blue its eye openness in hundredths.

    The right eye is half as open as the left.
    """

    def __call__(self, image):
        faces = []
        for number in np.unique(image[..., 0])[1:]:
            rows, columns = np.nonzero(image[..., 0] == number)
            _, yaw_deg, openness = image[rows[0], columns[0]].astype(float)
            box_px = tuple(map(float, (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)))
            pose = np.array([yaw_deg, 0, 0, 5e-4, 61, 70])
            faces.append(FaceState(pose, np.array([openness, openness / 2]) / 100, box_px, image.shape[:2]))
        return sorted(faces, key=lambda face: -box_area(face.box_px))


def paint(frame, left=50, top=40, side=FACE_SIDE_PX, number=1, yaw_deg=20, openness=30):
    frame[top : top + side, left : left + side] = (number, yaw_deg, openness)


def painted_video(num_frames=20, without=(), **changes):
    """Frames with one face; `changes` maps an argument of `paint` to a function of the frame's index."""
    frames = np.zeros((num_frames, 120, 160, 3), np.uint8)
    for index in set(range(num_frames)) - set(without):
        paint(frames[index], **{name: change(index) for name, change in changes.items()})
    return frames


# tracking


def test_pose_and_blink_of_every_frame_are_tracked():
    track = track_face(painted_video(yaw_deg=lambda i: 20 + i, openness=lambda i: 30 - i), PaintedFaceDetector())
    assert track.pose.shape == (20, 6) and track.blink.shape == (20, 2) and track.missing == ()
    assert track.pose.dtype == track.blink.dtype == np.float32
    np.testing.assert_array_equal(track.pose[:, 0], 20 + np.arange(20))
    np.testing.assert_allclose(track.blink, (0.3 - 0.01 * np.arange(20))[:, None] * (1, 0.5), atol=1e-6)  # float32


def test_scale_and_position_are_measured_in_the_first_frames_crop():
    track = track_face(painted_video(left=lambda i: 50 + 2 * i, top=lambda i: 40 + i), PaintedFaceDetector())
    # float32 holds numbers around 100 to 1e-5
    np.testing.assert_allclose(track.pose[:, 4], 61 + 2 * CROP_ZOOM * np.arange(20), atol=1e-4)
    np.testing.assert_allclose(track.pose[:, 5], 70 - CROP_ZOOM * np.arange(20), atol=1e-4)
    grown = track_face(painted_video(2, side=lambda i: FACE_SIDE_PX * (10 + i) // 10), PaintedFaceDetector())
    assert grown.pose[1, 3] == pytest.approx(1.1 * 5e-4)


def test_an_iterable_of_frames_is_tracked_as_their_array():
    frames = painted_video(yaw_deg=lambda i: 20 + i)
    from_array, from_iterable = (track_face(source, PaintedFaceDetector()) for source in (frames, iter(list(frames))))
    np.testing.assert_array_equal(from_array.pose, from_iterable.pose)


def test_missing_frames_are_interpolated_linearly_and_listed():
    frames = painted_video(60, without=(10, 11, 12, 30), yaw_deg=lambda i: 20 + i, left=lambda i: 20 + i)
    track = track_face(frames, PaintedFaceDetector())
    assert track.missing == (10, 11, 12, 30)
    np.testing.assert_allclose(track.pose[:, 0], 20 + np.arange(60), atol=1e-5)
    np.testing.assert_allclose(track.pose[:, 4], 61 + CROP_ZOOM * np.arange(60), atol=1e-4)


def test_before_the_first_and_after_the_last_face_the_values_stay():
    frames = painted_video(20, without=(0, 19), yaw_deg=lambda i: 20 + i)
    track = track_face(frames, PaintedFaceDetector())
    np.testing.assert_array_equal(track.pose[[0, 1, 18, 19], 0], [21, 21, 38, 38])
    assert track.missing == (0, 19)


def test_the_largest_face_of_the_first_frame_is_followed_though_another_grows_larger():
    frames = painted_video(30, left=lambda i: 5 + i, yaw_deg=lambda i: 20)
    for index, frame in enumerate(frames):
        paint(frame, left=100, top=5, side=30 + index // 2, number=2, yaw_deg=90)
    track = track_face(frames, PaintedFaceDetector())
    np.testing.assert_array_equal(track.pose[:, 0], 20)
    assert track.missing == ()


def test_a_larger_face_behind_the_followed_one_is_not_taken_for_it():
    frames = painted_video(20)
    for index, frame in enumerate(frames[1:], 1):
        paint(frame, left=30, top=10, side=100, number=2, yaw_deg=90)
        paint(frame, left=50 + index, number=1)
    track = track_face(frames, PaintedFaceDetector())
    np.testing.assert_array_equal(track.pose[:, 0], 20)
    assert track.missing == ()


def test_another_face_does_not_stand_in_for_the_followed_one():
    frames = painted_video(30, without=(4, 5), left=lambda i: 5)
    for frame in frames:
        paint(frame, left=100, number=2, side=30, yaw_deg=90)
    track = track_face(frames, PaintedFaceDetector())
    np.testing.assert_array_equal(track.pose[:, 0], 20)
    assert track.missing == (4, 5)


def test_a_gap_of_five_frames_is_bridged_and_one_of_six_is_an_error():
    assert len(track_face(painted_video(60, range(9, 14)), PaintedFaceDetector()).missing) == 5
    with pytest.raises(ValueError, match=r"`video` does not show the face in 6 of 60 frames, up to 6 in a row; .* 5"):
        track_face(painted_video(60, range(9, 15)), PaintedFaceDetector())


def test_more_than_the_allowed_share_of_missing_frames_is_an_error():
    frames = painted_video(20, without=(3, 8, 12))
    with pytest.raises(ValueError, match=r"`video` does not show the face in 3 of 20 frames, .* at most 10%"):
        track_face(frames, PaintedFaceDetector())
    assert track_face(frames, PaintedFaceDetector(), max_missing=0.15).missing == (3, 8, 12)


def test_a_video_without_a_face_is_an_error():
    with pytest.raises(ValueError, match="`clip` shows no face in any of its 7 frames"):
        track_face(painted_video(7, range(7)), PaintedFaceDetector(), name="clip")


def test_a_video_without_frames_is_an_error():
    with pytest.raises(ValueError, match="`video` holds no frames"):
        track_face([], PaintedFaceDetector())


def test_a_frame_of_another_size_or_kind_is_an_error_that_names_it():
    first = painted_video(1)[0]
    with pytest.raises(ValueError, match=r"`video\[1\]` is \(120, 100\), must be \(120, 160\) as the first frame"):
        track_face([first, first[:, :100]], PaintedFaceDetector())
    with pytest.raises(ValueError, match=r"`video\[1\]` is float64"):
        track_face([first, first / 255], PaintedFaceDetector())


@pytest.mark.parametrize("max_missing", [-0.1, 1, float("nan")])
def test_a_share_out_of_range_is_an_error(max_missing):
    with pytest.raises(ValueError, match="`max_missing` is"):
        track_face(painted_video(), PaintedFaceDetector(), max_missing)


def test_states_and_measures_of_any_shape_can_be_had_frame_by_frame():
    frames = painted_video(20, without=(0, 10, 11), left=lambda i: 20 + i)
    faces = follow_face(frames, PaintedFaceDetector())
    assert [index for index, face in enumerate(faces) if face is None] == [0, 10, 11]
    assert find_missing_frames(faces, max_missing=0.2) == (0, 10, 11)
    corners_px = interpolate_missing(faces, lambda face: np.array(face.box_px).reshape(2, 2))
    assert corners_px.shape == (20, 2, 2) and corners_px.dtype == np.float32
    np.testing.assert_allclose(corners_px[1:, 0, 0], 20 + np.arange(1, 20), atol=1e-5)
    np.testing.assert_array_equal(corners_px[0], corners_px[1])


# a real video


@pytest.fixture(scope="module")
def speaker():
    return read_video(REAL / "speaker_25fps.mp4", fps=FPS, max_frames=50)[0]


@needs_real
def test_a_real_speaker_is_tracked_without_gaps_or_jumps(detector, speaker):
    track = track_face(speaker, detector)
    assert track.missing == ()
    # 50 frames of quiet speech: the head turns, but by no more than 6 degrees (a blink: 0.2) from frame to frame
    assert np.abs(np.diff(track.pose[:, :3], axis=0)).max() < 6
    assert np.ptp(track.pose[:, 0]) > 3
    assert (track.blink > 0).all() and (track.blink < 0.5).all()
    np.testing.assert_allclose(track.pose[0], detector(speaker[0])[0].pose, rtol=1e-4)


@needs_real
def test_blanked_frames_of_a_real_speaker_come_out_close_to_what_they_showed(detector, speaker):
    blanked = speaker.copy()
    blanked[20:23] = 0
    track, whole = track_face(blanked, detector), track_face(speaker, detector)
    assert track.missing == (20, 21, 22)
    np.testing.assert_array_equal(np.delete(track.pose, track.missing, 0), np.delete(whole.pose, track.missing, 0))
    # what a head does in the 0.16 s between two seen frames
    np.testing.assert_allclose(track.pose[20:23, :3], whole.pose[20:23, :3], atol=5)
