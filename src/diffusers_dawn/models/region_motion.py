"""Motion between two images: regions, background and dense flow (the estimators of the latent flow generator)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ..geometry.flow import (
    affine_from_covariance,
    antialiased_downsample,
    coordinate_grid,
    gaussian_heatmap,
    motion_between,
    region_moments,
    transform_points,
    warp_frames,
)
from .blocks_2d import ConvNormRelu, Hourglass


class Regions(NamedTuple):
    """Where the regions of an image lie, in grid units.

    Attributes:
        shift: Centres (B, K, 2).
        covar: Covariances (B, K, 2, 2).
        affine: Maps (B, K, 2, 2) from the unit circle to the region; the signs of the columns mean nothing.
        heatmap: Weights (B, K, h, w), each map sums to 1.
    """

    shift: torch.Tensor
    covar: torch.Tensor
    affine: torch.Tensor
    heatmap: torch.Tensor


class Motion(NamedTuple):
    """Motion from a source to a driving image, with what it was computed from.

    Attributes:
        flow: Positions in the source (B, h, w, 2) in grid_sample units.
        occlusion: 1 where the source shows what the driving image shows, 0 where it has to be made up (B, 1, h, w).
        source_regions: Regions of the source.
        driving_regions: Regions of the driving image.
        background: Affine motion of the background (B, 3, 3), homogeneous.
    """

    flow: torch.Tensor
    occlusion: torch.Tensor
    source_regions: Regions
    driving_regions: Regions
    background: torch.Tensor


class RegionPredictor(nn.Module):
    """Find the regions of an image without supervision.

    Args:
        num_regions: Number K of regions.
        channels: Widths of the hourglass, see `Hourglass`.
        stride: Factor by which the image is shrunk first.
        temperature: Divides the logits of the heatmaps.
    """

    def __init__(self, num_regions: int, channels: Sequence[int], stride: int, temperature: float):
        super().__init__()
        self.stride = stride
        self.temperature = temperature
        self.hourglass = Hourglass(3, channels)
        self.heatmap = nn.Conv2d(self.hourglass.out_channels, num_regions, kernel_size=7, padding=3)

    def forward(self, image: torch.Tensor) -> Regions:
        """Find the regions.

        Args:
            image: Images (B, 3, H, W) in [0, 1].

        Returns:
            The regions; float32.
        """
        logits = self.heatmap(self.hourglass(antialiased_downsample(image, self.stride)))
        weights = (logits.float().flatten(2) / self.temperature).softmax(dim=-1)
        heatmap = weights.view_as(logits)
        shift, covar = region_moments(heatmap)
        return Regions(shift, covar, affine_from_covariance(covar), heatmap)


class PositionLinear(nn.Linear):
    """A linear layer in float32, under autocast too: its outputs are positions."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (B, I) to (B, O), float32."""
        if type(self.weight) not in (torch.Tensor, nn.Parameter):
            # weights of a quantisation, which has no products but those of linear layers, in its own precision
            with torch.autocast(features.device.type, enabled=False):
                return functional.linear(features.to(self.weight.dtype), self.weight, self.bias).float()
        return (self.weight.float() * features[:, None]).sum(dim=-1) + self.bias.float()


class BackgroundPredictor(nn.Module):
    """Estimate the affine motion of the background; it starts as no motion.

    Args:
        channels: Widths of the down blocks.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        inputs = [6, *channels[:-1]]
        self.down_blocks = nn.ModuleList(ConvNormRelu(i, o) for i, o in zip(inputs, channels, strict=True))
        self.affine = PositionLinear(channels[-1], 6)
        # nearly none: float8 divides by the largest weight of a row
        nn.init.constant_(self.affine.weight, 1e-6)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, source: torch.Tensor, driving: torch.Tensor) -> torch.Tensor:
        """Estimate the motion.

        Args:
            source: Images (B, 3, H, W) in [0, 1].
            driving: Images (B, 3, H, W) in [0, 1].

        Returns:
            Homogeneous matrices (B, 3, 3) from driving to source positions, float32.
        """
        features = torch.cat([source, driving], dim=1)
        for block in self.down_blocks:
            features = functional.avg_pool2d(block(features), 2)
        pooled = features.float().mean(dim=(2, 3))
        if not isinstance(self.affine, PositionLinear):  # quanto puts a layer of its own there
            pooled = pooled.to(self.affine.weight.dtype)
        upper = self.affine(pooled).float().unflatten(1, (2, 3))
        last_row = upper.new_tensor([0, 0, 1]).expand(len(upper), 1, 3)
        return torch.cat([upper, last_row], dim=1)


class FlowPredictor(nn.Module):
    """Join the motions of regions and background to one flow, and tell what is occluded.

    Args:
        num_regions: Number K of regions.
        channels: Widths of the hourglass, see `Hourglass`.
        stride: Factor by which the source is shrunk first.
    """

    def __init__(self, num_regions: int, channels: Sequence[int], stride: int):
        super().__init__()
        self.stride = stride
        # per region and for the background: heatmap and warped image
        self.hourglass = Hourglass((num_regions + 1) * 4, channels)
        self.mask = nn.Conv2d(self.hourglass.out_channels, num_regions + 1, kernel_size=7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels, 1, kernel_size=7, padding=3)

    def forward(
        self, source: torch.Tensor, source_regions: Regions, driving_regions: Regions, background: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimate flow and occlusion.

        Args:
            source: Images (B, 3, H, W) in [0, 1].
            source_regions: Regions of the source.
            driving_regions: Regions of the driving image.
            background: Affine motion of the background (B, 3, 3).

        Returns:
            Flow (B, h, w, 2) in grid_sample units, and occlusion (B, 1, h, w) in [0, 1]; float32.
        """
        source = antialiased_downsample(source, self.stride)
        height, width = source.shape[-2:]
        motions = candidate_motions(source_regions, driving_regions, background, height, width)  # (B, K + 1, h, w, 2)
        warped = warp_frames(source, motions)  # (B, K + 1, 3, h, w)
        moved = gaussian_heatmap(driving_regions.shift, driving_regions.covar, height, width) - gaussian_heatmap(
            source_regions.shift, source_regions.covar, height, width
        )
        heatmap = functional.pad(moved, (0, 0, 0, 0, 1, 0))  # the background's is 0
        hints = torch.cat([heatmap[:, :, None].to(warped.dtype), warped], dim=2).flatten(1, 2)
        features = self.hourglass(hints)
        mask = self.mask(features).float().softmax(dim=1)
        flow = (mask[..., None] * motions).sum(dim=1)
        return flow, self.occlusion(features).float().sigmoid()


def candidate_motions(
    source_regions: Regions, driving_regions: Regions, background: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Say for every cell where it would come from if it moved with the background or with one of the regions.

    Args:
        source_regions: Regions of the source.
        driving_regions: Regions of the driving image.
        background: Affine motion of the background (B, 3, 3), last row 0 0 1.
        height: Number of rows.
        width: Number of columns.

    Returns:
        Positions (B, K + 1, height, width, 2) in the source, the background's first.
    """
    grid = coordinate_grid(height, width, background.device)
    offset = grid - driving_regions.shift[:, :, None, None]  # (B, K, h, w, 2)
    matrix = motion_between(source_regions.affine, driving_regions.affine)[:, :, None, None]
    with_regions = transform_points(matrix, offset) + source_regions.shift[:, :, None, None]
    background = background[:, None, None, None]
    with_background = transform_points(background[..., :2, :2], grid) + background[..., :2, 2]  # (B, 1, h, w, 2)
    return torch.cat([with_background, with_regions], dim=1)
