"""Draw what lies behind the lips: teeth, gums, tongue and the dark of the mouth, lit like the face."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.synthetic.puppets.morphable_head import (
    FACE,
    GUMS,
    INNER_LIPS,
    INNER_MOUTH,
    LANDMARK_VERTICES,
    LIPS,
    TEETH,
    MorphableHead,
)
from training.synthetic.puppets.surface import Surface, interpolate
from training.synthetic.rasteriser import NOTHING, Raster, rasterise, smooth_normals

# samples per pixel and direction
OVERSAMPLING = 3
# lips reach so far around the inner mouth that they can hide parts of it [cm]
LIPS_REACH_CM = 1.6
# how deep behind the lips it is dark [cm], and how dark: gums and walls wholly, teeth a little
DARK_DEPTH_CM = 2.4
DARKNESS, DARKNESS_OF_TEETH = 0.8, 0.5
# edges between what is drawn and what is warped take the colours beside them
EDGE_PX = 1.5


@dataclass(frozen=True)
class InnerMouthLook:
    """One person's inner mouth: colours, RGB in [0, 1] under full light, and where the teeth are.

    Attributes:
        socket: The mouth's walls.
        gums: Gums and tongue.
        teeth: Teeth.
        gloss: How bright wet highlights are, 0 to 1.
        upper_teeth_cm: How far the upper teeth lie lower than the shapes have them.
        lower_teeth_cm: How far the lower teeth lie higher.
        forward_cm: How far both lie nearer to the lips.
    """

    socket: tuple[float, float, float]
    gums: tuple[float, float, float]
    teeth: tuple[float, float, float]
    gloss: float
    upper_teeth_cm: float
    lower_teeth_cm: float
    forward_cm: float


def draw_look(rng: np.random.Generator) -> InnerMouthLook:
    """Draw a person's inner mouth."""
    teeth = rng.uniform(0.65, 1.05) * np.array([1.0, rng.uniform(0.95, 0.99), rng.uniform(0.86, 0.97)])
    gums = rng.uniform(0.5, 0.75) * np.array([1.0, rng.uniform(0.45, 0.6), rng.uniform(0.45, 0.6)])
    socket = rng.uniform(0.15, 0.4) * np.array([1.0, rng.uniform(0.35, 0.55), rng.uniform(0.35, 0.55)])
    return InnerMouthLook(
        socket=tuple(socket),
        gums=tuple(gums),
        teeth=tuple(teeth),
        gloss=float(rng.uniform(0.05, 0.25)),
        upper_teeth_cm=float(rng.uniform(0.0, 0.55)),
        # who speaks hardly shows them
        lower_teeth_cm=float(rng.uniform(-0.9, -0.1)),
        forward_cm=float(rng.uniform(0.1, 0.5)),
    )


def place_teeth(head: MorphableHead, look: InnerMouthLook) -> np.ndarray:
    """Say how a person's teeth and gums lie otherwise than the shapes have them: displacements (V, 3) [cm]."""
    shift_cm = np.zeros_like(head.neutral_cm)
    inner = np.unique(head.triangles[np.isin(head.part, (TEETH, GUMS))])
    # the jaw takes the lower ones along
    shift_cm[inner, 1] = np.where(head.follows_jaw[inner], look.lower_teeth_cm, -look.upper_teeth_cm)
    shift_cm[inner, 2] = look.forward_cm
    return shift_cm


class InnerMouth:
    """Draw the inner mouth of a head.

    Args:
        head: The shapes.
        look: The colours.
    """

    def __init__(self, head: MorphableHead, look: InnerMouthLook):
        lips_cm = head.neutral_cm[LANDMARK_VERTICES[LIPS]]
        low, high = lips_cm.min(axis=0) - LIPS_REACH_CM, lips_cm.max(axis=0) + LIPS_REACH_CM
        centres_cm = head.neutral_cm[head.triangles].mean(axis=1)
        is_lip = (head.part == FACE) & ((centres_cm > low) & (centres_cm < high))[:, :2].all(axis=1)
        chosen = np.isin(head.part, INNER_MOUTH) | is_lip
        # a small mesh of its own
        self._vertices, triangles = np.unique(head.triangles[chosen], return_inverse=True)
        self._triangles = triangles.reshape(-1, 3).astype(np.int32)
        self._part = head.part[chosen]
        self._is_two_sided = np.isin(self._part, INNER_MOUTH)
        self._coverage = np.ones(len(self._vertices), np.float32)
        colours = np.zeros((len(head.part), 3), np.float32)
        colours[:] = look.socket
        colours[head.part == GUMS] = look.gums
        colours[head.part == TEETH] = look.teeth
        self._colours = colours[chosen]
        self._darkness = np.where(self._part == TEETH, DARKNESS_OF_TEETH, DARKNESS).astype(np.float32)
        self._gloss = look.gloss

    def draw(self, surface: Surface, needed: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
        """Draw the inner mouth around the pixels that need it.

        Args:
            surface: The head.
            needed: Which pixels, bool (S, S); at least one.
            light: Colour of light that falls on the mouth, RGB (3,), about 0 to 1.

        Returns:
            Colours, float32 (h, w, 3) in [0, 1], how much of every pixel they cover, (h, w), and the slices of the
            picture where they belong.
        """
        rows, columns = np.flatnonzero(needed.any(axis=1)), np.flatnonzero(needed.any(axis=0))
        top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
        side = max(rows[-1] + 2 - top, columns[-1] + 2 - left)
        vertices = surface.vertices_px[self._vertices]
        screen = (vertices[:, :2] - (left, top)).astype(np.float32) * OVERSAMPLING
        raster = rasterise(
            np.ascontiguousarray(screen),
            np.ascontiguousarray(vertices[:, 2]),
            self._triangles,
            self._is_two_sided,
            self._coverage,
            side * OVERSAMPLING,
        )
        is_hit = raster.triangle != NOTHING
        triangle = np.maximum(raster.triangle, 0)
        is_inside = is_hit & self._is_two_sided[triangle]
        colours = self._shade(surface, vertices, raster, triangle, light)
        inside = is_inside.astype(np.float32)[..., None]
        small = cv2.resize(np.dstack([colours * inside, inside]), (side, side), interpolation=cv2.INTER_AREA)
        spread = cv2.GaussianBlur(small, (0, 0), EDGE_PX)
        covered_there = small[..., 3:]
        beside = spread[..., :3] / np.maximum(spread[..., 3:], 1e-3)
        small[..., :3] += (1 - covered_there) * beside
        height, width = min(side, surface.size_px - top), min(side, surface.size_px - left)
        small = small[:height, :width]
        covered = small[..., 3]
        place = (slice(top, top + height), slice(left, left + width))
        return small[..., :3], covered, place

    def _shade(
        self, surface: Surface, vertices: np.ndarray, raster: Raster, triangle: np.ndarray, light: np.ndarray
    ) -> np.ndarray:
        normals = smooth_normals(np.ascontiguousarray(vertices * np.float32([1, -1, 1])), self._triangles)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        normal = interpolate(normals, self._triangles, raster)
        normal[..., 2] = np.abs(normal[..., 2])
        px_per_cm = surface.pose.scale_px_per_cm
        lips = surface.vertices_px[LANDMARK_VERTICES[INNER_LIPS]]
        depth_cm = np.clip((lips[:, 2].mean() - raster.depth_cm) / px_per_cm, 0, DARK_DEPTH_CM)
        facing = 0.5 + 0.5 * np.clip(normal[..., 2] * 0.85 + 0.35 * normal[..., 1], 0, 1)
        shade = facing * (1 - self._darkness[triangle] * depth_cm / DARK_DEPTH_CM)
        gloss = self._gloss * np.clip(normal[..., 2] * 0.9 + normal[..., 1] * 0.43, 0, 1) ** 24
        return np.clip((self._colours[triangle] * shade[..., None] + gloss[..., None]) * light, 0, 1)
