"""Constants and small frozen records that travel between the stages."""

from dataclasses import dataclass

import numpy as np

FPS = 25
SAMPLE_RATE_HZ = 16_000
POSE_NAMES = ("yaw_deg", "pitch_deg", "roll_deg", "scale", "x", "y")
POSE_DIM = len(POSE_NAMES)
BLINK_DIM = 2


@dataclass(frozen=True)
class Waveform:
    """A mono recording.

    Attributes:
        samples: Float32 array (num_samples,), in [-1, 1].
        sample_rate_hz: Samples per second.
    """

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True)
class SquareCrop:
    """A square of an image, in pixels; parts outside the image are filled from its edge.

    Attributes:
        left: First column; may be negative.
        top: First row; may be negative.
        side: Width and height.
    """

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class FaceState:
    """The state of a face in one picture (paper section 3.1: initial pose and blink state).

    Attributes:
        pose: Float array (6,): yaw, pitch, roll [deg], scale, x, y, as `POSE_NAMES`. Yaw > 0 turns the nose to the
            image's left, pitch > 0 looks down, roll > 0 is counter-clockwise; scale, x and y are those of 3DDFA_V2's
            camera in its 120x120 crop.
        blink: Float array (2,): openness of the left and right eye (lid distance over eye width), about 0.3 when open.
        box_px: x_min, x_max, y_min, y_max of the face [px].
        image_size: Height and width [px] of the picture that `box_px` refers to.
        mouth_px: Float array (20, 2): mouth landmarks (x, y) [px], in the order of points 48 to 67 of the 68-point
            convention; None when the detector gives none.
        num_faces: How many faces the picture shows.
        score: How sure the detector is that a face is there and upright, in [0, 1]; None when it does not say.
    """

    pose: np.ndarray
    blink: np.ndarray
    box_px: tuple[float, float, float, float]
    image_size: tuple[int, int]
    mouth_px: np.ndarray | None = None
    num_faces: int = 1
    score: float | None = None


@dataclass(frozen=True)
class Portrait:
    """A square picture of a face, ready to be animated.

    Attributes:
        image: uint8 array (S, S, 3), RGB.
        face: The face in that square.
        crop: Where the square lies in the picture it was cut from; None when it is the whole picture.
        quarter_turns: By how many quarters, counter-clockwise, that picture was turned first to be upright.
        opacity: uint8 array (S, S); the frames get a fourth channel from it. None: nothing is transparent.
        is_over_white: Whether `image` shows white where it is transparent, which is then taken out of the frames.
        person: uint8 array (N, N), how much of every part of the picture belongs to a person; what lies around keeps
            still. None: everything moves as the denoiser says.
    """

    image: np.ndarray
    face: FaceState
    crop: SquareCrop | None = None
    quarter_turns: int = 0
    opacity: np.ndarray | None = None
    is_over_white: bool = False
    person: np.ndarray | None = None
