"""The whole figure as one mesh, and its shape in a state."""

from dataclasses import dataclass

import numpy as np

from training.synthetic import body_shape, inner_parts
from training.synthetic.facial_motion import FacialMotion
from training.synthetic.hair_shape import HairShape
from training.synthetic.head_state import HeadState, rotation_from_angles
from training.synthetic.identity import Identity
from training.synthetic.inner_parts import Pocket
from training.synthetic.mesh_shapes import Material, MeshPart
from training.synthetic.skull_surface import SkullSurface

# the head turns about the top of the spine
PIVOT_CM = np.array([0.0, -7.0, -3.0])
# the shoulders follow a shift of the head this far
BODY_FOLLOWS = 0.55
# skin this deep under the hair is never seen
HIDDEN_SCALP_CM = 1.3
MOUTH_DEPTH_CM = 3.0
SOCKET_DEPTH_CM = 1.3


@dataclass(frozen=True)
class PosedMesh:
    """The figure in one state.

    Attributes:
        local_cm: Float32 positions (N, 3) after expression, before the head turns.
        camera_cm: Float32 positions (N, 3) as the camera sees them.
        rotation: Rotation of the head (3, 3).
        head_shift_cm: Where the rotation puts the origin of the head frame (3,).
    """

    local_cm: np.ndarray
    camera_cm: np.ndarray
    rotation: np.ndarray
    head_shift_cm: np.ndarray


class HeadMesh:
    """Geometry of an identity.

    Args:
        identity: Who.

    Attributes:
        surface: The skin of the head, whose vertices come first.
        hair: The hair.
        rest_cm: Float32 positions (N, 3) of the neutral face.
        triangles: Int32 vertex indices (M, 3).
        material: Int32 `Material` of each triangle (M,).
        is_two_sided: Bool (M,).
        uv: Float32 texture coordinates (N, 2).
        ambient: Float32 share of the surrounding light (N,).
        coverage: Float32 distance inside an outline (N,), positive where there is none.
        eyeball_centres_cm: Middle of the left and the right eyeball (2, 3).
    """

    def __init__(self, identity: Identity):
        self.surface = SkullSurface(identity)
        self.hair = HairShape(identity, self.surface)
        self.eyeball_centres_cm = np.stack([
            inner_parts.eyeball_centre_cm(identity, self.surface, side) for side in (1, -1)
        ])
        self._pockets = self._make_pockets()
        parts = self._make_parts(identity)
        self._join(parts)
        starts = np.cumsum([0, *(len(part.vertices_cm) for part in parts)])
        spans = [np.arange(start, end) for start, end in zip(starts, starts[1:], strict=False)]
        self._pocket_spans = spans[1:4]
        self._eyeball_spans = spans[4:6]
        self._motion = FacialMotion(identity, self.surface, spans[6], np.concatenate(spans[7:9]), self.rest_cm)

    def _make_pockets(self) -> list[Pocket]:
        surface, rest_cm = self.surface, self.surface.vertices_cm
        return [
            Pocket(surface.mouth, Material.MOUTH_CAVITY, MOUTH_DEPTH_CM, rest_cm),
            Pocket(surface.left_eye, Material.SOCKET, SOCKET_DEPTH_CM, rest_cm),
            Pocket(surface.right_eye, Material.SOCKET, SOCKET_DEPTH_CM, rest_cm),
        ]

    def _make_parts(self, identity: Identity) -> list[MeshPart]:
        surface = self.surface
        seen = self.hair.inside_cm[surface.triangles].min(axis=1) < HIDDEN_SCALP_CM
        skin = MeshPart(Material.SKIN, surface.vertices_cm, surface.triangles[seen], uv=surface.uv)
        return [
            skin,
            *(pocket.part for pocket in self._pockets),
            inner_parts.eyeball(identity, surface, 1),
            inner_parts.eyeball(identity, surface, -1),
            inner_parts.teeth(identity, surface, upper=True),
            inner_parts.teeth(identity, surface, upper=False),
            inner_parts.tongue(identity, surface),
            *self.hair.parts,
            *([] if self.hair.covers_ears else [body_shape.ear(identity, 1), body_shape.ear(identity, -1)]),
            body_shape.neck(identity),
            body_shape.torso(identity),
            *body_shape.collar(identity),
            *body_shape.glasses(identity, surface),
        ]

    def _join(self, parts: list[MeshPart]) -> None:
        counts = [len(part.vertices_cm) for part in parts]
        starts = np.cumsum([0, *counts[:-1]])

        def per_vertex(values: list[np.ndarray | float]) -> np.ndarray:
            spread = [np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)]
            return np.concatenate(spread).astype(np.float32)

        def per_triangle(values: list[int], dtype: type) -> np.ndarray:
            return np.repeat(np.array(values, dtype), [len(part.triangles) for part in parts])

        self.rest_cm = np.concatenate([part.vertices_cm for part in parts]).astype(np.float32)
        self.triangles = np.concatenate([
            part.triangles + start for part, start in zip(parts, starts, strict=True)
        ]).astype(np.int32)
        self.material = per_triangle([part.material for part in parts], np.int32)
        self.is_two_sided = per_triangle([part.is_two_sided for part in parts], np.bool_)
        self.uv = np.concatenate([
            np.zeros((count, 2)) if part.uv is None else part.uv for part, count in zip(parts, counts, strict=True)
        ]).astype(np.float32)
        self.ambient = per_vertex([part.ambient for part in parts])
        self.coverage = per_vertex([1.0 if part.coverage is None else part.coverage for part in parts])
        self._head_share = per_vertex([part.head_share for part in parts])[:, None]

    def pose(self, state: HeadState) -> PosedMesh:
        """Shape the figure.

        Args:
            state: Its state.

        Returns:
            Where its vertices are.
        """
        local_cm = self.rest_cm.copy()
        for motion, openness in zip(self.surface.lid_motions, (state.eye_left, state.eye_right), strict=True):
            local_cm[motion.indices] = motion.at(openness)
        local_cm[self._motion.indices] += self._motion.displacement(state)
        for pocket, span in zip(self._pockets, self._pocket_spans, strict=True):
            local_cm[span] = pocket.vertices(local_cm)
        # looking right is a turn by a negative yaw, looking up one by a negative pitch
        gaze = rotation_from_angles(-np.degrees(state.gaze_x_rad), -np.degrees(state.gaze_y_rad), 0.0)
        for centre_cm, span in zip(self.eyeball_centres_cm, self._eyeball_spans, strict=True):
            local_cm[span] = (self.rest_cm[span] - centre_cm) @ gaze.T + centre_cm
        rotation = rotation_from_angles(state.yaw_deg, state.pitch_deg, state.roll_deg)
        shift_cm = np.array([state.x_cm, state.y_cm, 0.0])
        head_shift_cm = PIVOT_CM - rotation @ PIVOT_CM + shift_cm
        turned_cm = local_cm @ rotation.T.astype(np.float32) + head_shift_cm.astype(np.float32)
        body_cm = local_cm + (BODY_FOLLOWS * shift_cm).astype(np.float32)
        camera_cm = body_cm + self._head_share * (turned_cm - body_cm)
        return PosedMesh(local_cm, camera_cm, rotation, head_shift_cm)
