"""The skin of the head: a grid from crown to chin, slit between the lids and between the lips.

One row of the grid runs along each slit and is doubled there, so lids and lips open as sheets of skin do, and a point
of the skin keeps its texture coordinate whatever the face does.
"""

from dataclasses import dataclass

import numpy as np

from training.synthetic.identity import Identity
from training.synthetic.mesh_shapes import bump, smooth_step

NUM_COLUMNS = 161
WIDEST_Y_CM = 2.0
BACK_OF_FACE_Z_CM = -2.0
FACE_DEPTH_CM = 7.1
OCCIPUT_DEPTH_CM = 8.8
# horizontal sections are superellipses of this exponent: a little boxier than ellipses
SECTION_EXPONENT = 2.15
LID_THICKNESS_CM = 0.1
EYEBALL_TO_EYE_WIDTH = 1.25
EYE_PROTRUSION_CM = 0.68
# skin this far above and below the eye's centre moves with the lids
UPPER_LID_REACH_CM = 1.55
LOWER_LID_REACH_CM = 1.2
# where the closed lids meet, below the centre, as a share of the aperture
LID_LINE_SHARE = 0.3
LID_KEYS = np.linspace(0, 1, 6)
"""Eye openness of the key shapes between which lids are interpolated."""


@dataclass(frozen=True)
class Slit:
    """An opening of the skin.

    Attributes:
        upper: Vertex indices along its upper edge, from the image's left to right, without the corners.
        lower: The same along its lower edge.
        left_corner: Vertex index of the corner to the image's left.
        right_corner: Vertex index of the other corner.
    """

    upper: np.ndarray
    lower: np.ndarray
    left_corner: int
    right_corner: int

    @property
    def upper_edge(self) -> np.ndarray:
        """Vertex indices of the upper edge with both corners."""
        return np.array([self.left_corner, *self.upper, self.right_corner], np.int64)

    @property
    def lower_edge(self) -> np.ndarray:
        """Vertex indices of the lower edge with both corners."""
        return np.array([self.left_corner, *self.lower, self.right_corner], np.int64)


@dataclass(frozen=True)
class LidMotion:
    """Positions of the skin around one eye at each openness of `LID_KEYS`.

    Attributes:
        indices: Vertex indices (n,).
        positions_cm: Float32 array (len(LID_KEYS), n, 3).
    """

    indices: np.ndarray
    positions_cm: np.ndarray

    def at(self, openness: float) -> np.ndarray:
        """Interpolate between the key shapes.

        Args:
            openness: 0 closed to 1 open.

        Returns:
            Float32 positions (n, 3) [cm].
        """
        place = openness * (len(LID_KEYS) - 1)
        key = min(int(place), len(LID_KEYS) - 2)
        share = np.float32(place - key)
        return self.positions_cm[key] * (1 - share) + self.positions_cm[key + 1] * share


class SkullSurface:
    """The skin of an identity's head at rest: eyes open, mouth closed.

    Args:
        identity: Whose head.

    Attributes:
        angles: Angle of each grid column about the vertical axis, 0 in front (rows, columns).
        grid_y_cm: Height of each grid row before the lids were opened (rows, columns).
        vertices_cm: Float64 positions (N, 3); the grid row by row, then the doubled vertices of the slits.
        triangles: Vertex indices (M, 3).
        cell_corners: Vertex indices (rows - 1, columns - 1, 4) of each cell: upper left and right, lower left
            and right.
        uv: Row and column in the grid of every vertex (N, 2).
        mouth, left_eye, right_eye: The slits; left is the subject's left, to the right in the image.
        lid_motions: Motion of the lids of the left and the right eye.
        eyeball_radius_cm: Radius of the eyeballs.
        eyeball_z_cm: Depth of their centres.
    """

    def __init__(self, identity: Identity):
        self._skull, self._eyes, self._mouth_shape = identity.skull, identity.eyes, identity.mouth
        self.eyeball_radius_cm = EYEBALL_TO_EYE_WIDTH * self._eyes.half_width_cm
        self.eyeball_z_cm = -np.inf
        socket_z_cm = self.front_depth(self._eyes.centre_x_cm, self._eyes.centre_y_cm)
        self.eyeball_z_cm = socket_z_cm + EYE_PROTRUSION_CM - self.eyeball_radius_cm - LID_THICKNESS_CM
        self._lay_grid()
        self._cut_slits()
        self._place_vertices()

    @property
    def crown_y_cm(self) -> float:
        """Height of the crown."""
        return self._skull.crown_y_cm

    @property
    def is_below_mouth(self) -> np.ndarray:
        """Whether each vertex lies under the row of the mouth, or on the lower lip's edge (N,)."""
        below = np.zeros(len(self.vertices_cm), bool)
        below[: self.grid_y_cm.size] = self.grid_y_cm.ravel() < self._mouth_shape.centre_y_cm - 1e-9
        below[self.mouth.lower] = True
        return below

    def mouth_line_cm(self, along: np.ndarray) -> np.ndarray:
        """Height of the line between the closed lips over the mouth's centre.

        Args:
            along: Distance from the middle over half the mouth's width.

        Returns:
            Array like `along`: corners a little higher than the middle, which dips under the cupid's bow.
        """
        line_cm = 0.08 * np.minimum(along**2, 1) - 0.05 * bump(along / 0.2)
        return line_cm * smooth_step(2.2, 1.0, np.abs(along))

    def _lay_grid(self) -> None:
        eye_y_cm, mouth_y_cm = self._eyes.centre_y_cm, self._mouth_shape.centre_y_cm
        crown_y_cm, chin_y_cm = self._skull.crown_y_cm, self._skull.chin_y_cm
        brow_y_cm, nose_y_cm = eye_y_cm + UPPER_LID_REACH_CM, mouth_y_cm + 1.7
        # towards the poles the outline turns ever faster
        crown = brow_y_cm + (crown_y_cm - brow_y_cm) * np.sin(np.linspace(np.pi / 2, 0, 24, endpoint=False))
        chin = mouth_y_cm - 1.8 + (chin_y_cm - mouth_y_cm + 1.8) * np.sin(np.linspace(0, np.pi / 2, 16))
        rows_y_cm = np.concatenate([
            crown,
            np.linspace(brow_y_cm, eye_y_cm, 13, endpoint=False),
            np.linspace(eye_y_cm, eye_y_cm - LOWER_LID_REACH_CM, 8, endpoint=False),
            np.linspace(eye_y_cm - LOWER_LID_REACH_CM, nose_y_cm, 15, endpoint=False),
            np.linspace(nose_y_cm, mouth_y_cm, 13, endpoint=False),
            np.linspace(mouth_y_cm, mouth_y_cm - 1.8, 13, endpoint=False),
            chin,
        ])
        self.eye_row = 24 + 13
        self.mouth_row = self.eye_row + 8 + 15 + 13
        turn = np.linspace(-1, 1, NUM_COLUMNS)
        # columns are denser in front
        self.angles = np.broadcast_to(np.pi * (0.5 * turn + 0.5 * turn**3), (len(rows_y_cm), NUM_COLUMNS))
        self.grid_y_cm = np.broadcast_to(rows_y_cm[:, None], self.angles.shape)

    def _cut_slits(self) -> None:
        rows, columns = self.angles.shape
        grid = np.arange(rows * columns).reshape(rows, columns)
        x_cm = self._positions(self.angles, self.grid_y_cm)[..., 0]
        in_front = np.abs(self.angles[0]) < np.pi / 2
        doubled: list[np.ndarray] = []
        self.slit_ends_cm: list[tuple[float, float]] = []

        def cut(row: int, centre_x_cm: float, half_width_cm: float) -> Slit:
            distance = np.where(in_front, np.abs(x_cm[row] - (centre_x_cm - half_width_cm)), np.inf)
            other_distance = np.where(in_front, np.abs(x_cm[row] - (centre_x_cm + half_width_cm)), np.inf)
            left, right = int(distance.argmin()), int(other_distance.argmin())
            upper = grid[row, left + 1 : right]
            lower = rows * columns + sum(len(ids) for ids in doubled) + np.arange(len(upper))
            doubled.append(upper)
            self.slit_ends_cm.append((float(x_cm[row, left]), float(x_cm[row, right])))
            return Slit(upper, lower, int(grid[row, left]), int(grid[row, right]))

        eyes = self._eyes
        self.right_eye = cut(self.eye_row, -eyes.centre_x_cm, eyes.half_width_cm)
        self.left_eye = cut(self.eye_row, eyes.centre_x_cm, eyes.half_width_cm)
        self.mouth = cut(self.mouth_row, 0.0, self._mouth_shape.half_width_cm)
        self._doubled = np.concatenate(doubled)
        below = grid.copy()
        for slit in (self.right_eye, self.left_eye, self.mouth):
            below.flat[slit.upper] = slit.lower
        self._is_lower = np.arange(rows * columns + len(self._doubled)) >= rows * columns
        # cells look downwards from their upper row, so they hang on the lower edge of a slit
        self.cell_corners = np.stack([below[:-1, :-1], below[:-1, 1:], grid[1:, :-1], grid[1:, 1:]], axis=-1)
        self.triangles = self.cell_corners[..., [0, 2, 1, 1, 2, 3]].reshape(-1, 3).astype(np.int32)
        row_index, column_index = np.indices(grid.shape)
        uv = np.stack([row_index, column_index], axis=-1).reshape(-1, 2).astype(np.float64)
        self.uv = np.concatenate([uv, uv[self._doubled]])

    def _place_vertices(self) -> None:
        angles, heights = (
            np.concatenate([values.ravel(), values.ravel()[self._doubled]]) for values in (self.angles, self.grid_y_cm)
        )
        shapes = [self._positions(angles, self._with_slits(angles, heights, openness)) for openness in LID_KEYS]
        self.vertices_cm = shapes[-1]
        in_front = np.abs(angles) < np.pi / 2
        moves = in_front & (np.abs(shapes[0] - shapes[-1]).max(axis=1) > 1e-9)
        self.lid_motions = tuple(
            LidMotion(indices, np.stack([shape[indices] for shape in shapes]).astype(np.float32))
            for indices in (np.flatnonzero(moves & (side * angles > 0)) for side in (1, -1))
        )

    def _with_slits(self, angles: np.ndarray, heights_cm: np.ndarray, openness: float) -> np.ndarray:
        """Heights after the rows along the slits were bent to the edges of lids and lips."""
        x_cm = self._positions(angles, heights_cm)[:, 0]
        in_front = np.abs(angles) < np.pi / 2
        bent = self._with_lids(x_cm, heights_cm, openness)
        below_mouth = heights_cm - self._mouth_shape.centre_y_cm
        line_cm = self.mouth_line_cm(x_cm / self.slit_ends_cm[2][1])
        bent = bent + line_cm * np.clip(1 - np.abs(below_mouth) / 1.6, 0, 1)
        return np.where(in_front, bent, heights_cm)

    def _with_lids(self, x_cm: np.ndarray, heights_cm: np.ndarray, openness: float) -> np.ndarray:
        eyes = self._eyes
        start_cm, end_cm = self.slit_ends_cm[1]
        centre_cm, half_width_cm = (start_cm + end_cm) / 2, (end_cm - start_cm) / 2
        along = (np.abs(x_cm) - centre_cm) / half_width_cm
        rounding = np.clip(1 - along**2, 0, None)
        # the outer corner is higher than the inner; beyond the corners that fades
        slant_cm = eyes.slant * half_width_cm * np.clip(along, -1, 1) * smooth_step(2.2, 1.0, np.abs(along))
        closed_cm = -LID_LINE_SHARE * eyes.aperture_cm * rounding**0.8
        # the highest point of the upper lid lies a little towards the nose
        open_cm = 0.66 * eyes.aperture_cm * rounding**0.58 * (1 - 0.1 * along)
        lowered_cm = -(1 - 0.66) * eyes.aperture_cm * rounding**0.8 * (1 + 0.12 * along)
        upper_cm = slant_cm + closed_cm + openness * (open_cm - closed_cm)
        lower_cm = slant_cm + closed_cm + openness * (lowered_cm - closed_cm)
        above = heights_cm - eyes.centre_y_cm
        is_lower = self._is_lower if len(x_cm) == len(self._is_lower) else np.zeros(len(x_cm), bool)
        below_slit = (above < -1e-9) | is_lower
        upper_share = np.clip(1 - above / UPPER_LID_REACH_CM, 0, 1)
        lower_share = np.clip(1 + above / LOWER_LID_REACH_CM, 0, 1)
        shift_cm = np.where(below_slit, lower_cm * lower_share, upper_cm * upper_share)
        in_reach = (above < UPPER_LID_REACH_CM) & (above > -LOWER_LID_REACH_CM)
        return heights_cm + np.where(in_reach, shift_cm, 0)

    def _positions(self, angles: np.ndarray, heights_cm: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the surface at an angle about the vertical axis and a height."""
        skull = self._skull
        to_crown = np.clip((heights_cm - WIDEST_Y_CM) / (skull.crown_y_cm - WIDEST_Y_CM), 0, 1)
        to_chin = np.clip((WIDEST_Y_CM - heights_cm) / (WIDEST_Y_CM - skull.chin_y_cm), 0, 1)
        is_upper = heights_cm > WIDEST_Y_CM
        dome = np.sqrt(1 - to_crown**2.5)
        width_cm = skull.half_width_cm * np.where(is_upper, dome, (1 - to_chin**skull.jaw_exponent) ** 0.55)
        face_cm = FACE_DEPTH_CM * np.where(is_upper, dome, np.sqrt(1 - to_chin**5))
        occiput_cm = OCCIPUT_DEPTH_CM * np.where(is_upper, dome, np.sqrt(1 - to_chin**2.2))
        sine, cosine = np.sin(angles), np.cos(angles)
        x_cm = width_cm * np.sign(sine) * np.abs(sine) ** (2 / SECTION_EXPONENT)
        depth_cm = np.where(cosine > 0, face_cm, occiput_cm)
        z_cm = BACK_OF_FACE_Z_CM + depth_cm * np.sign(cosine) * np.abs(cosine) ** (2 / SECTION_EXPONENT)
        frontness = smooth_step(-0.1, 0.5, cosine)
        z_cm = z_cm + frontness * (self._nose_cm(x_cm, heights_cm) + self._relief_cm(x_cm, heights_cm))
        z_cm = np.where(frontness > 0.5, self._over_eyeball(x_cm, heights_cm, z_cm), z_cm)
        # the edge of the jaw rises towards the ear
        y_cm = heights_cm + 0.32 * to_chin**1.3 * np.maximum(0, 3.5 - z_cm)
        return np.stack([x_cm, y_cm, z_cm], axis=-1)

    def front_depth(self, x_cm: float, y_cm: float) -> float:
        """Find the depth of the face behind a point seen from the front.

        Args:
            x_cm: Distance from the middle, not negative.
            y_cm: Height.

        Returns:
            z [cm].
        """
        angles = np.linspace(0, np.pi / 2, 400)
        points = self._positions(angles, np.full_like(angles, y_cm))
        return float(np.interp(x_cm, points[:, 0], points[:, 2]))

    def _nose_cm(self, x_cm: np.ndarray, y_cm: np.ndarray) -> np.ndarray:
        skull = self._skull
        bridge_y_cm, tip_y_cm, half_width_cm = 3.9, skull.nose_tip_y_cm, skull.nose_half_width_cm
        down = np.clip((bridge_y_cm - y_cm) / (bridge_y_cm - tip_y_cm), 0, 1.15)
        under = smooth_step(tip_y_cm - 0.4, tip_y_cm - 1.15, y_cm)
        ridge_cm = skull.nose_length_cm * down**1.25 * (1 - under)
        ridge_cm = ridge_cm * bump(x_cm / (half_width_cm * (0.62 + 0.33 * down)))
        ball_cm = 0.2 * bump(x_cm / (0.75 * half_width_cm)) * bump((y_cm - tip_y_cm) / 0.5)
        wing_x_cm = (np.abs(x_cm) - 1.12 * half_width_cm) / 0.46
        return ridge_cm + ball_cm + 0.62 * bump(wing_x_cm) * bump((y_cm - tip_y_cm + 0.35) / 0.52)

    def _relief_cm(self, x_cm: np.ndarray, y_cm: np.ndarray) -> np.ndarray:
        """Sockets, brow ridge, cheekbones, the mound of the teeth, lips and chin."""
        skull, eyes, mouth = self._skull, self._eyes, self._mouth_shape
        beside_cm, mouth_y_cm = np.abs(x_cm), mouth.centre_y_cm
        above_mouth_cm = y_cm - mouth_y_cm
        along_lips = np.clip(1 - (x_cm / (1.05 * mouth.half_width_cm)) ** 2, 0, None)
        upper_cm, lower_cm = 0.55 * mouth.upper_lip_cm, 0.5 * mouth.lower_lip_cm
        lips_cm = 0.30 * bump((above_mouth_cm - upper_cm) / (0.8 * mouth.upper_lip_cm))
        lips_cm = lips_cm + 0.38 * bump((above_mouth_cm + lower_cm) / (0.75 * mouth.lower_lip_cm))
        return (
            -1.15 * bump((beside_cm - eyes.centre_x_cm) / 1.9) * bump((y_cm - eyes.centre_y_cm) / 1.2)
            + skull.brow_ridge_cm * bump((y_cm - eyes.centre_y_cm - 1.9) / 0.8) * bump(beside_cm / 5)
            + skull.cheekbone_cm * bump((beside_cm - 4.4) / 1.9) * bump((y_cm + 0.2) / 1.7)
            + 0.7 * bump(x_cm / 2.9) * bump(above_mouth_cm / 1.6)
            + lips_cm * np.sqrt(along_lips)
            - 0.12 * bump(x_cm / 0.4) * bump((above_mouth_cm - 1.4) / 0.6)
            + skull.chin_bump_cm * bump(x_cm / 1.8) * bump((y_cm - skull.chin_y_cm - 1.5) / 1.2)
            - 0.35 * bump(x_cm / 1.8) * bump((above_mouth_cm + 1.75) / 0.5)
        )

    def _over_eyeball(self, x_cm: np.ndarray, y_cm: np.ndarray, z_cm: np.ndarray) -> np.ndarray:
        """Lay the skin smoothly over the eyeball where that stands out."""
        across_cm, above_cm = np.abs(x_cm) - self._eyes.centre_x_cm, y_cm - self._eyes.centre_y_cm
        radius_cm = self.eyeball_radius_cm + LID_THICKNESS_CM
        sphere_cm = np.sqrt(np.maximum(radius_cm**2 - across_cm**2 - above_cm**2, 0))
        ball_z_cm = np.where(sphere_cm > 0, self.eyeball_z_cm + sphere_cm, -np.inf)
        blend_cm = 0.25
        share = np.clip(0.5 + 0.5 * (ball_z_cm - z_cm) / blend_cm, 0, 1)
        return z_cm + share * (np.maximum(ball_z_cm, -1e3) - z_cm) + blend_cm * share * (1 - share)
