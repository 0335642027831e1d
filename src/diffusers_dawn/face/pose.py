"""From face landmarks to DAWN's face state: pose, eye openness, box, mouth.

The pose numbers are those of 3DDFA_V2's camera, on which the published PBNet was trained, computed here by fitting a
rigid face to MediaPipe's landmarks. Frame of the fit: x to the image's right, y up, z towards the viewer.
"""

import numpy as np

from ..records import FaceState

NUM_MESH_POINTS = 468

# Points that hardly move with expression: index -> x, y, z [cm], weight. Positions are those of MediaPipe's canonical
# face model (Apache-2.0); weights those of its Procrustes basis where it has one, 0.01 elsewhere.
_MIDLINE_POINTS = {
    1: (0.0, -1.127, 7.476, 0.01),
    2: (0.0, -2.089, 6.058, 0.01),
    4: (0.0, -0.463, 7.587, 0.0709),
    6: (0.0, 2.473, 5.789, 0.0321),
    8: (0.0, 4.019, 5.285, 0.01),
    9: (0.0, 4.886, 5.385, 0.01),
    10: (0.0, 8.262, 4.482, 0.0084),
    151: (0.0, 6.545, 5.027, 0.01),
    168: (0.0, 3.271, 5.236, 0.01),
}
# image-left point, its mirror image: position of the latter
_PAIRED_POINTS = {
    (33, 263): (4.446, 2.664, 3.173, 0.0587),
    (54, 284): (6.279, 6.615, 1.426, 0.0077),
    (67, 297): (3.524, 8.006, 3.729, 0.0091),
    (117, 346): (5.259, 0.946, 2.974, 0.0098),
    (121, 350): (1.821, 1.468, 4.224, 0.0186),
    (127, 356): (7.743, 2.365, -2.005, 0.0052),
    (129, 358): (1.786, -0.978, 4.850, 0.1206),
    (133, 362): (1.856, 2.585, 3.758, 0.0533),
    (234, 454): (7.664, 0.673, -2.436, 0.01),
}
_TEMPLATE = _MIDLINE_POINTS | {
    index: (side * x, y, z, weight)
    for pair, (x, y, z, weight) in _PAIRED_POINTS.items()
    for index, side in zip(pair, (-1, 1), strict=True)
}
RIGID_POINTS = np.array(list(_TEMPLATE))
TEMPLATE_CM = np.array(list(_TEMPLATE.values()))[:, :3]
TEMPLATE_WEIGHTS = np.array(list(_TEMPLATE.values()))[:, 3]

# upper lid, lower lid, and the corners of the subject's left and right eye
LEFT_EYE_POINTS = (385, 380, 263, 362)
RIGHT_EYE_POINTS = (160, 144, 133, 33)
# Points 48 to 67 of the 68-point convention: the outer lip from the image-left corner over the upper lip (corners 61
# and 291, cupid's bow 37 0 267, lower middle 17, the others half-way or at thirds between them), the inner lip alike
OUTER_LIP_POINTS = (61, 40, 37, 0, 267, 270, 291, 321, 405, 17, 181, 91)
INNER_LIP_POINTS = (78, 81, 13, 311, 308, 402, 14, 178)

# 3DDFA_V2's crop: a square of 120 px, 1.58 times the mean side of the landmark box, lowered by 0.14 of it; its model
# measures in micrometres
CROP_SIZE_PX = 120
CROP_TO_BOX = 1.58
CROP_LOWERING = 0.14
MICROMETRES_PER_CM = 1e4


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit target = scale * rotation @ source + translation by weighted least squares (Umeyama, 1991).

    Args:
        source: Points (N, 3), N at least 3, not on one line.
        target: Points (N, 3).
        weights: Non-negative weights (N,).

    Returns:
        Scale, rotation matrix (3, 3) of determinant 1, translation (3,).
    """
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    centred_source, centred_target = source - source_mean, target - target_mean
    left, singular_values, right = np.linalg.svd((weights[:, None] * centred_target).T @ centred_source)
    # without the sign, a mirrored face would be fitted by a reflection
    signs = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    rotation = left @ np.diag(signs) @ right
    scale = float(singular_values @ signs / (weights @ (centred_source**2).sum(axis=1)))
    return scale, rotation, target_mean - scale * rotation @ source_mean


def angles_from_rotation(rotation: np.ndarray) -> tuple[float, float, float]:
    """Split a rotation into the angles of rotation = roll(z) @ yaw(y) @ pitch(x).

    Args:
        rotation: Rotation matrix (3, 3).

    Returns:
        Yaw in [-90, 90], pitch and roll in [-180, 180] [deg].
    """
    yaw = np.arcsin(np.clip(rotation[2, 0], -1, 1))
    # both carry the factor cos(yaw) >= 0, which arctan2 ignores
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def landmark_box(landmarks_px: np.ndarray) -> tuple[float, float, float, float]:
    """Bounding box of the 468 points of the face (the irises after them do not count).

    Args:
        landmarks_px: Array (468 or 478, 2 or 3) [px].

    Returns:
        x_min, x_max, y_min, y_max [px].
    """
    (x_min, y_min), (x_max, y_max) = (
        getattr(landmarks_px[:NUM_MESH_POINTS, :2], name)(axis=0) for name in ("min", "max")
    )
    return float(x_min), float(x_max), float(y_min), float(y_max)


def pose_from_landmarks(landmarks_px: np.ndarray) -> np.ndarray:
    """Compute the six pose numbers (paper section 3.1) of a face.

    Args:
        landmarks_px: Array (468 or 478, 3) [px]: x, y (down), z (away from the viewer).

    Returns:
        Float array (6,): yaw, pitch, roll [deg], scale, x, y in 3DDFA_V2's crop around this face.
    """
    points = landmarks_px[RIGID_POINTS] * (1, -1, -1)
    scale_px_per_cm, rotation, translation_px = fit_similarity(TEMPLATE_CM, points, TEMPLATE_WEIGHTS)
    left, top, zoom = _analysis_crop(landmark_box(landmarks_px))
    scale = scale_px_per_cm * zoom / MICROMETRES_PER_CM
    # 3DDFA_V2 counts pixels of the crop from 1, and y upwards from its lower edge
    x = (translation_px[0] - left) * zoom + 1
    y = CROP_SIZE_PX - (-translation_px[1] - top) * zoom
    return np.array([*angles_from_rotation(rotation), scale, x, y])


def pose_in_crop_of(face: FaceState, reference: FaceState) -> np.ndarray:
    """Measure scale, x and y of a face in the crop of another, so that they can be compared along a clip.

    Args:
        face: The face; from the same video as `reference`.
        reference: The face whose crop counts.

    Returns:
        Float array (6,): the pose of `face`.

    Raises:
        ValueError: The two come from images of different sizes.
    """
    if face.image_size != reference.image_size:
        raise ValueError(f"`face` is from a {face.image_size} image, `reference` from a {reference.image_size} one")
    left, top, zoom = _analysis_crop(face.box_px)
    reference_left, reference_top, reference_zoom = _analysis_crop(reference.box_px)
    yaw_deg, pitch_deg, roll_deg, scale, x, y = face.pose
    x_px, y_px = (x - 1) / zoom + left, (CROP_SIZE_PX - y) / zoom + top
    return np.array([
        yaw_deg,
        pitch_deg,
        roll_deg,
        scale / zoom * reference_zoom,
        (x_px - reference_left) * reference_zoom + 1,
        CROP_SIZE_PX - (y_px - reference_top) * reference_zoom,
    ])


def _analysis_crop(box_px: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """Left and top [px] of 3DDFA_V2's crop around a face, and its pixels per image pixel."""
    x_min, x_max, y_min, y_max = box_px
    mean_side = ((x_max - x_min) + (y_max - y_min)) / 2
    side = CROP_TO_BOX * mean_side
    return (x_min + x_max - side) / 2, (y_min + y_max - side) / 2 + CROP_LOWERING * mean_side, CROP_SIZE_PX / side


def eye_openness(landmarks_px: np.ndarray) -> np.ndarray:
    """Compute the distance of the lids over the distance of the corners of each eye (paper section 3.1).

    Args:
        landmarks_px: Array (468 or 478, 3) [px].

    Returns:
        Float array (2,): the subject's left eye, right eye; about 0.3 when open.
    """
    return np.array([
        np.linalg.norm(landmarks_px[upper] - landmarks_px[lower])
        / np.linalg.norm(landmarks_px[corner] - landmarks_px[other_corner])
        for upper, lower, corner, other_corner in (LEFT_EYE_POINTS, RIGHT_EYE_POINTS)
    ])


def face_state_from_landmarks(landmarks_px: np.ndarray, image_size: tuple[int, int], num_faces: int = 1) -> FaceState:
    """Describe a face by its landmarks.

    Args:
        landmarks_px: Array (468 or 478, 3) [px].
        image_size: Height and width of the picture [px].
        num_faces: How many faces the picture shows.

    Returns:
        Its state.
    """
    return FaceState(
        pose=pose_from_landmarks(landmarks_px),
        blink=eye_openness(landmarks_px),
        box_px=landmark_box(landmarks_px),
        image_size=(int(image_size[0]), int(image_size[1])),
        mouth_px=landmarks_px[[*OUTER_LIP_POINTS, *INNER_LIP_POINTS], :2],
        num_faces=num_faces,
    )


def box_area(box_px: tuple[float, float, float, float]) -> float:
    """Compute the area of a box.

    Args:
        box_px: x_min, x_max, y_min, y_max [px].

    Returns:
        Area [px²]; 0 for a box that is empty or turned inside out.
    """
    x_min, x_max, y_min, y_max = box_px
    return max(x_max - x_min, 0.0) * max(y_max - y_min, 0.0)


def shared_area(first_px: tuple[float, float, float, float], second_px: tuple[float, float, float, float]) -> float:
    """Compute the area that two boxes share.

    Args:
        first_px: x_min, x_max, y_min, y_max [px].
        second_px: The same of the other box.

    Returns:
        Area [px²].
    """
    pairs = list(zip(first_px, second_px, strict=True))
    return box_area((max(pairs[0]), min(pairs[1]), max(pairs[2]), min(pairs[3])))
