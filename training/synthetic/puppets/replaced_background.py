"""Replace the backgrounds of filmed people, so that networks do not learn that people stand before one colour."""

import zlib
from collections.abc import Callable

import cv2
import numpy as np

from training.synthetic.backdrop import paint_backdrop
from training.synthetic.colour_tables import DISPLAY_GAMMA
from training.synthetic.identity import draw_identity

# the mask's edge takes a rim of the old background along; it is moved inwards
RIM = (0.35, 0.85)


def replace_background(frames: np.ndarray, segment: Callable[[np.ndarray], np.ndarray], name: str) -> np.ndarray:
    """Put one drawn background behind the person of a clip.

    Args:
        frames: uint8 array (F, S, S, 3), RGB.
        segment: Says how much of every pixel of a frame belongs to a person, float32 (S, S) in [0, 1].
        name: The clip's name: equal names get equal backgrounds.

    Returns:
        uint8 array like `frames`.
    """
    identity = draw_identity(zlib.crc32(name.encode()))
    linear = paint_backdrop(identity.background, identity.light, frames.shape[1])
    behind = 255 * linear ** (1 / DISPLAY_GAMMA)
    low, high = RIM
    replaced = []
    for frame in frames:
        share = cv2.GaussianBlur(np.clip((segment(frame) - low) / (high - low), 0, 1), (0, 0), 0.8)[..., None]
        replaced.append((frame * share + behind * (1 - share) + 0.5).astype(np.uint8))
    return np.stack(replaced)
