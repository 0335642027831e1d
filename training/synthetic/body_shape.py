"""Ears, neck, shoulders and glasses."""

import numpy as np

from training.synthetic.identity import COLLARS, Identity
from training.synthetic.mesh_shapes import Material, MeshPart, grid_triangles, smooth_step, tube
from training.synthetic.skull_surface import SkullSurface

EAR_CENTRE_Y_CM = 0.7
EAR_CENTRE_Z_CM = -1.9
NECK_Z_CM = -3.2
SHOULDER_TOP_Y_CM = -10.8
EAR_FLARE_RAD = 0.45
# distance from the ear's middle over its outline, height over its plane [cm], light that gets there; beyond the
# outline the profile turns behind the ear into the head
EAR_PROFILE = np.array([
    (0.0, -0.25, 0.45),
    (0.2, -0.25, 0.45),
    (0.38, -0.05, 0.6),
    (0.5, 0.2, 0.9),
    (0.62, 0.12, 0.7),
    (0.75, 0.1, 0.72),
    (0.88, 0.34, 1.0),
    (0.97, 0.3, 1.0),
    (1.0, 0.12, 0.9),
    (0.93, -0.2, 0.7),
    (0.7, -0.9, 0.5),
])


def ear(identity: Identity, side: float) -> MeshPart:
    """Make an ear with rim, hollow and lobe.

    Args:
        identity: Whose ear.
        side: 1 for the subject's left ear, -1 for the right one.

    Returns:
        The part.
    """
    size = identity.skull.ear_size
    around = np.linspace(-np.pi, np.pi, 24, endpoint=False)[None]
    reach, height_cm, light = (column[:, None] for column in EAR_PROFILE.T)
    # an egg, wide on top, with a lobe below
    egg = 1 + 0.22 * np.sin(around)
    back_cm = size * reach * 1.35 * np.cos(around) * egg
    up_cm = size * reach * (2.25 * np.sin(around) - 0.1)
    tilt_cm = 0.22 * up_cm
    outwards_cm = height_cm + np.sin(EAR_FLARE_RAD) * back_cm
    x_cm = identity.skull.half_width_cm * 0.985 + 0.35 + outwards_cm
    y_cm = EAR_CENTRE_Y_CM + up_cm
    z_cm = EAR_CENTRE_Z_CM - np.cos(EAR_FLARE_RAD) * back_cm - tilt_cm * 0.6 + 0.35 * height_cm
    vertices = np.stack([side * x_cm, y_cm, z_cm], axis=-1).reshape(-1, 3)
    triangles = grid_triangles(len(EAR_PROFILE), around.size, wraps=True)
    ambient = (light + 0 * around).ravel()
    return MeshPart(Material.EAR, vertices, triangles if side > 0 else triangles[:, ::-1].copy(), ambient=ambient)


def neck(identity: Identity) -> MeshPart:
    """Make the neck, which follows the head above and the body below.

    Args:
        identity: Whose neck.

    Returns:
        The part.
    """
    y_cm = np.linspace(-4.0, -17.0, 18)[:, None]
    angle = np.linspace(-np.pi, np.pi, 40, endpoint=False)[None]
    radius_cm = _neck_radius_cm(identity, y_cm)
    vertices = np.stack(
        [radius_cm * np.sin(angle), y_cm + 0 * angle, NECK_Z_CM + 0.95 * radius_cm * np.cos(angle)], axis=-1
    )
    ambient = (0.5 + 0.5 * smooth_step(-8.6, -13.5, y_cm) + 0 * angle).ravel()
    return MeshPart(
        Material.NECK,
        vertices.reshape(-1, 3),
        grid_triangles(18, 40, wraps=True),
        head_share=smooth_step(-13.5, -6.0, vertices[..., 1].ravel()),
        ambient=ambient,
    )


def _neck_radius_cm(identity: Identity, y_cm: np.ndarray) -> np.ndarray:
    return identity.skull.neck_half_width_cm + 0.07 * np.minimum(y_cm + 9.5, 0) ** 2


def torso(identity: Identity) -> MeshPart:
    """Make the clothed shoulders and chest.

    Args:
        identity: Whose body.

    Returns:
        The part.
    """
    down = np.linspace(0, 1, 36)[:, None]
    angle = np.linspace(-np.pi, np.pi, 64, endpoint=False)[None]
    top_y_cm = np.full_like(down[:1], SHOULDER_TOP_Y_CM)
    neck_cm = float(_neck_radius_cm(identity, top_y_cm)[0, 0]) + 0.15
    y_cm = SHOULDER_TOP_Y_CM - 22 * down**1.3
    spread_cm = identity.skull.shoulder_half_width_cm - neck_cm
    width_cm = neck_cm + spread_cm * smooth_step(0, 0.32, down) ** 0.75 + 1.5 * down
    depth_cm = 0.95 * neck_cm + 3.8 * smooth_step(0, 0.5, down)
    x_cm = width_cm * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.9
    vertices = np.stack([x_cm, y_cm + 0 * angle, NECK_Z_CM + depth_cm * np.cos(angle)], axis=-1).reshape(-1, 3)
    return MeshPart(Material.CLOTH, vertices, grid_triangles(36, 64, wraps=True), head_share=0.0)


def collar(identity: Identity) -> list[MeshPart]:
    """Make the part of the clothes that stands around the neck, if there is one.

    Args:
        identity: Whose clothes.

    Returns:
        No part or one.
    """
    name = COLLARS[identity.clothes.collar]
    if name not in ("turtleneck", "crew"):
        return []
    height_cm, thickness_cm = (3.0, 0.5) if name == "turtleneck" else (0.55, 0.3)
    down = np.linspace(0, 1, 8)[:, None]
    angle = np.linspace(-np.pi, np.pi, 40, endpoint=False)[None]
    y_cm = SHOULDER_TOP_Y_CM - 0.9 + height_cm * (1 - down) - 0.5 * (np.cos(angle) + 1) / 2
    radius_cm = _neck_radius_cm(identity, y_cm) + thickness_cm * (0.4 + 0.6 * np.sin(np.pi * (0.15 + 0.85 * down)))
    vertices = np.stack(
        [radius_cm * np.sin(angle), y_cm + 0 * angle, NECK_Z_CM + 0.97 * radius_cm * np.cos(angle)], axis=-1
    ).reshape(-1, 3)
    head_share = smooth_step(-13.5, -6.0, vertices[:, 1])
    return [MeshPart(Material.CLOTH, vertices, grid_triangles(8, 40, wraps=True), head_share=head_share, ambient=0.9)]


def glasses(identity: Identity, surface: SkullSurface) -> list[MeshPart]:
    """Make the frame of the glasses: two rims, a bridge and two temples.

    Args:
        identity: Who wears them.
        surface: The skin that they rest on.

    Returns:
        The parts; none without glasses.
    """
    shape = identity.glasses
    if shape is None:
        return []
    centre_x_cm = max(identity.eyes.centre_x_cm, shape.half_width_cm + 0.75)
    centre_y_cm = identity.eyes.centre_y_cm - 0.15
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    corner = [np.sign(wave) * np.abs(wave) ** shape.roundness for wave in (np.cos(around), np.sin(around))]
    rim_x_cm, rim_y_cm = centre_x_cm + shape.half_width_cm * corner[0], centre_y_cm + shape.half_height_cm * corner[1]
    # in front of the brow and the cheek; the frame bends back towards the temples
    bend = 0.1
    front_z_cm = shape.rim_cm + max(
        surface.front_depth(x_cm, y_cm) + bend * x_cm for x_cm, y_cm in zip(rim_x_cm[::2], rim_y_cm[::2], strict=True)
    )

    def frame(path: list[tuple[float, float, float]] | np.ndarray, closed: bool = False) -> MeshPart:
        vertices, triangles = tube(np.asarray(path, float), shape.rim_cm, closed)
        return MeshPart(Material.FRAME, vertices, triangles, is_two_sided=True)

    inner_x_cm, hinge_x_cm = centre_x_cm - shape.half_width_cm, centre_x_cm + shape.half_width_cm
    bridge = [
        (x_cm, centre_y_cm + 0.25 + rise_cm, front_z_cm - bend * inner_x_cm + 2 * rise_cm)
        for x_cm, rise_cm in ((-inner_x_cm, 0.0), (-inner_x_cm / 2, 0.15), (inner_x_cm / 2, 0.15), (inner_x_cm, 0.0))
    ]
    parts = [frame(bridge)]
    for side in (-1, 1):
        rim = np.stack([side * rim_x_cm, rim_y_cm, front_z_cm - bend * rim_x_cm], axis=-1)
        over_ear_x_cm = identity.skull.half_width_cm + 0.25
        temple = [
            (side * hinge_x_cm, centre_y_cm + 0.2, front_z_cm - bend * hinge_x_cm),
            (side * (hinge_x_cm + 0.3), centre_y_cm + 0.2, front_z_cm - bend * hinge_x_cm - 0.6),
            (side * (over_ear_x_cm - 0.1), centre_y_cm + 0.1, 1.0),
            (side * over_ear_x_cm, centre_y_cm, -2.2),
        ]
        parts += [frame(rim, closed=True), frame(temple)]
    return parts
