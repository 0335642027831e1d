"""What shows through the slits of the face: eyeballs, teeth, tongue, and the pockets behind lids and lips."""

import numpy as np

from training.synthetic.identity import Identity
from training.synthetic.mesh_shapes import Material, MeshPart, ellipsoid, grid_triangles
from training.synthetic.skull_surface import SkullSurface, Slit

NUM_POCKET_ROWS = 8
EYEBALL_RINGS = 12
EYEBALL_SECTORS = 24
# the drawn part of an eyeball reaches this far from the middle of the iris
EYEBALL_CAP_RAD = 1.45


class Pocket:
    """A sheet that hangs between the edges of a slit and bulges inwards, so that one never looks through the head.

    Args:
        slit: The opening.
        material: What the sheet is made of.
        depth_cm: How far it bulges inwards.
        rest_cm: Vertices of the skin at rest.
    """

    def __init__(self, slit: Slit, material: Material, depth_cm: float, rest_cm: np.ndarray):
        self._upper, self._lower = slit.upper_edge, slit.lower_edge
        along = np.linspace(-1, 1, len(self._upper))
        # rows crowd near the edges, where the sheet turns inwards
        self._down = ((1 - np.cos(np.linspace(0, np.pi, NUM_POCKET_ROWS))) / 2)[:, None, None]
        bulge = 1 - np.abs(2 * self._down[..., 0] - 1) ** 8
        self._inwards_cm = (depth_cm * bulge * (1 - along**8)).astype(np.float32)
        triangles = grid_triangles(NUM_POCKET_ROWS, len(self._upper))
        self.part = MeshPart(material, self.vertices(rest_cm), triangles, ambient=0.6)

    def vertices(self, skin_cm: np.ndarray) -> np.ndarray:
        """Hang the sheet between the edges as they are now.

        Args:
            skin_cm: Vertices of the skin (N, 3).

        Returns:
            Vertices of the sheet (M, 3).
        """
        upper, lower = skin_cm[self._upper], skin_cm[self._lower]
        sheet = upper + (lower - upper) * self._down
        sheet[..., 2] -= self._inwards_cm
        return sheet.reshape(-1, 3)


def eyeball(identity: Identity, surface: SkullSurface, side: float) -> MeshPart:
    """Make the front of an eyeball, looking straight ahead.

    Args:
        identity: Whose eye.
        surface: The skin around it.
        side: 1 for the subject's left eye, -1 for the right one.

    Returns:
        The part; its uv are the sideways and upward components of the direction from the middle.
    """
    polar = np.linspace(0, EYEBALL_CAP_RAD, EYEBALL_RINGS)[:, None]
    azimuth = np.linspace(0, -2 * np.pi, EYEBALL_SECTORS, endpoint=False)[None]
    unit = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar) + 0 * azimuth], axis=-1
    ).reshape(-1, 3)
    triangles = grid_triangles(EYEBALL_RINGS, EYEBALL_SECTORS, wraps=True)[:, ::-1].copy()
    vertices = eyeball_centre_cm(identity, surface, side) + surface.eyeball_radius_cm * unit
    return MeshPart(Material.EYEBALL, vertices, triangles, uv=unit[:, :2])


def eyeball_centre_cm(identity: Identity, surface: SkullSurface, side: float) -> np.ndarray:
    """Find the middle of an eyeball.

    Args:
        identity: Whose eye.
        surface: The skin around it.
        side: 1 for the subject's left eye, -1 for the right one.

    Returns:
        Position (3,).
    """
    return np.array([side * identity.eyes.centre_x_cm, identity.eyes.centre_y_cm, surface.eyeball_z_cm])


def teeth(identity: Identity, surface: SkullSurface, upper: bool) -> MeshPart:
    """Make a curved row of teeth behind a lip.

    Args:
        identity: Whose teeth.
        surface: The skin in front of them.
        upper: Whether the upper or the lower row.

    Returns:
        The part; its uv are the distance from the middle, and the height over the cutting edge [cm].
    """
    mouth = identity.mouth
    lips_z_cm = surface.vertices_cm[surface.mouth.upper, 2].max()
    half_width_cm = (0.84 if upper else 0.66) * mouth.half_width_cm
    x_cm = np.linspace(-half_width_cm, half_width_cm, 17)[None]
    edge_y_cm = mouth.centre_y_cm - (0.42 if upper else 0.4)
    over_edge_cm = np.linspace(1.3, 0, 4)[:, None] if upper else np.linspace(0, 0.6, 4)[:, None]
    y_cm = edge_y_cm + over_edge_cm * (1 if upper else -1) + 0.03 * x_cm**2
    z_cm = lips_z_cm - (0.65 if upper else 1.3) - 0.17 * x_cm**2 + 0 * y_cm
    vertices = np.stack([x_cm + 0 * y_cm, y_cm, z_cm], axis=-1).reshape(-1, 3)
    uv = np.stack([x_cm + 0 * over_edge_cm, over_edge_cm + 0 * x_cm], axis=-1).reshape(-1, 2)
    shade = 1 - 0.6 * (np.abs(x_cm) / half_width_cm) ** 2 + 0 * y_cm
    return MeshPart(
        Material.TOOTH, vertices, grid_triangles(4, 17), uv=uv, ambient=shade.ravel() * (0.95 if upper else 0.6)
    )


def tongue(identity: Identity, surface: SkullSurface) -> MeshPart:
    """Make a tongue that lies behind the lower teeth.

    Args:
        identity: Whose tongue.
        surface: The skin in front of it.

    Returns:
        The part.
    """
    lips_z_cm = surface.vertices_cm[surface.mouth.upper, 2].max()
    centre_cm = (0.0, identity.mouth.centre_y_cm - 0.35, lips_z_cm - 2.6)
    vertices, triangles = ellipsoid(centre_cm, (0.62 * identity.mouth.half_width_cm, 0.5, 1.5), 9, 14)
    return MeshPart(Material.TONGUE, vertices, triangles, ambient=0.6)
