"""Exact optical flow between two pictures of one figure."""

import math

import numpy as np
from numba import njit

from training.synthetic.rasteriser import Raster

# a point is seen if the other picture shows the same material there, at the same depth up to this
SAME_SURFACE_CM = 0.35


def backward_flow(
    first: Raster,
    first_screen: np.ndarray,
    first_depth_cm: np.ndarray,
    second: Raster,
    triangles: np.ndarray,
    material: np.ndarray,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow samples of a picture back to an earlier one; what is behind the figure does not move.

    Args:
        first: What the earlier picture shows.
        first_screen: Float32 projections of its vertices (N, 2) [samples].
        first_depth_cm: Their depth (N,).
        second: What the picture shows.
        triangles: Vertex indices (M, 3), the same in both.
        material: Material of each triangle (M,).
        step: Every step-th sample is followed, from the middle of a block of step x step on.

    Returns:
        Flow, float32 (n / step, n / step, 2) [samples]; visible, bool (n / step, n / step).
    """
    num_cells = second.triangle.shape[0] // step
    flow = np.zeros((num_cells, num_cells, 2), np.float32)
    visible = np.zeros((num_cells, num_cells), np.bool_)
    _follow(first, first_screen, first_depth_cm, second, triangles, material, step, flow, visible)
    return flow, visible


@njit(cache=True)
def _follow(first, first_screen, first_depth_cm, second, triangles, material, step, flow, visible):
    for cell_row in range(flow.shape[0]):
        for cell_column in range(flow.shape[1]):
            row, column = cell_row * step + step // 2, cell_column * step + step // 2
            index = second.triangle[row, column]
            if index < 0:
                visible[cell_row, cell_column] = first.triangle[row, column] < 0
                continue
            a, b, c = triangles[index]
            b_share, c_share = second.weights[row, column]
            a_share = 1 - b_share - c_share
            x = a_share * first_screen[a, 0] + b_share * first_screen[b, 0] + c_share * first_screen[c, 0]
            y = a_share * first_screen[a, 1] + b_share * first_screen[b, 1] + c_share * first_screen[c, 1]
            depth = a_share * first_depth_cm[a] + b_share * first_depth_cm[b] + c_share * first_depth_cm[c]
            flow[cell_row, cell_column, 0] = x - (column + 0.5)
            flow[cell_row, cell_column, 1] = y - (row + 0.5)
            visible[cell_row, cell_column] = _shows(first, material, material[index], x, y, depth)


@njit(cache=True)
def _shows(raster, material, wanted, x, y, depth):
    """Whether a picture shows a material at a place and depth, or a sample beside it."""
    num_samples = raster.triangle.shape[0]
    row, column = math.floor(y), math.floor(x)
    if not (0 <= row < num_samples and 0 <= column < num_samples):
        return False
    for near_row in range(max(row - 1, 0), min(row + 2, num_samples)):
        for near_column in range(max(column - 1, 0), min(column + 2, num_samples)):
            index = raster.triangle[near_row, near_column]
            is_near = abs(raster.depth_cm[near_row, near_column] - depth) < SAME_SURFACE_CM
            if index >= 0 and is_near and material[index] == wanted:
                return True
    return False
