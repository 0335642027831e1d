"""Random change of colours, the same in all frames of a clip."""

import math
from dataclasses import dataclass

import numpy as np
import torch

# Rec. 601 luma
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast, saturation and hue at random (paper, section 4.1: 64/255, 0.25, 0.25, 0.04).

    One draw gives one map of colours, which does not depend on the picture: the same colour becomes the same colour in
    every frame, in a reference image as well. Hence contrast is about mid-grey, not about a frame's own mean, and hue
    turns colours around the grey axis.

    Args:
        brightness: Colours are multiplied by up to 1 ± this.
        contrast: Distances to mid-grey are multiplied by up to 1 ± this.
        saturation: Distances to the grey of the same luma are multiplied by up to 1 ± this.
        hue: Colours are turned by up to ± this share of a full turn.

    Raises:
        ValueError: A strength is outside of [0, 1], for hue [0, 0.5].
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def __post_init__(self) -> None:
        for name, largest in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be within 0 and {largest}")

    def __call__(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Draw once and change all images alike.

        Args:
            images: Float RGB images of one clip (..., 3, H, W) in [0, 1].
            rng: Source of the draw; it always takes four numbers from it.

        Returns:
            Images of the same shape and dtype, cut to [0, 1].

        Raises:
            ValueError: The images are not floats, or not RGB.
        """
        if images.ndim < 3 or images.shape[-3] != 3 or not images.is_floating_point():
            raise ValueError(f"`images` is {images.dtype} {tuple(images.shape)}, must be floats (..., 3, H, W)")
        matrix, offset = self._draw_map(rng)
        matrix, offset = (torch.from_numpy(part).to(images) for part in (matrix, offset))
        with torch.autocast(images.device.type, enabled=False):
            changed = matrix @ images.flatten(-2) + offset[:, None]
        return changed.clamp(0, 1).view_as(images)

    def _draw_map(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # colour (3,) -> matrix @ colour + offset
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        brightness, contrast, saturation, turn = np.array(strengths) * rng.uniform(-1, 1, 4)
        grey = np.broadcast_to(LUMA, (3, 3))
        saturate = (1 + saturation) * np.eye(3) - saturation * grey
        matrix = (1 + contrast) * (1 + brightness) * _hue_rotation(turn) @ saturate
        # mid-grey is changed neither by saturation nor by hue
        return matrix, np.full(3, -contrast / 2)


def _hue_rotation(turn: float) -> np.ndarray:
    # Rodrigues' formula about the axis (1, 1, 1)
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cos * np.eye(3) + sin * across + (1 - cos) / 3
