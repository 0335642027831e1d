"""What the 68 landmarks of a face say about its mouth and eyes."""

import numpy as np

from training.synthetic.puppets.morphable_head import INNER_LIPS, LEFT_EYE, RIGHT_EYE


def mouth_opening(landmarks_px: np.ndarray) -> float:
    """Gap of the inner lips over the face's height from brows to chin, of the 68 landmarks (68, 2)."""
    inner = landmarks_px[INNER_LIPS]
    height_px = np.linalg.norm(landmarks_px[27] - landmarks_px[8])
    return float(np.linalg.norm(inner[2] - inner[6]) / height_px)


def eye_boxes(landmarks_px: np.ndarray) -> np.ndarray:
    """Boxes (2, 4) of the left and right eye of the 68 landmarks: x_min, x_max, y_min, y_max [px]."""
    boxes = []
    for places in (LEFT_EYE, RIGHT_EYE):
        (left, top), (right, bottom) = landmarks_px[places].min(axis=0), landmarks_px[places].max(axis=0)
        boxes.append((left, right, top, bottom))
    return np.array(boxes, np.float32)


def openness_of(landmarks_px: np.ndarray) -> np.ndarray:
    """Lid distance over eye width of the 68 landmarks (68, 2): the subject's left eye, right eye."""
    return lid_openings(landmarks_px)[::-1].copy()


def lid_openings(landmarks_px: np.ndarray) -> np.ndarray:
    """Lid distance over eye width of the 68 landmarks (68, 2), as `openness_of`, but the right eye first."""
    openings = []
    for places in (RIGHT_EYE, LEFT_EYE):
        outer, upper_1, upper_2, inner, lower_2, lower_1 = landmarks_px[places, :2]
        height = np.linalg.norm(upper_1 - lower_1) + np.linalg.norm(upper_2 - lower_2)
        openings.append(height / (2 * np.linalg.norm(outer - inner)))
    return np.maximum(openings, 1e-3)
