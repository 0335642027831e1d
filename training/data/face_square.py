"""Where a square around the face is cut out of a picture: most of what has to be learned lies in it."""

import numpy as np

# most crops lie around the face's middle, off by up to this share of the picture; the others anywhere
CROP_WANDER = 0.06
ELSEWHERE_SHARE = 0.3


def draw_corner(
    places: dict[str, np.ndarray], size_px: int, crop_px: int, cells: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw where a square is cut out, mostly around the face, sometimes anywhere.

    Args:
        places: mouth_px (20, 2) and eyes_px (2, 4) of a frame [px].
        size_px: Side of the picture.
        crop_px: Side of the square.
        cells: How many cells of motion the picture's side has.
        rng: Draws.

    Returns:
        Its left and its top side, in cells.
    """
    stride, eyes = size_px // cells, places["eyes_px"]
    eyes_middle = np.array([eyes[:, :2].mean(), eyes[:, 2:].mean()])
    middle = (eyes_middle + places["mouth_px"].mean(axis=0)) / 2
    corner_px = middle + rng.uniform(-1, 1, 2) * CROP_WANDER * size_px - crop_px / 2
    if rng.random() < ELSEWHERE_SHARE:
        corner_px = rng.uniform(0, size_px - crop_px, 2)
    left, top = (int(np.clip(round(value / stride), 0, cells - crop_px // stride)) for value in corner_px)
    return left, top
