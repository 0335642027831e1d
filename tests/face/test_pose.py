import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.face.pose import (
    RIGID_POINTS,
    TEMPLATE_CM,
    angles_from_rotation,
    box_area,
    eye_openness,
    face_state_from_landmarks,
    fit_similarity,
    landmark_box,
    pose_from_landmarks,
    pose_in_crop_of,
    shared_area,
)


def rotation_matrix(yaw_deg, pitch_deg, roll_deg):
    """Roll about z, then yaw about y (nose to the left), then pitch about x (nose down), written out."""
    (cos_y, cos_p, cos_r), (sin_y, sin_p, sin_r) = (
        function(np.radians([yaw_deg, pitch_deg, roll_deg])) for function in (np.cos, np.sin)
    )
    roll = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    yaw = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]])
    pitch = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    return roll @ yaw @ pitch


def template_face(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0, px_per_cm=10.0, centre_px=(200.0, 150.0), seed=0):
    """Landmarks (478, 3) [px] of the rigid template; the points that no formula uses lie on a fixed disc around it."""
    points_cm = np.random.default_rng(seed).uniform(-1, 1, (478, 3)) * (7, 7, 0)
    points_cm[:4, :2] = [[-8, -9], [8, -9], [-8, 9], [8, 9]]
    points_cm[RIGID_POINTS] = TEMPLATE_CM
    points = px_per_cm * points_cm @ rotation_matrix(yaw_deg, pitch_deg, roll_deg).T
    return points * (1, -1, -1) + (*centre_px, 0)


angles = st.tuples(st.floats(-85, 85), st.floats(-85, 85), st.floats(-170, 170))


@given(angles_deg=angles, scale=st.floats(0.1, 50), seed=st.integers(0, 99))
def test_a_known_similarity_is_recovered(angles_deg, scale, seed):
    rng = np.random.default_rng(seed)
    source, weights = rng.normal(size=(12, 3)), rng.uniform(0.1, 1, 12)
    rotation, translation = rotation_matrix(*angles_deg), rng.normal(size=3) * 100
    fitted = fit_similarity(source, scale * source @ rotation.T + translation, weights)
    np.testing.assert_allclose(fitted[0], scale, rtol=1e-9)
    np.testing.assert_allclose(fitted[1], rotation, atol=1e-9)
    np.testing.assert_allclose(fitted[2], translation, atol=1e-7)


def test_a_mirrored_shape_is_fitted_by_a_rotation_not_a_reflection():
    source = np.random.default_rng(0).normal(size=(12, 3))
    _, rotation, _ = fit_similarity(source, source * (-1, 1, 1), np.ones(12))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_points_of_no_weight_do_not_count():
    source = np.random.default_rng(0).normal(size=(12, 3))
    target, weights = 2 * source + 1, np.ones(12)
    target[0], weights[0] = 1000, 0
    scale, rotation, translation = fit_similarity(source, target, weights)
    assert scale == pytest.approx(2)
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(translation, 1, atol=1e-9)


@given(angles_deg=angles)
def test_angles_are_recovered_from_their_rotation(angles_deg):
    np.testing.assert_allclose(angles_from_rotation(rotation_matrix(*angles_deg)), angles_deg, atol=1e-6)


@pytest.mark.parametrize(
    ("angle", "axis_moves", "direction"),
    [
        ("yaw_deg", (0, 0, 1), (-1, 0)),  # nose to the image's left
        ("pitch_deg", (0, 0, 1), (0, 1)),  # nose down
        ("roll_deg", (0, 1, 0), (-1, 0)),  # forehead to the left: counter-clockwise
    ],
)
def test_positive_angles_turn_the_head_as_documented(angle, axis_moves, direction):
    moved = rotation_matrix(**({"yaw_deg": 0, "pitch_deg": 0, "roll_deg": 0} | {angle: 20})) @ axis_moves
    in_image = np.array([moved[0], -moved[1]])
    assert in_image @ direction > 0.3


@given(angles_deg=st.tuples(st.floats(-60, 60), st.floats(-40, 40), st.floats(-45, 45)), zoom=st.floats(0.3, 5))
def test_the_pose_of_a_rigid_face_is_recovered_at_any_size(angles_deg, zoom):
    pose = pose_from_landmarks(template_face(*angles_deg) * zoom)
    np.testing.assert_allclose(pose[:3], angles_deg, atol=1e-6)
    # scale, x and y are measured in the face's own crop, so the picture's size does not change them
    np.testing.assert_allclose(pose[3:], pose_from_landmarks(template_face(*angles_deg))[3:], rtol=1e-9)


def test_scale_and_position_follow_the_crop_of_3ddfa():
    # a frontal face of 10 px/cm with its origin at (200, 150) and a box of 160 x 180 px around it:
    # mean side 170, crop of 1.58 * 170 = 268.6 px centred at (200, 150 + 0.14 * 170), 120 / 268.6 px per px
    zoom = 120 / 268.6
    expected = [0, 0, 0, 10 * zoom / 1e4, 60 + 1, 60 + 0.14 * 170 * zoom]
    np.testing.assert_allclose(pose_from_landmarks(template_face()), expected, atol=1e-9)


def test_poses_of_one_clip_can_be_measured_in_one_crop():
    reference = face_state_from_landmarks(template_face(), (400, 400))
    moved = face_state_from_landmarks(template_face(px_per_cm=11.0, centre_px=(206.0, 147.0)), (400, 400))
    np.testing.assert_allclose(pose_in_crop_of(reference, reference), reference.pose)
    pose = pose_in_crop_of(moved, reference)
    zoom = 120 / 268.6
    np.testing.assert_allclose(pose[3], reference.pose[3] * 1.1, rtol=1e-9)
    np.testing.assert_allclose(pose[4:] - reference.pose[4:], [6 * zoom, 3 * zoom], atol=1e-9)


def test_poses_of_different_image_sizes_cannot_be_compared():
    first, second = (face_state_from_landmarks(template_face(), size) for size in ((400, 400), (400, 500)))
    with pytest.raises(ValueError, match="`face` is from a .* image, `reference` from a"):
        pose_in_crop_of(first, second)


def test_eye_openness_is_lid_distance_over_eye_width_left_first():
    points = np.zeros((468, 3))
    points[263], points[362] = (40, 0, 0), (10, 0, 0)
    points[385], points[380] = (25, 6, 0), (25, -6, 0)
    points[33], points[133] = (-40, 0, 0), (-10, 0, 0)
    points[160], points[144] = (-25, 3, 0), (-25, -3, 0)
    np.testing.assert_allclose(eye_openness(points), [0.4, 0.2])


def test_irises_do_not_count_for_the_box():
    points = np.ones((478, 3))
    points[0], points[470] = (5, 7, 0), (1000, 1000, 0)
    assert landmark_box(points) == (1, 5, 1, 7)


def test_boxes_share_the_area_that_both_cover():
    assert box_area((10, 30, 5, 15)) == 200
    assert shared_area((10, 30, 5, 15), (20, 50, 0, 10)) == shared_area((20, 50, 0, 10), (10, 30, 5, 15)) == 50
    assert shared_area((10, 30, 5, 15), (40, 50, 20, 30)) == 0
