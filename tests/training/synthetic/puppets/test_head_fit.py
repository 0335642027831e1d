import numpy as np
import pytest

from training.synthetic.head_state import rotation_from_angles
from training.synthetic.puppets.head_fit import MEDIAPIPE_POINTS, push_to_landmarks
from training.synthetic.puppets.landmark_measures import mouth_opening
from training.synthetic.puppets.morphable_head import LANDMARK_VERTICES


def landmarks_of(head, expression, turn, size_px=256.0):
    # what a detector would see of a head in the middle of a picture
    vertices_cm = head.neutral_cm + head.expression_shift(head.expression(expression))
    seen = vertices_cm[LANDMARK_VERTICES] @ turn.T * (size_px / 30)
    points = np.zeros((478, 3))
    points[MEDIAPIPE_POINTS] = seen * (1, -1, -1) + (size_px / 2, size_px / 2, 0)
    return points


@pytest.mark.parametrize("size_px", [128, 512])
def test_pose_and_expression_of_a_rendered_head_are_found_at_any_size(head, fitter, size_px):
    turn = rotation_from_angles(12, -6, 5)
    fit = fitter.fit(landmarks_of(head, {"jawOpen": 0.5}, turn, size_px))
    # a longer or a lower face explains a part of the pitch
    np.testing.assert_allclose(fit.rotation, turn, atol=0.08)
    assert fit.error_px < 0.01 * size_px
    jaw, pucker = (fit.expression[head.expression_indices(name)[0]] for name in ("jawOpen", "mouthPucker"))
    # mouthLowerDown explains a part
    assert 0.2 < jaw < 0.6 and abs(pucker) < 0.15


@pytest.mark.parametrize("seed", [0, 4, 9])
def test_lips_part_as_far_as_they_were_seen_where_no_mesh_has_its_landmarks(head, fitter, seed):
    # a detector's landmarks lie beside those of the mesh; shapes of the mouth must not make up for that by chance
    beside_px = np.random.default_rng(seed).normal(0, 2, (68, 3))
    identity, seen, fitted = None, [], []
    for jaw, pucker in ((0, 0), (0.1, 0), (0.2, 0), (0.3, 0), (0.4, 0), (0.3, 0.4), (0.2, 0.4), (0.1, 0.4)):
        points = landmarks_of(head, {"jawOpen": jaw, "mouthPucker": pucker}, np.eye(3))
        points[MEDIAPIPE_POINTS] += beside_px
        fit = fitter.fit(points, identity)
        identity = fit.identity
        vertices_px = fit.project(head.shape(identity) + head.expression_shift(fit.expression))
        vertices_px[:, :2] += push_to_landmarks(vertices_px, fit)
        seen.append(mouth_opening(points[MEDIAPIPE_POINTS, :2]))
        fitted.append(mouth_opening(vertices_px[LANDMARK_VERTICES, :2]))
    np.testing.assert_allclose(fitted, seen, atol=0.015)


def test_a_known_identity_stays(head, fitter):
    points = landmarks_of(head, {"mouthSmile": 0.6}, np.eye(3))
    identity = np.full(60, 0.1)
    fit = fitter.fit(points, identity)
    np.testing.assert_array_equal(fit.identity, identity.astype(np.float32))


def test_pushing_brings_landmarks_where_they_were_seen(head, fitter):
    points = landmarks_of(head, {}, np.eye(3))
    points[MEDIAPIPE_POINTS[48:60], 0] += 4  # lips beside the face's middle, as no head has them
    fit = fitter.fit(points)
    vertices_px = fit.project(head.shape(fit.identity) + head.expression_shift(fit.expression))
    before = vertices_px[LANDMARK_VERTICES, :2]
    after = before + push_to_landmarks(vertices_px, fit)[LANDMARK_VERTICES]
    seen = points[MEDIAPIPE_POINTS, :2]
    errors = [np.linalg.norm(places - seen, axis=1).mean() for places in (before, after)]
    assert errors[1] < 0.6 * errors[0]
