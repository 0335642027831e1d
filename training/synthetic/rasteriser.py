"""Find which triangle every pixel shows."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

NOTHING = -1


class Raster(NamedTuple):
    """What every sample of a picture shows.

    Attributes:
        triangle: Int32 array (n, n): index of the triangle, or `NOTHING`.
        weights: Float32 array (n, n, 2): barycentric weights of the triangle's second and third vertex.
        depth_cm: Float32 array (n, n): camera z of the surface, larger is nearer; -inf where there is nothing.
    """

    triangle: np.ndarray
    weights: np.ndarray
    depth_cm: np.ndarray


def rasterise(
    screen: np.ndarray,
    depth_cm: np.ndarray,
    triangles: np.ndarray,
    is_two_sided: np.ndarray,
    coverage: np.ndarray,
    num_samples: int,
) -> Raster:
    """Project a mesh to a square grid of samples; the nearest surface counts.

    Args:
        screen: Float32 positions (N, 2) in samples, x to the right, y down.
        depth_cm: Float32 depth (N,), larger is nearer.
        triangles: Int32 vertex indices (M, 3), counter-clockwise seen from the front.
        is_two_sided: Bool (M,): triangles whose back shows too.
        coverage: Float32 (N,): a surface is cut off where its interpolation is negative.
        num_samples: Side of the grid.

    Returns:
        What every sample shows.
    """
    raster = Raster(
        np.full((num_samples, num_samples), NOTHING, np.int32),
        np.zeros((num_samples, num_samples, 2), np.float32),
        np.full((num_samples, num_samples), -np.inf, np.float32),
    )
    _fill(screen, depth_cm, triangles, is_two_sided, coverage, raster)
    return raster


@njit(cache=True)
def _fill(screen, depth_cm, triangles, is_two_sided, coverage, raster):
    shown, weights, depths = raster
    num_samples = shown.shape[0]
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        abx, aby = screen[b, 0] - ax, screen[b, 1] - ay
        acx, acy = screen[c, 0] - ax, screen[c, 1] - ay
        area = abx * acy - acx * aby
        # y points down, so a front face has a negative area
        if area == 0 or (area > 0 and not is_two_sided[index]):
            continue
        first_row = max(0, math.ceil(ay + min(np.float32(0), aby, acy) - 0.5))
        last_row = min(num_samples - 1, math.floor(ay + max(np.float32(0), aby, acy) - 0.5))
        first_column = max(0, math.ceil(ax + min(np.float32(0), abx, acx) - 0.5))
        last_column = min(num_samples - 1, math.floor(ax + max(np.float32(0), abx, acx) - 0.5))
        b_step_x, b_step_y, c_step_x, c_step_y = acy / area, -acx / area, -aby / area, abx / area
        a_depth, b_depth, c_depth = depth_cm[a], depth_cm[b], depth_cm[c]
        is_cut = coverage[a] < 0 or coverage[b] < 0 or coverage[c] < 0
        for row in range(first_row, last_row + 1):
            y = row + np.float32(0.5) - ay
            for column in range(first_column, last_column + 1):
                x = column + np.float32(0.5) - ax
                b_share = x * b_step_x + y * b_step_y
                c_share = x * c_step_x + y * c_step_y
                a_share = 1 - b_share - c_share
                # a little slack keeps neighbours from leaving a gap
                if b_share < -1e-5 or c_share < -1e-5 or a_share < -1e-5:
                    continue
                depth = a_share * a_depth + b_share * b_depth + c_share * c_depth
                if depth <= depths[row, column]:
                    continue
                if is_cut and a_share * coverage[a] + b_share * coverage[b] + c_share * coverage[c] < 0:
                    continue
                shown[row, column] = index
                weights[row, column, 0] = b_share
                weights[row, column, 1] = c_share
                depths[row, column] = depth


@njit(cache=True)
def smooth_normals(vertices, triangles):
    """Average the normals of the triangles around each vertex, weighted by their areas.

    Args:
        vertices: Float32 positions (N, 3).
        triangles: Int32 vertex indices (M, 3).

    Returns:
        Float32 vectors (N, 3), not normalised.
    """
    normals = np.zeros_like(vertices)
    for index in range(triangles.shape[0]):
        a, b, c = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += x
            normals[corner, 1] += y
            normals[corner, 2] += z
    return normals
