import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.face.pose import angles_from_rotation
from training.synthetic.head_state import HeadState, rotation_from_angles


@given(angles_deg=st.tuples(st.floats(-85, 85), st.floats(-85, 85), st.floats(-170, 170)))
def test_the_pipeline_reads_back_the_angles_of_a_rotation(angles_deg):
    np.testing.assert_allclose(angles_from_rotation(rotation_from_angles(*angles_deg)), angles_deg, atol=1e-6)


def test_a_neutral_face_has_open_eyes_and_a_closed_mouth():
    state = HeadState()
    assert state.eye_left == state.eye_right == state.scale == 1
    assert state.jaw == state.mouth_press == state.yaw_deg == state.gaze_x_rad == 0
