"""Fit a morphable head to the landmarks of a face in a picture.

Weak perspective: a point v [cm] of the head appears at `scale * rotation @ v + translation`, whose x and y (up) are
pixels and whose z orders depths.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import lsq_linear

from diffusers_dawn.face.pose import fit_similarity
from training.synthetic.puppets.morphable_head import LANDMARK_VERTICES, LIPS, MorphableHead

# MediaPipe's points that lie where the 68 landmarks do, in their order
MEDIAPIPE_POINTS = np.array([
    *(127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
])
# expressions that landmarks can tell apart
FITTED_EXPRESSIONS = (
    *("jawOpen", "mouthSmile", "mouthPucker", "mouthFunnel", "mouthUpperUp", "mouthLowerDown", "mouthStretch"),
    *("mouthRoll", "mouthFrown", "mouthClose", "mouthPress", "browInnerUp", "browDown", "browOuterUp"),
    *("eyeBlink", "eyeWide", "eyeSquint"),
)
NUM_IDENTITY = 60
ITERATIONS = 6
# the outline of the jaw is where the cheek turns away, not a fixed point of the skin; lips matter most
OUTLINE_WEIGHT, LIP_WEIGHT = 0.4, 2.0
# landmarks' depth is less certain than their place in the picture
DEPTH_WEIGHT = 0.25
# how many pixels (at a face of 140 px) a unit of a weight must explain
IDENTITY_PRIOR, EXPRESSION_PRIOR = 1.2, 3.0
EXPRESSION_RANGE = (-0.1, 1.1)
# what the shapes cannot reach is pushed there in the picture plane, smoothly over these shares of the face's width:
# first what neighbours have in common, then what parts lip from lip and lid from lid
PUSH_REACHES = (0.12, 0.04)
PUSH_STIFFNESS = 0.05
PUSH_STEPS = 3


@dataclass(frozen=True)
class HeadFit:
    """A morphable head laid over a face.

    Attributes:
        identity: Identity weights, float32 (I,).
        expression: Expression weights, float32 (E,).
        scale_px_per_cm: Size of the head in the picture.
        rotation: Rotation matrix (3, 3).
        translation_px: Where the head's origin lies (3,): x, y up, z.
        landmarks_px: The 68 landmarks it was fitted to, float32 (68, 3): x, y up, z towards the viewer.
        error_px: Mean distance of the fitted landmarks from those, before the rest is pushed.
    """

    identity: np.ndarray
    expression: np.ndarray
    scale_px_per_cm: float
    rotation: np.ndarray
    translation_px: np.ndarray
    landmarks_px: np.ndarray
    error_px: float

    def project(self, points_cm: np.ndarray) -> np.ndarray:
        """Map points of the head (N, 3) [cm] to the picture (N, 3): x, y down [px], depth (larger is nearer) [px]."""
        projected = points_cm @ (self.rotation.T * self.scale_px_per_cm) + self.translation_px
        projected[:, 1] *= -1
        return projected.astype(np.float32)


class HeadFitter:
    """Fit one head after another.

    Args:
        head: The shapes.
    """

    def __init__(self, head: MorphableHead):
        self.head = head
        self._expressions = head.expression_indices(*FITTED_EXPRESSIONS)
        self._neutral_cm = head.neutral_cm[LANDMARK_VERTICES]
        self._identity_cm = head.identity_cm[:NUM_IDENTITY, LANDMARK_VERTICES]
        self._expression_cm = head.expression_cm[self._expressions][:, LANDMARK_VERTICES]
        self._weights = np.ones(len(LANDMARK_VERTICES))
        self._weights[:17] = OUTLINE_WEIGHT
        self._weights[LIPS] = LIP_WEIGHT
        self._rigid_weights = self._weights.copy()
        self._rigid_weights[:17] /= 2

    def fit(self, landmarks_px: np.ndarray, identity: np.ndarray | None = None) -> HeadFit:
        """Fit pose, expression and, unless it is given, identity.

        Args:
            landmarks_px: MediaPipe's points (478, 3) [px]: x, y down, z away from the viewer.
            identity: Identity weights that an earlier fit of the same person found; None fits them, too.

        Returns:
            The fit.
        """
        target = (landmarks_px[MEDIAPIPE_POINTS] * (1, -1, -1)).astype(np.float64)
        is_known = identity is not None
        identity = np.zeros(NUM_IDENTITY) if identity is None else np.asarray(identity, np.float64)
        expression = np.zeros(len(self._expressions))
        shapes = self._expression_cm if is_known else np.concatenate([self._identity_cm, self._expression_cm])
        priors = np.full(len(shapes), EXPRESSION_PRIOR)
        priors[: len(shapes) - len(expression)] = IDENTITY_PRIOR
        bounds = np.full((2, len(shapes)), [[-np.inf], [np.inf]])
        bounds[:, len(shapes) - len(expression) :] = np.array(EXPRESSION_RANGE)[:, None]
        # a face of any size is fitted alike
        size_px = np.ptp(target[:, 0]) / 140
        weights = np.sqrt(self._weights)[:, None] * (1, 1, DEPTH_WEIGHT) / size_px
        base = self._neutral_cm + (np.tensordot(identity, self._identity_cm, 1) if is_known else 0)
        for _ in range(ITERATIONS):
            shape = self._shape(identity, expression)
            scale, rotation, translation = fit_similarity(shape, target, self._rigid_weights)
            system = ((shapes @ rotation.T) * (scale * weights)).reshape(len(shapes), -1).T
            wanted = ((target - translation - scale * base @ rotation.T) * weights).ravel()
            solution = _solve_within(system.T @ system + np.diag(priors**2), system.T @ wanted, bounds)
            if not is_known:
                identity = solution[:NUM_IDENTITY]
            expression = solution[len(shapes) - len(expression) :]
        fitted = scale * self._shape(identity, expression) @ rotation.T + translation
        all_expressions = np.zeros(self.head.num_expressions, np.float32)
        all_expressions[self._expressions] = expression
        return HeadFit(
            identity=identity.astype(np.float32),
            expression=all_expressions,
            scale_px_per_cm=scale,
            rotation=rotation,
            translation_px=translation,
            landmarks_px=target.astype(np.float32),
            error_px=float(np.linalg.norm((fitted - target)[:, :2], axis=1).mean()),
        )

    def _shape(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        moved = np.tensordot(identity, self._identity_cm, 1) + np.tensordot(expression, self._expression_cm, 1)
        return self._neutral_cm + moved


def _solve_within(squares: np.ndarray, wanted: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Solve normal equations (N, N), (N,) within bounds (2, N), so that where a weight is bound, others take over."""
    root = np.linalg.cholesky(squares).T
    return lsq_linear(root, np.linalg.solve(root.T, wanted), bounds, method="bvls").x


def push_to_landmarks(vertices_px: np.ndarray, fit: HeadFit) -> np.ndarray:
    """Say how vertices must move in the picture so that the landmarks lie where they were seen.

    Args:
        vertices_px: Fitted head in the picture (V, 3): x, y down, depth.
        fit: What it was fitted to.

    Returns:
        Float32 displacements (V, 2) [px], smooth over the face.
    """
    pushed_px = vertices_px[:, :2].copy()
    for reach in PUSH_REACHES:
        pushed_px += _push_over(reach, pushed_px, fit.landmarks_px[:, :2] * (1, -1))
    return pushed_px - vertices_px[:, :2]


def _push_over(reach: float, places_px: np.ndarray, seen_px: np.ndarray) -> np.ndarray:
    """Displacements (V, 2) of vertices (V, 2) towards the landmarks (68, 2), over a share of the face's width."""
    centres = places_px[LANDMARK_VERTICES].astype(np.float64)
    missing = seen_px - centres
    reach_px = reach * np.ptp(centres[:, 0])

    def closeness(points: np.ndarray) -> np.ndarray:
        squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * points @ centres.T
        return np.exp(-squares.astype(np.float32) / (2 * reach_px**2))

    strengths = np.linalg.solve(closeness(centres) + PUSH_STIFFNESS * np.eye(len(centres)), missing)
    # it is smooth: known on a grid, it is known everywhere; beyond three times the reach nothing is pushed
    step_px = reach_px / PUSH_STEPS
    low, high = centres.min(axis=0) - 3 * reach_px, centres.max(axis=0) + 3 * reach_px
    axes = [np.arange(first, last + step_px, step_px) for first, last in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    push = (closeness(grid.reshape(-1, 2)) @ strengths).reshape(grid.shape).astype(np.float32)
    x, y = (((places_px[:, axis] - low[axis]) / step_px).astype(np.float32)[:, None] for axis in (0, 1))
    return cv2.remap(push, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[:, 0]
