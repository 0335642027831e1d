"""A head in a picture: which part of it every pixel shows, and where the rest of the person is."""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from training.synthetic.puppets.head_fit import HeadFit
from training.synthetic.puppets.morphable_head import CHIN, INNER_MOUTH, LANDMARK_VERTICES, MorphableHead
from training.synthetic.rasteriser import NOTHING, Raster, rasterise

# hair and the outline of the head turn with this depth of the head [cm]
OUTLINE_DEPTH_CM = 0.0
# the neck follows the head less and less, from the chin down to here below it [cm]
NECK_LENGTH_CM = 8.0


@dataclass(frozen=True)
class RigidPose:
    """Rigid pose of a head in the picture.

    Attributes:
        scale_px_per_cm: Size of the head.
        rotation: Rotation matrix (3, 3).
        translation_px: Where the head's origin lies (3,): x, y up, z.
    """

    scale_px_per_cm: float
    rotation: np.ndarray
    translation_px: np.ndarray

    def outline_to_picture(self) -> tuple[np.ndarray, np.ndarray]:
        """Map the plane in which the outline lies to the picture.

        Returns:
            Matrix (2, 2) and shift (2,) from x, y [cm] of the head to x, y down [px].
        """
        flip = np.array([1.0, -1.0])
        matrix = self.scale_px_per_cm * self.rotation[:2, :2] * flip[:, None]
        shift = self.scale_px_per_cm * self.rotation[:2, 2] * OUTLINE_DEPTH_CM + self.translation_px[:2]
        return matrix, shift * flip


@dataclass(frozen=True)
class Surface:
    """A person in one picture.

    Attributes:
        vertices_px: Vertices of the head (V, 3): x, y down, depth.
        raster: Which triangle every pixel shows.
        part: Part of the head that every pixel shows, int8 (S, S), -1 beside it.
        person: How much of every pixel belongs to the person, float32 (S, S) in [0, 1].
        pose: Where the head lies as a whole.
        chin_y_cm: Height of the chin in the head's frame.
    """

    vertices_px: np.ndarray
    raster: Raster
    part: np.ndarray
    person: np.ndarray
    pose: RigidPose
    chin_y_cm: float

    @property
    def size_px(self) -> int:
        """Side S of the picture."""
        return self.part.shape[0]

    @property
    def landmarks_px(self) -> np.ndarray:
        """The 68 landmarks (68, 2): x, y down."""
        return self.vertices_px[LANDMARK_VERTICES, :2]


def make_surface(
    head: MorphableHead, vertices_px: np.ndarray, person: np.ndarray, pose: RigidPose, chin_y_cm: float
) -> Surface:
    """Find out what every pixel of a picture shows of a head.

    Args:
        head: The shapes.
        vertices_px: Its vertices in the picture (V, 3): x, y down, depth.
        person: How much of every pixel belongs to the person (S, S).
        pose: Where the head lies as a whole.
        chin_y_cm: Height of the chin in the head's frame.

    Returns:
        The surface.
    """
    raster = rasterise(
        np.ascontiguousarray(vertices_px[:, :2], np.float32),
        np.ascontiguousarray(vertices_px[:, 2], np.float32),
        head.triangles,
        np.isin(head.part, INNER_MOUTH),
        np.ones(len(vertices_px), np.float32),
        len(person),
    )
    part = np.where(raster.triangle == NOTHING, -1, head.part[raster.triangle]).astype(np.int8)
    return Surface(vertices_px, raster, part, person.astype(np.float32), pose, chin_y_cm)


def pose_of_fit(fit: HeadFit) -> RigidPose:
    """Take the pose out of a fit."""
    return RigidPose(fit.scale_px_per_cm, fit.rotation, fit.translation_px)


def chin_height_cm(vertices_cm: np.ndarray) -> float:
    """Height of the chin of a head (V, 3) [cm] in its own frame."""
    return float(vertices_cm[LANDMARK_VERTICES[CHIN], 1])


def neck_share(y_cm: np.ndarray, chin_y_cm: float) -> np.ndarray:
    """Say how far a height follows the head: 1 above the chin, 0 at the shoulders.

    Args:
        y_cm: Heights in the head's frame, any shape.
        chin_y_cm: Height of the chin.

    Returns:
        Shares in [0, 1], same shape.
    """
    below = np.clip((chin_y_cm - 1.0 - y_cm) / NECK_LENGTH_CM, 0, 1)
    return 1 - below * below * (3 - 2 * below)


def pixel_centres(size_px: int) -> np.ndarray:
    """Positions of the middles of all pixels (S, S, 2): x, y [px]."""
    steps = np.arange(size_px, dtype=np.float32) + 0.5
    return np.stack(np.meshgrid(steps, steps), axis=-1)


def sample(picture: np.ndarray, positions_px: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Read a picture at positions; outside of it the border counts.

    Args:
        picture: Array (S, S) or (S, S, C).
        positions_px: Float32 (H, W, 2): x, y [px], pixel i spans i to i + 1.
        interpolation: OpenCV's constant.

    Returns:
        Array (H, W) or (H, W, C), dtype of the picture.
    """
    x, y = (np.ascontiguousarray(positions_px[..., axis] - 0.5) for axis in (0, 1))
    return cv2.remap(picture, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)


def interpolate(values: np.ndarray, triangles: np.ndarray, raster: Raster) -> np.ndarray:
    """Spread what is known at vertices over the pixels that show them.

    Args:
        values: Float32 (V, C).
        triangles: Int32 vertex indices (T, 3).
        raster: Which triangle every pixel shows.

    Returns:
        Float32 (S, S, C); 0 where there is none.
    """
    spread = np.zeros((*raster.triangle.shape, values.shape[1]), np.float32)
    _interpolate(np.ascontiguousarray(values, np.float32), triangles, raster.triangle, raster.weights, spread)
    return spread


@njit(cache=True)
def _interpolate(values, triangles, shown, weights, spread):
    for row in range(shown.shape[0]):
        for column in range(shown.shape[1]):
            index = shown[row, column]
            if index < 0:
                continue
            a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
            b_share, c_share = weights[row, column, 0], weights[row, column, 1]
            for channel in range(values.shape[1]):
                spread[row, column, channel] = (
                    (1 - b_share - c_share) * values[a, channel]
                    + b_share * values[b, channel]
                    + c_share * values[c, channel]
                )
