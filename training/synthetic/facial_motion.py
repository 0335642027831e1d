"""How the face moves: displacement fields of mouth, jaw, cheeks and brows, weighted by the state.

Every field is a fixed displacement per vertex, so a frame costs one small product; only the weights are nonlinear.
"""

from dataclasses import dataclass

import numpy as np

from training.synthetic.head_state import HeadState
from training.synthetic.identity import Identity
from training.synthetic.mesh_shapes import bump, smooth_step
from training.synthetic.skull_surface import SkullSurface

MOUTH_GAP_CM = 2.1
CHIN_DROP_CM = 2.0
BROW_RAISE_CM = 0.5
# the skin moves with the upper lip up to the nose, with the lower lip down to the chin
UPPER_LIP_REACH_CM = 1.75
LOWER_LIP_REACH_CM = 1.9
# a dropping chin also swings back
CHIN_SWING = 0.33


@dataclass(frozen=True)
class LipTargets:
    """Where a state puts the inner edges of the lips, relative to the closed mouth.

    Attributes:
        width_change: Relative change of the mouth's width.
        corner_cm: Height of the corners.
        upper_cm: Height of the upper lip's middle.
        lower_cm: Height of the lower lip's middle.
        thickness_change: Relative change of the lips' thickness.
    """

    width_change: float
    corner_cm: float
    upper_cm: float
    lower_cm: float
    thickness_change: float


def lip_targets(state: HeadState) -> LipTargets:
    """Tell where the lips go.

    Args:
        state: The face's state.

    Returns:
        The targets; upper and lower lip meet exactly when the jaw is closed or the lips are pressed together.
    """
    gap_cm = MOUTH_GAP_CM * state.jaw * (1 - 0.15 * state.mouth_round) * (1 - state.mouth_press)
    # pressed lips meet half-way between the teeth, wherever the jaw is
    middle_cm = -0.35 * MOUTH_GAP_CM * state.jaw * state.mouth_press
    return LipTargets(
        width_change=0.16 * state.mouth_width - 0.42 * state.mouth_round + 0.14 * state.smile - 0.05 * state.jaw,
        corner_cm=-0.36 * gap_cm + middle_cm + 0.36 * state.smile,
        upper_cm=0.06 * gap_cm + middle_cm + 0.08 * state.smile,
        lower_cm=-0.94 * gap_cm + middle_cm + 0.08 * state.smile,
        thickness_change=0.15 * state.mouth_round - 0.5 * state.mouth_press - 0.1 * state.smile,
    )


class FacialMotion:
    """Displacement of the skin, the lower teeth and the tongue.

    Args:
        identity: Whose face.
        surface: Its skin.
        upper_teeth: Indices of the vertices of the upper teeth, which only draw together behind rounded lips.
        jaw_vertices: Indices of the vertices of the lower teeth and the tongue, which follow the jaw too.
        rest_cm: Positions of all vertices at rest.

    Attributes:
        indices: Vertices that move (n,).
    """

    def __init__(
        self,
        identity: Identity,
        surface: SkullSurface,
        upper_teeth: np.ndarray,
        jaw_vertices: np.ndarray,
        rest_cm: np.ndarray,
    ):
        fields = np.stack(_skin_fields(identity, surface)).astype(np.float32)
        moving = np.flatnonzero(np.abs(fields).max(axis=(0, 2)) > 1e-4)
        inside = np.concatenate([upper_teeth, jaw_vertices])
        inside_fields = np.zeros((len(fields), len(inside), 3), np.float32)
        inside_fields[WIDTH, :, 0] = rest_cm[inside, 0]
        inside_fields[CHIN, len(upper_teeth) :] = (0, -0.92, -CHIN_SWING)
        self.indices = np.concatenate([moving, inside])
        self._fields = np.concatenate([fields[:, moving], inside_fields], axis=1).reshape(len(fields), -1)

    def displacement(self, state: HeadState) -> np.ndarray:
        """Sum the fields.

        Args:
            state: The face's state.

        Returns:
            Float32 array (n, 3) [cm].
        """
        lips = lip_targets(state)
        weights = np.zeros(NUM_FIELDS, np.float32)
        weights[CORNERS] = lips.corner_cm
        weights[UPPER_LIP] = lips.upper_cm - lips.corner_cm
        weights[LOWER_LIP] = lips.lower_cm - lips.corner_cm
        weights[CHIN] = CHIN_DROP_CM * state.jaw
        weights[WIDTH] = lips.width_change
        weights[PROTRUSION] = 0.6 * state.mouth_round - 0.15 * state.mouth_width - 0.1 * state.mouth_press
        weights[THICKNESS] = lips.thickness_change
        weights[SMILE] = state.smile
        weights[BROWS] = BROW_RAISE_CM * state.brow
        return (weights @ self._fields).reshape(-1, 3)


NUM_FIELDS = 9
CORNERS, UPPER_LIP, LOWER_LIP, CHIN, WIDTH, PROTRUSION, THICKNESS, SMILE, BROWS = range(NUM_FIELDS)


def _skin_fields(identity: Identity, surface: SkullSurface) -> list[np.ndarray]:
    """Displacement (N, 3) of the skin per unit of each weight, in the order of the constants above."""
    mouth = identity.mouth
    x_cm, y_cm, z_cm = surface.vertices_cm.T
    corner_x_cm = surface.vertices_cm[surface.mouth.right_corner, 0]
    along, above_cm = x_cm / corner_x_cm, y_cm - mouth.centre_y_cm
    in_front = smooth_step(-1.0, 1.0, z_cm)
    is_lower = surface.is_below_mouth
    near_cm = np.abs(above_cm - surface.mouth_line_cm(along))
    upper_share = np.where(is_lower, 0, smooth_step(UPPER_LIP_REACH_CM, 0, near_cm))
    lower_share = np.where(is_lower, smooth_step(LOWER_LIP_REACH_CM, 0, near_cm), 0)
    beside_fade = smooth_step(2.1, 1.0, np.abs(along)) * in_front
    rounding = np.clip(1 - along**2, 0, None) ** 0.6
    hinge = smooth_step(-4.5, 1.5, z_cm) * (1 - 0.55 * smooth_step(4.0, 7.0, np.abs(x_cm)))
    chin = np.where(is_lower, 1 - smooth_step(LOWER_LIP_REACH_CM, 0, near_cm), 0) * hinge
    widening = smooth_step(2.3, 1.0, np.abs(along)) * smooth_step(2.8, 0.7, np.abs(above_cm)) * in_front
    protrusion = bump(x_cm / 2.4) * bump(above_cm / 1.2) * in_front
    thickness = _thickness_cm(identity, along, near_cm, is_lower) * in_front
    cheeks = bump((np.abs(x_cm) - 3.7) / 1.4) * bump((y_cm + 1.4) / 1.3) * in_front
    raised = bump(np.abs(x_cm) / 4.6) * bump((y_cm - identity.eyes.centre_y_cm - identity.brows.height_cm) / 0.85)
    zero = np.zeros_like(x_cm)

    def field(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.stack([x, y, z], axis=-1)

    return [
        field(zero, (upper_share + lower_share) * beside_fade, zero),
        field(zero, upper_share * rounding * in_front, zero),
        field(zero, lower_share * rounding * in_front, 0.2 * lower_share * rounding * in_front),
        field(zero, -chin, -CHIN_SWING * chin),
        field(x_cm * widening, zero, zero),
        field(zero, zero, protrusion),
        field(zero, thickness, zero),
        field(zero, 0.3 * cheeks, 0.3 * cheeks),
        field(zero, raised * in_front, zero),
    ]


def _thickness_cm(identity: Identity, along: np.ndarray, near_cm: np.ndarray, is_lower: np.ndarray) -> np.ndarray:
    """Move the outer edge of each lip away from the inner one, the skin beyond it less and less."""
    rounding = np.sqrt(np.clip(1 - along**2, 0, None))
    height_cm = np.where(is_lower, -identity.mouth.lower_lip_cm, identity.mouth.upper_lip_cm) * rounding
    distance = near_cm / np.maximum(np.abs(height_cm), 0.05)
    return height_cm * np.where(distance < 1, distance, smooth_step(2.2, 1.0, distance))
