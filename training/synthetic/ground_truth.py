"""What a rendered picture shows, measured on the geometry that it was drawn from."""

from typing import Protocol

import numpy as np

from diffusers_dawn.face.pose import CROP_LOWERING, CROP_SIZE_PX, CROP_TO_BOX, MICROMETRES_PER_CM, pose_in_crop_of
from diffusers_dawn.records import FaceState
from training.synthetic.head_mesh import HeadMesh, PosedMesh
from training.synthetic.head_state import HeadState
from training.synthetic.identity import Identity
from training.synthetic.skin_texture import lip_heights_cm
from training.synthetic.skull_surface import SkullSurface, Slit

# the landmark box of a detector reaches up to here over the eyes, and back to here at the sides
FOREHEAD_OVER_EYES_CM = 4.65
BACK_OF_FACE_Z_CM = -2.2
# size of MediaPipe's canonical face relative to this head, and where its origin lies in the head's frame: fitted to
# what `face_pose` measures on rendered pictures
TEMPLATE_SCALE = 0.986
TEMPLATE_ORIGIN_CM = np.array([0.0, -0.1, 0.5])
# places along the lips of points 48 to 59 and 60 to 67, from the corner on the image's left to the other and back
OUTER_LIP_PLACES = (-1.0, -0.62, -0.26, 0.0, 0.26, 0.62, 1.0, 0.6, 0.3, 0.0, -0.3, -0.6)
INNER_LIP_PLACES = (-0.93, -0.4, 0.0, 0.4, 0.93, 0.4, 0.0, -0.4)
FIRST_LOWER_OUTER, FIRST_LOWER_INNER = 7, 5
INNER_MIDDLES = (14, 18)
# the detector's crop around a face of this mean side is the picture's own upper left corner, unscaled
UNIT_CROP_FACE_PX = CROP_SIZE_PX / CROP_TO_BOX


class Frame(Protocol):
    """What is needed of a rendered frame."""

    image: np.ndarray
    state: HeadState
    mesh: PosedMesh
    screen_px: np.ndarray
    px_per_cm: float
    origin_px: np.ndarray


class FaceMeasures:
    """Measure the face of an identity.

    Args:
        identity: Who.
        mesh: The figure at rest.

    Attributes:
        forehead_y_cm: Height of the face box's upper edge when the face is neutral.
        chin_y_cm: Height of its lower edge.
    """

    def __init__(self, identity: Identity, mesh: HeadMesh):
        surface = mesh.surface
        _, y_cm, z_cm = surface.vertices_cm.T
        self.forehead_y_cm = identity.eyes.centre_y_cm + FOREHEAD_OVER_EYES_CM
        self._face = np.flatnonzero((y_cm < self.forehead_y_cm) & (z_cm > BACK_OF_FACE_Z_CM))
        self.chin_y_cm = float(y_cm[self._face].min())
        self._eyes = (surface.left_eye, surface.right_eye)
        self._mouth_corners, self._mouth_weights = _lip_points(identity, surface)

    def labels(self, frame: Frame, reference: Frame) -> dict[str, np.ndarray]:
        """Measure everything.

        Args:
            frame: The picture.
            reference: The picture in whose crop scale, x and y count.

        Returns:
            The arrays that `HeadRenderer.labels` names.
        """
        local_cm, screen_px = frame.mesh.local_cm, frame.screen_px
        lips_cm = self._lips(local_cm)
        upper_cm, lower_cm = (lips_cm[index] for index in INNER_MIDDLES)
        values = {
            "pose": self.pose(frame, reference),
            "blink": [_openness(local_cm, eye) for eye in self._eyes],
            "face_box_px": self.face_box(frame),
            "mouth_px": self._lips(screen_px),
            "mouth_opening": np.linalg.norm(upper_cm - lower_cm) / (self.forehead_y_cm - self.chin_y_cm),
            "eyes_px": [_box(screen_px[np.concatenate([eye.upper_edge, eye.lower_edge])]) for eye in self._eyes],
        }
        return {name: np.array(value, np.float32) for name, value in values.items()}

    def pose(self, frame: Frame, reference: Frame) -> np.ndarray:
        """Express the camera in 3DDFA_V2's numbers.

        Args:
            frame: The picture.
            reference: The picture in whose crop scale, x and y count.

        Returns:
            Float32 array (6,), as `records.POSE_NAMES`.
        """
        state, mesh = frame.state, frame.mesh
        origin_cm = mesh.rotation @ TEMPLATE_ORIGIN_CM + mesh.head_shift_cm
        x_px, y_px = frame.origin_px + frame.px_per_cm * origin_cm[:2] * (1, -1)
        scale = TEMPLATE_SCALE * frame.px_per_cm / MICROMETRES_PER_CM
        # 3DDFA_V2 counts pixels from 1, and y upwards from the lower edge of its crop
        pose = np.array([state.yaw_deg, state.pitch_deg, state.roll_deg, scale, x_px + 1, CROP_SIZE_PX - y_px])
        size = frame.image.shape[:2]
        in_picture = FaceState(pose, np.zeros(2), _unit_crop_box(), size)
        in_reference = FaceState(pose, np.zeros(2), self.face_box(reference), reference.image.shape[:2])
        return pose_in_crop_of(in_picture, in_reference).astype(np.float32)

    def face_box(self, frame: Frame) -> tuple[float, float, float, float]:
        """Find the box from forehead to chin.

        Args:
            frame: The picture.

        Returns:
            x_min, x_max, y_min, y_max [px].
        """
        return _box(frame.screen_px[self._face])

    def _lips(self, positions: np.ndarray) -> np.ndarray:
        """Interpolate points 48 to 67 (20, C) from positions of the vertices (N, C)."""
        return (positions[self._mouth_corners] * self._mouth_weights[..., None]).sum(axis=1)


def _unit_crop_box() -> tuple[float, float, float, float]:
    """The box whose 3DDFA_V2 crop has its upper left corner at 0, 0 and one pixel per pixel."""
    half_px = UNIT_CROP_FACE_PX / 2
    centre_x_px = CROP_SIZE_PX / 2
    centre_y_px = CROP_SIZE_PX / 2 - CROP_LOWERING * UNIT_CROP_FACE_PX
    return centre_x_px - half_px, centre_x_px + half_px, centre_y_px - half_px, centre_y_px + half_px


def _openness(local_cm: np.ndarray, eye: Slit) -> float:
    lid_distance_cm = np.linalg.norm(local_cm[eye.upper] - local_cm[eye.lower], axis=1).max()
    return lid_distance_cm / np.linalg.norm(local_cm[eye.left_corner] - local_cm[eye.right_corner])


def _box(points_px: np.ndarray) -> tuple[float, float, float, float]:
    # column by column: numpy reduces long thin arrays slowly
    return tuple(float(bound) for column in points_px.T for bound in (column.min(), column.max()))


def _lip_points(identity: Identity, surface: SkullSurface) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (20, 3) between which points 48 to 67 lie, and their shares (20, 3)."""
    mouth, slit = identity.mouth, surface.mouth
    corner_x_cm = surface.vertices_cm[slit.right_corner, 0]
    upper_cm, lower_cm = lip_heights_cm(mouth, np.array(OUTER_LIP_PLACES) * corner_x_cm)
    line_cm = mouth.centre_y_cm + surface.mouth_line_cm(np.array(OUTER_LIP_PLACES))
    points = []
    for index, place in enumerate(OUTER_LIP_PLACES):
        if abs(place) == 1:
            points.append(([slit.left_corner if place < 0 else slit.right_corner] * 3, (1.0, 0.0, 0.0)))
            continue
        is_lower = index >= FIRST_LOWER_OUTER
        y_cm = line_cm[index] + (-lower_cm[index] if is_lower else upper_cm[index])
        points.append(_point_of_skin(surface, place * corner_x_cm, y_cm, is_lower))
    for index, place in enumerate(INNER_LIP_PLACES):
        edge = slit.lower_edge if index >= FIRST_LOWER_INNER else slit.upper_edge
        edge_x_cm = surface.vertices_cm[edge, 0]
        after = int(np.searchsorted(edge_x_cm, place * corner_x_cm))
        share = (place * corner_x_cm - edge_x_cm[after - 1]) / (edge_x_cm[after] - edge_x_cm[after - 1])
        points.append(([edge[after - 1], edge[after], edge[after]], (1 - share, share, 0.0)))
    corners, weights = zip(*points, strict=True)
    return np.array(corners), np.array(weights)


def _point_of_skin(surface: SkullSurface, x_cm: float, y_cm: float, is_lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,) and barycentric shares (3,) of the triangle that shows a point of the neutral face in front."""
    vertices = surface.vertices_cm
    below = surface.is_below_mouth[surface.triangles].any(axis=1)
    near = (np.abs(vertices[surface.triangles, :2] - (x_cm, y_cm)).max(axis=(1, 2)) < 1.5) & (below == is_lower)
    triangles = surface.triangles[near & (vertices[surface.triangles, 2].min(axis=1) > 0)]
    first, second, third = (vertices[triangles[:, corner], :2] for corner in range(3))
    edges = np.stack([second - first, third - first], axis=-1)
    shares = np.linalg.solve(edges, (np.array([x_cm, y_cm]) - first)[..., None])[..., 0]
    weights = np.concatenate([1 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    best = int(weights.min(axis=1).argmax())
    return triangles[best], weights[best]
