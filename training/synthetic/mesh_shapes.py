"""Simple meshes, smooth steps and bumps of which the head is composed.

A mesh is a pair of vertices (N, 3) and counter-clockwise triangles (M, 3), seen from outside.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Material(IntEnum):
    """What a triangle is made of."""

    SKIN = 0
    HAIR = 1
    EAR = 2
    NECK = 3
    CLOTH = 4
    FRAME = 5
    EYEBALL = 6
    SOCKET = 7
    TOOTH = 8
    TONGUE = 9
    MOUTH_CAVITY = 10


@dataclass(frozen=True)
class MeshPart:
    """A piece of the figure at rest.

    Attributes:
        material: What it is made of.
        vertices_cm: Positions (N, 3) in the head frame.
        triangles: Vertex indices (M, 3).
        uv: Texture coordinates (N, 2), whose meaning depends on the material; None for zeros.
        head_share: How far each vertex follows the head (1) and not the body (0), (N,) or one number.
        ambient: Share of the surrounding light that reaches each vertex, (N,) or one number.
        coverage: Distance (N,) inside the outline where the part is cut off per pixel; None leaves it whole.
        is_two_sided: Whether the inner side shows too.
    """

    material: Material
    vertices_cm: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray | None = None
    head_share: np.ndarray | float = 1.0
    ambient: np.ndarray | float = 1.0
    coverage: np.ndarray | None = None
    is_two_sided: bool = False


def smooth_step(start: float, end: float, values: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 to 1.

    Args:
        start: Where it is 0; may be larger than `end`.
        end: Where it is 1.
        values: Any array.

    Returns:
        Array like `values`, in [0, 1].
    """
    share = np.clip((values - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


def bump(values: np.ndarray) -> np.ndarray:
    """Fall from 1 at 0 like a Gaussian of standard deviation 0.7.

    Args:
        values: Any array.

    Returns:
        exp(-values²).
    """
    return np.exp(-values * values)


def grid_triangles(num_rows: int, num_columns: int, wraps: bool = False) -> np.ndarray:
    """Connect a grid of vertices whose rows run downwards and columns to the right, seen from outside.

    Args:
        num_rows: Number of rows.
        num_columns: Number of columns.
        wraps: Whether the last column is joined to the first.

    Returns:
        Int32 triangles (M, 3), two per cell, cell after cell in reading order.
    """
    rows = np.arange(num_rows - 1)[:, None]
    columns = np.arange(num_columns if wraps else num_columns - 1)[None]
    upper_left = rows * num_columns + columns
    upper_right = rows * num_columns + (columns + 1) % num_columns
    lower_left, lower_right = upper_left + num_columns, upper_right + num_columns
    halves = np.stack([upper_left, lower_left, upper_right, upper_right, lower_left, lower_right], axis=-1)
    return halves.reshape(-1, 3).astype(np.int32)


def ellipsoid(
    centre_cm: tuple[float, float, float], radii_cm: tuple[float, float, float], num_rows: int, num_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make a closed ellipsoid with poles at top and bottom.

    Args:
        centre_cm: Centre.
        radii_cm: Half axes.
        num_rows: Rings, poles included.
        num_columns: Vertices per ring.

    Returns:
        Vertices and triangles.
    """
    polar = np.linspace(0, np.pi, num_rows)[:, None]
    azimuth = np.linspace(-np.pi, np.pi, num_columns, endpoint=False)[None]
    unit = np.stack(
        [np.sin(polar) * np.sin(azimuth), np.cos(polar) + 0 * azimuth, np.sin(polar) * np.cos(azimuth)], axis=-1
    )
    vertices = (np.array(centre_cm) + np.array(radii_cm) * unit).reshape(-1, 3)
    return vertices, grid_triangles(num_rows, num_columns, wraps=True)


def tube(path_cm: np.ndarray, radius_cm: float, closed: bool, num_sides: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Wrap a round tube around a path.

    Args:
        path_cm: Positions (N, 3) along it.
        radius_cm: Its radius.
        closed: Whether the end is joined to the beginning.
        num_sides: Vertices around it.

    Returns:
        Vertices (N * num_sides, 3) and triangles.
    """
    if closed:
        tangent = np.roll(path_cm, -1, axis=0) - np.roll(path_cm, 1, axis=0)
    else:
        tangent = np.gradient(path_cm, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # any direction serves that no part of a pair of glasses runs along
    side = np.cross(tangent, np.array([0.13, 0.21, 0.97]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other_side = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, num_sides, endpoint=False)[None, :, None]
    ring = np.cos(angle) * side[:, None] + np.sin(angle) * other_side[:, None]
    vertices = (path_cm[:, None] + radius_cm * ring).reshape(-1, 3)
    num_rows = len(path_cm) + closed
    triangles = grid_triangles(num_rows, num_sides, wraps=True) % len(vertices)
    return vertices, triangles.astype(np.int32)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Average the normals of the triangles around each vertex, weighted by their areas.

    Args:
        vertices: Positions (N, 3).
        triangles: Vertex indices (M, 3).

    Returns:
        Unit vectors (N, 3); 0 where a vertex belongs to no triangle.
    """
    first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
    face_normals = np.cross(second - first, third - first)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face_normals)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)
