import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics.landmark_distance import align_landmarks, landmark_distance


def landmarks(num_frames: int = 3, num_points: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 100, (num_frames, num_points, 2))


def test_a_shift_is_its_own_distance():
    assert landmark_distance(landmarks() + (3, 4), landmarks()) == pytest.approx(5)
    assert landmark_distance(landmarks(), landmarks()) == 0


@given(turn=st.floats(-3, 3), scale=st.floats(0.5, 2), shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_aligned_landmarks_know_nothing_of_place_size_and_turn(turn, scale, shift):
    rotation = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    moved = landmarks() @ rotation + shift
    np.testing.assert_allclose(align_landmarks(moved, landmarks()), landmarks(), atol=1e-9)


def test_alignment_leaves_what_is_no_movement_and_never_mirrors():
    truth = landmarks()
    assert landmark_distance(align_landmarks(truth * (-1, 1), truth), truth) > 5
    bent = truth.copy()
    bent[:, 0] += 10
    assert landmark_distance(align_landmarks(bent, truth), truth) > 1


def test_every_frame_is_aligned_by_itself_and_missing_ones_do_not_count():
    made = landmarks() + np.array([0, 10, 20])[:, None, None]
    made[1, 2] = np.nan
    aligned = align_landmarks(made, landmarks())
    assert np.isnan(aligned[1]).all()
    assert landmark_distance(aligned, landmarks()) == pytest.approx(0, abs=1e-9)
    assert landmark_distance(made, landmarks()) == pytest.approx(math.hypot(20, 20) / 2)
    assert math.isnan(landmark_distance(made[1:2], landmarks()[1:2]))


def test_landmarks_that_coincide_cannot_be_aligned():
    assert np.isnan(align_landmarks(np.ones((1, 5, 2)), landmarks(1, 5))).all()


def test_landmarks_that_do_not_fit_are_refused():
    for shapes in (((2, 5, 2), (2, 6, 2)), ((5, 2), (5, 2)), ((2, 5, 3), (2, 5, 3))):
        for metric in (landmark_distance, align_landmarks):
            with pytest.raises(ValueError, match="`made_px` is .* and `truth_px`"):
                metric(*map(np.zeros, shapes))
    with pytest.raises(ValueError, match="must have at least 2 landmarks"):
        align_landmarks(np.zeros((2, 1, 2)), np.zeros((2, 1, 2)))
