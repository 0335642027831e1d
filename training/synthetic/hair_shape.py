"""Hair: a shell over the scalp that is cut off along the hairline, and loose hair that hangs or is tied."""

from dataclasses import dataclass

import numpy as np

from training.synthetic.identity import Identity
from training.synthetic.mesh_shapes import (
    Material,
    MeshPart,
    ellipsoid,
    grid_triangles,
    smooth_step,
    vertex_normals,
)
from training.synthetic.skull_surface import SkullSurface

# the hairline is given at these angles from the front
HAIRLINE_ANGLES_DEG = (0, 35, 55, 70, 82, 95, 110, 140, 180)
# a strand of the hair texture is as wide on every head
TEXTURE_REPEATS = 5
TEXTURE_HEIGHT_CM = 26.0
# where hair that is tied up comes together
KNOT_CM = (0.0, 7.0, -11.0)


@dataclass(frozen=True)
class HairStyle:
    """How hair is cut.

    Attributes:
        front_cm: Height of the hairline at 0, 35 and 55 degrees over that of the identity.
        side_y_cm: Its height at the other angles of `HAIRLINE_ANGLES_DEG`.
        thickness_cm: Height of the hair over the scalp.
        rise_cm: Over which distance from the hairline it gets there.
        top_share: How much thicker it is on top.
        fringe_cm: How far a fringe may fall over the forehead.
        jitter_cm: Unevenness of the hairline.
        curls: How strongly the surface bulges.
        loose: What hangs: "", "curtain", "bun" or "tail".
        curtain_end_y_cm: Where a curtain ends.
        is_tied: Whether strands run towards a knot at the back, not down from the crown.
    """

    front_cm: tuple[float, float, float]
    side_y_cm: tuple[float, ...]
    thickness_cm: float
    rise_cm: float = 1.8
    top_share: float = 0.0
    fringe_cm: float = 0.0
    jitter_cm: float = 0.28
    curls: float = 0.0
    loose: str = ""
    curtain_end_y_cm: float = 0.0
    is_tied: bool = False


_SHORN = (6.8, 1.0, 1.9, -1.5, -5.0, -5.6)
_OVER_EAR = (4.1, -1.0, -3.5, -6.0, -8.0, -8.0)
_TIED = (5.2, 1.3, 2.2, 0.0, -4.0, -4.6)
_NONE = (60.0,) * 6
STYLES = {
    "short": HairStyle((0.0, 0.3, 0.8), _SHORN, 1.0, top_share=0.3, fringe_cm=1.0),
    "parted": HairStyle((0.1, 0.2, 0.4), _SHORN, 1.25, top_share=0.25, fringe_cm=1.4),
    "buzz": HairStyle((0.0, 0.3, 0.9), _SHORN, 0.22, rise_cm=2.5, jitter_cm=0.12),
    "quiff": HairStyle((0.2, 0.5, 1.2), _SHORN, 0.9, rise_cm=1.2, top_share=1.3),
    "receding": HairStyle((1.2, 2.2, 3.0), (8.2, 1.6, 1.9, -1.5, -5.0, -5.6), 0.6, rise_cm=2.6),
    "horseshoe": HairStyle((50.0, 50.0, 40.0), (6.6, 1.9, 2.0, -1.5, -5.0, -5.6), 0.5, rise_cm=2.0),
    "bald": HairStyle((50.0, 50.0, 50.0), _NONE, 0.1),
    "bob": HairStyle(
        (0.0, -0.3, -1.2), _OVER_EAR, 1.1, rise_cm=3.0, fringe_cm=2.4, loose="curtain", curtain_end_y_cm=-8.6
    ),
    "long": HairStyle(
        (0.0, -0.3, -1.2), _OVER_EAR, 1.1, rise_cm=3.0, fringe_cm=2.2, loose="curtain", curtain_end_y_cm=-20.0
    ),
    "wavy": HairStyle(
        (0.2, 0.0, -1.0),
        _OVER_EAR,
        1.4,
        rise_cm=2.4,
        fringe_cm=1.2,
        curls=0.1,
        loose="curtain",
        curtain_end_y_cm=-14.0,
    ),
    "updo": HairStyle((0.0, -0.1, -0.4), _TIED, 0.75, rise_cm=3.0, fringe_cm=0.6, loose="bun", is_tied=True),
    "ponytail": HairStyle((0.1, 0.0, -0.3), _TIED, 0.7, rise_cm=3.0, loose="tail", is_tied=True),
    "curly": HairStyle((-0.4, -0.5, -1.0), (4.8, 0.7, 1.4, -1.5, -5.0, -5.6), 2.1, jitter_cm=0.45, curls=0.28),
}


class HairShape:
    """The hair of an identity.

    Args:
        identity: Whose hair.
        surface: The scalp.

    Attributes:
        style: How it is cut.
        inside_cm: Distance of every vertex of the skin above the hairline (N,), negative on bare skin.
        parts: The hair.
    """

    def __init__(self, identity: Identity, surface: SkullSurface):
        self.style = STYLES[identity.hair.style]
        self._hair = identity.hair
        self._rng = np.random.default_rng(identity.hair.seed)
        num_grid = surface.angles.size
        angle = surface.angles.ravel()
        inside_cm = surface.vertices_cm[:num_grid, 1] - self._hairline_cm(angle)
        # the doubled vertices lie on the face
        self.inside_cm = np.concatenate([inside_cm, np.full(len(surface.vertices_cm) - num_grid, -50.0)])
        self.parts: list[MeshPart] = []
        if inside_cm.max() > 0:
            self.parts.append(self._shell(surface))
        if self.style.loose == "curtain":
            self.parts.append(self._curtain(identity))
        elif self.style.loose:
            self.parts.append(self._knot(identity))

    @property
    def covers_ears(self) -> bool:
        """Whether hair hangs over the ears."""
        return self.style.loose == "curtain"

    def _hairline_cm(self, angle: np.ndarray) -> np.ndarray:
        style, hair = self.style, self._hair
        angle_deg = np.degrees(np.abs(angle))
        heights_cm = [*(hair.hairline_y_cm + offset for offset in style.front_cm), *style.side_y_cm]
        line_cm = np.interp(angle_deg, HAIRLINE_ANGLES_DEG, heights_cm)
        # a fringe falls from the parting to the other side
        from_parting = smooth_step(-18, 34, np.degrees(angle) * hair.parting_side)
        fringe_cm = style.fringe_cm * hair.fringe * smooth_step(80, 25, angle_deg) * (0.1 + 0.9 * from_parting)
        frequencies, phases = self._rng.uniform(20, 60, 6), self._rng.uniform(0, 2 * np.pi, 6)
        jitter = np.sin(angle[:, None] * frequencies + phases).mean(axis=1)
        return line_cm - fringe_cm + style.jitter_cm * jitter

    def _shell(self, surface: SkullSurface) -> MeshPart:
        style, num_grid = self.style, surface.angles.size
        inside_cm = self.inside_cm[:num_grid]
        skin_cm = surface.vertices_cm[:num_grid]
        x_cm, y_cm, _ = skin_cm.T
        angle = surface.angles.ravel()
        triangles = grid_triangles(*surface.angles.shape)
        thickness_cm = style.thickness_cm * self._hair.volume * smooth_step(0, style.rise_cm, inside_cm)
        thickness_cm = thickness_cm * (1 + style.top_share * smooth_step(4, 11, y_cm) * (0.5 + 0.5 * np.cos(angle)))
        if self._hair.style == "parted":
            # a parting ends at the crown
            lopsided = 0.3 * smooth_step(surface.crown_y_cm, surface.crown_y_cm - 3.5, y_cm)
            thickness_cm = thickness_cm * (1 + lopsided * np.sin(angle * self._hair.parting_side + 0.6))
        thickness_cm = thickness_cm * (1 + style.curls * self._bulges(angle, y_cm)) + 0.1
        vertices = skin_cm + vertex_normals(skin_cm, triangles) * thickness_cm[:, None]
        triangles = triangles[inside_cm[triangles].max(axis=1) > 0]
        used, triangles = np.unique(triangles, return_inverse=True)
        uv = self._strands_uv(vertices[used], angle[used])
        ambient = 0.75 + 0.25 * smooth_step(0, 2.5, inside_cm[used])
        return MeshPart(
            Material.HAIR,
            vertices[used],
            triangles.reshape(-1, 3).astype(np.int32),
            uv=uv,
            ambient=ambient,
            coverage=inside_cm[used],
            is_two_sided=True,
        )

    def _strands_uv(self, vertices_cm: np.ndarray, angle: np.ndarray) -> np.ndarray:
        if not self.style.is_tied:
            return np.stack([TEXTURE_REPEATS * angle / (2 * np.pi), vertices_cm[:, 1] / TEXTURE_HEIGHT_CM], axis=-1)
        from_knot = vertices_cm - np.array(KNOT_CM)
        around = np.arctan2(from_knot[:, 0], from_knot[:, 1] + 4.0)
        return np.stack([TEXTURE_REPEATS * around / (2 * np.pi), from_knot[:, 2] / TEXTURE_HEIGHT_CM], axis=-1)

    def _bulges(self, angle: np.ndarray, y_cm: np.ndarray) -> np.ndarray:
        per_turn = self._rng.integers(5, 14, 5)
        per_cm, phases = self._rng.uniform(0.8, 2.0, 5), self._rng.uniform(0, 2 * np.pi, 5)
        return np.sin(angle[:, None] * per_turn + y_cm[:, None] * per_cm + phases).mean(axis=1)

    def _curtain(self, identity: Identity) -> MeshPart:
        """Hair that hangs beside and behind the face, a closed sheet around the vertical axis."""
        style = self.style
        down = np.linspace(0, 1, 44)[:, None]
        angle = np.linspace(-np.pi, np.pi, 73)[None]
        wave = 0.018 * np.sin(17 * angle + 1.3) + 0.012 * np.sin(31 * angle)
        if style.curls:
            wave = wave + 0.035 * np.sin(9 * angle + 14 * down) * smooth_step(0.25, 0.6, down)
        y_cm = 8.0 + (style.curtain_end_y_cm - 8.0) * down + 0.35 * np.sin(9 * angle) * (down > 0.9)
        full_cm = identity.skull.half_width_cm + 0.75 + 0.4 * (self._hair.volume - 1)
        # hair that reaches the shoulders draws together; all of it thins out towards its ends
        drawn = 1 - 0.2 * down**2 * (style.curtain_end_y_cm < -12)
        width_cm = full_cm * np.sqrt(1 - (1 - np.clip(down / 0.3, 0, 1)) ** 2) * (1 + 0.05 * np.sin(9 * down)) * drawn
        width_cm = width_cm * (1 - 0.3 * smooth_step(0.93, 1.0, down))
        front_z_cm = np.interp(down, [0, 0.2, 0.45, 0.6, 1], [-1.0, 0.4, -1.3, -3.2, -3.6])
        front_z_cm = front_z_cm + 1.6 * np.abs(np.sin(angle)) ** 3
        back_z_cm = np.interp(down, [0, 0.2, 0.6, 1], [-6.0, -10.4, -10.4, -9.5])
        middle_cm, reach_cm = (front_z_cm + back_z_cm) / 2, (front_z_cm - back_z_cm) / 2
        vertices = np.stack(
            [
                width_cm * np.sin(angle) * (1 + wave),
                y_cm + 0 * angle,
                middle_cm + reach_cm * np.cos(angle) * (1 + wave),
            ],
            axis=-1,
        ).reshape(-1, 3)
        y_flat_cm = vertices[:, 1]
        turns = np.broadcast_to(angle, y_cm.shape).ravel() / (2 * np.pi)
        uv = [TEXTURE_REPEATS * turns, y_flat_cm / TEXTURE_HEIGHT_CM]
        return MeshPart(
            Material.HAIR,
            vertices,
            grid_triangles(44, 73),
            uv=np.stack(uv, axis=-1),
            head_share=0.2 + 0.8 * smooth_step(-19, -5, y_flat_cm),
            ambient=0.5 + 0.45 * smooth_step(-9, 5, y_flat_cm),
            is_two_sided=True,
        )

    def _knot(self, identity: Identity) -> MeshPart:
        """A bun on top, or a tail behind."""
        crown_y_cm = identity.skull.crown_y_cm
        if self.style.loose == "bun":
            centre_cm, radii_cm = (0.0, crown_y_cm - 0.4, -6.5), (2.9, 2.5, 2.9)
        else:
            centre_cm, radii_cm = (0.0, -0.5, -12.6), (1.9, 9.0, 1.8)
        vertices, triangles = ellipsoid(centre_cm, radii_cm, 18, 26)
        offset_cm = vertices - np.array(centre_cm)
        uv = np.stack([offset_cm[:, 1] / radii_cm[1] * 0.5, offset_cm[:, 0] / TEXTURE_HEIGHT_CM], axis=-1)
        return MeshPart(Material.HAIR, vertices, triangles, uv=uv, ambient=0.9)
