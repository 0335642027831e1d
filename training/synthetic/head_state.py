"""What a synthetic head does in one frame: pose, eyelids, gaze and mouth."""

import math
from dataclasses import dataclass, fields

import numpy as np

RANGES = {
    "yaw_deg": (-89.0, 89.0),
    "pitch_deg": (-89.0, 89.0),
    "roll_deg": (-180.0, 180.0),
    "scale": (0.1, 10.0),
    "eye_left": (0.0, 1.0),
    "eye_right": (0.0, 1.0),
    "jaw": (0.0, 1.0),
    "mouth_width": (0.0, 1.0),
    "mouth_round": (0.0, 1.0),
    "mouth_press": (0.0, 1.0),
    "gaze_x_rad": (-1.0, 1.0),
    "gaze_y_rad": (-1.0, 1.0),
    "brow": (-1.0, 1.0),
    "smile": (0.0, 1.0),
}
"""Smallest and largest value of each field of `HeadState` that is bounded."""


@dataclass(frozen=True)
class HeadState:
    """Pose and expression of one frame; the defaults are a neutral face that looks into the camera.

    Attributes:
        yaw_deg: Positive turns the nose to the image's left.
        pitch_deg: Positive looks down.
        roll_deg: Positive is counter-clockwise in the image.
        scale: Size of the whole figure relative to the usual framing.
        x_cm: Shift of the head to the image's right, at scale 1.
        y_cm: Shift of the head upwards, at scale 1.
        eye_left: Openness of the subject's left eye (to the right in the image), 0 closed to 1 open.
        eye_right: Openness of the subject's right eye.
        jaw: How far the jaw is dropped, 0 to 1.
        mouth_width: How far the mouth is spread, as in "ee", 0 to 1.
        mouth_round: How far the lips are rounded, as in "oo", 0 to 1.
        mouth_press: How far the lips are pressed together, as in "m", 0 to 1; closes the mouth against the jaw.
        gaze_x_rad: Direction of the gaze relative to the head, positive to the image's right.
        gaze_y_rad: Direction of the gaze relative to the head, positive upwards.
        brow: How far the brows are raised, -1 to 1.
        smile: How far the corners of the mouth are raised, 0 to 1.

    Raises:
        ValueError: A number is not finite or out of its range.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    scale: float = 1.0
    x_cm: float = 0.0
    y_cm: float = 0.0
    eye_left: float = 1.0
    eye_right: float = 1.0
    jaw: float = 0.0
    mouth_width: float = 0.0
    mouth_round: float = 0.0
    mouth_press: float = 0.0
    gaze_x_rad: float = 0.0
    gaze_y_rad: float = 0.0
    brow: float = 0.0
    smile: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = RANGES.get(field.name, (-math.inf, math.inf))
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"`{field.name}` is {value}, must be from {low} to {high}")


def rotation_from_angles(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Compose the rotation that `diffusers_dawn.face.pose.angles_from_rotation` splits.

    Args:
        yaw_deg: Angle about y; positive turns the nose to the image's left.
        pitch_deg: Angle about x; positive looks down.
        roll_deg: Angle about z; positive is counter-clockwise.

    Returns:
        Float64 rotation matrix (3, 3): roll @ yaw @ pitch.
    """
    (yaw_cos, pitch_cos, roll_cos), (yaw_sin, pitch_sin, roll_sin) = (
        function(np.radians([yaw_deg, pitch_deg, roll_deg])) for function in (np.cos, np.sin)
    )
    roll = np.array([[roll_cos, -roll_sin, 0.0], [roll_sin, roll_cos, 0.0], [0.0, 0.0, 1.0]])
    yaw = np.array([[yaw_cos, 0.0, -yaw_sin], [0.0, 1.0, 0.0], [yaw_sin, 0.0, yaw_cos]])
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, pitch_cos, -pitch_sin], [0.0, pitch_sin, pitch_cos]])
    return roll @ yaw @ pitch
