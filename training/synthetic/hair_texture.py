"""A tile of strands of hair that repeats in both directions."""

import numpy as np

from training.synthetic.mesh_shapes import smooth_step

TILE_SIZE = 256
# strands across and along the tile, and their share of the contrast
STRAIGHT = ((24, 6, 0.45), (64, 10, 0.4), (120, 24, 0.15))
CURLED = ((14, 42, 0.5), (34, 96, 0.35), (70, 128, 0.15))


def paint_strands(seed: int, curls: float) -> np.ndarray:
    """Paint hair, strands running down the tile.

    Args:
        seed: Which strands.
        curls: Above 0.2 the hair is a mass of curls instead.

    Returns:
        Float32 array (256, 256) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    layers = CURLED if curls > 0.2 else STRAIGHT
    return sum(share * _repeating_noise(rng, down, across) for across, down, share in layers).astype(np.float32)


def _repeating_noise(rng: np.random.Generator, num_rows: int, num_columns: int) -> np.ndarray:
    """Interpolate a small grid of random numbers, whose end meets its beginning, to the size of the tile."""
    values = rng.random((num_rows, num_columns))
    for axis, count in ((0, num_rows), (1, num_columns)):
        place = np.arange(TILE_SIZE) * count / TILE_SIZE
        first = place.astype(int)
        share = smooth_step(0, 1, place - first)
        share = share[:, None] if axis == 0 else share
        values = values.take(first, axis) * (1 - share) + values.take((first + 1) % count, axis) * share
    return values
