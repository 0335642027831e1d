"""Discriminator of faces' details: looks at what is painted of mouths and eyes, so that it is crisp.

An error of pixels alone is smallest for the mean of all that could be there: between teeth and a dark mouth that is a
pale band.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional

LEAK = 0.2
# squares that are judged, about as fine as a face that fills half of 256 px
SQUARE_PX = 64
# their sides over the widths of mouth and eyes
MOUTH_SIDE, EYE_SIDE = 1.5, 2.0
# a piece is judged from so much on that the source does not show
MIN_HIDDEN = 0.15


class PictureVerdict(NamedTuple):
    """Verdict on squares.

    Attributes:
        logits: Tensor (N, P), one per piece of a square: the higher, the more real it looks.
        mask: Bool tensor (N, P): True where much of the piece is painted, because the source does not show it.
    """

    logits: torch.Tensor
    mask: torch.Tensor


class PictureDiscriminator(ModelMixin, ConfigMixin):
    """PatchGAN on squares around mouth and eyes (arXiv 1611.07004).

    It has no norms: how bright a mouth is inside is what it shall tell. It knows what the source shows, and judges the
    rest alone: what is warped is real anyway.

    Args:
        base_channels: Channels after the first convolution; each further halving of the picture doubles them.
        num_downsamplings: How many times the picture is halved.
    """

    @register_to_config
    def __init__(self, base_channels: int = 32, num_downsamplings: int = 3) -> None:
        super().__init__()
        widths = [4, *(base_channels * 2**level for level in range(num_downsamplings))]
        self.down = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.verdict = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)
        for convolution in self.down:
            nn.init.kaiming_normal_(convolution.weight, LEAK)

    def forward(self, squares: torch.Tensor) -> PictureVerdict:
        """Judge squares.

        Args:
            squares: Pictures and how much of them the source shows (N, 4, S, S) in [0, 1], see `squares_of_details`.

        Returns:
            The verdict.
        """
        x = 2 * squares - 1
        for convolution in self.down:
            x = functional.leaky_relu(convolution(x), LEAK)
        shown = functional.adaptive_avg_pool2d(squares[:, 3:], x.shape[-2:])
        return PictureVerdict(self.verdict(x).flatten(1), (shown < 1 - MIN_HIDDEN).flatten(1))


def squares_of_details(pictures: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cut squares around the mouth and both eyes out of pictures, all of one size.

    Args:
        pictures: Pictures (B, 3, H, W).
        batch: "mouth_px" (B, 20, 2) and "eyes_px" (B, 2, 4), x_min, x_max, y_min, y_max [px]; and "occlusion"
            (B, 1, h, w), how much of them the source shows.

    Returns:
        Squares (N, 4, `SQUARE_PX`, `SQUARE_PX`), up to 3 for each picture: those whose middle lies in the picture. The
        last channel is what the source shows.
    """
    shown = functional.interpolate(batch["occlusion"], pictures.shape[-2:], mode="bilinear", align_corners=False)
    pictures = torch.cat((pictures, shown.to(pictures.dtype)), dim=1)
    mouth, eyes = batch["mouth_px"].float(), batch["eyes_px"].float()
    low, high = mouth.amin(dim=1), mouth.amax(dim=1)
    middles = torch.stack(((low + high) / 2, *eyes.unflatten(-1, (2, 2)).mean(dim=-1).unbind(1)), dim=1)  # (B, 3, 2)
    mouth_width, eye_widths = high[:, 0] - low[:, 0], eyes[..., 1] - eyes[..., 0]
    sides = torch.cat((MOUTH_SIDE * mouth_width[:, None], EYE_SIDE * eye_widths), dim=1)  # (B, 3)
    height, width = pictures.shape[-2:]
    size = middles.new_tensor([width, height])
    inside = ((middles >= 0) & (middles < size)).all(dim=-1)
    grid = (torch.arange(SQUARE_PX, device=pictures.device) + 0.5) / SQUARE_PX - 0.5
    steps = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), dim=-1)  # (S, S, 2), x then y
    points = middles[:, :, None, None] + sides[:, :, None, None, None] * steps  # (B, 3, S, S, 2) [px]
    sample, _ = inside.nonzero(as_tuple=True)
    return functional.grid_sample(
        pictures[sample],
        (2 * points[inside] / size - 1).to(pictures.dtype),
        padding_mode="border",
        align_corners=False,
    )
