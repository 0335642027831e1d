"""Encoder and decoder of images: features of a portrait, and frames drawn from them (paper section 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ..geometry.flow import warp_frames
from .blocks_2d import (
    ConvNormRelu,
    ImageFunction,
    ImageResidualBlock,
    UpBlock,
    convolution_by_rows,
    uses_running_statistics,
)


class EncodedImage(NamedTuple):
    """An image and what the encoder sees in it; one serves all frames.

    Attributes:
        image: Images (B, 3, H, W) in [0, 1].
        skips: Features from full resolution to the deepest.
    """

    image: torch.Tensor
    skips: tuple[torch.Tensor, ...]

    @property
    def features(self) -> torch.Tensor:
        """The deepest features (B, C, h, w), the reference features of the denoiser."""
        return self.skips[-1]


class DecoderBlocks(NamedTuple):
    """The decoder's blocks as functions, plain or folded."""

    bottleneck: Sequence[ImageFunction]
    up_blocks: Sequence[ImageFunction]
    final: ImageFunction


class ImageEncoder(nn.Module):
    """Turn an image into features at every resolution down to the latent one.

    Args:
        channels: Widths from full resolution to the deepest.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.first = ConvNormRelu(3, channels[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(ConvNormRelu(i, o) for i, o in zip(channels[:-1], channels[1:], strict=True))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode images.

        Args:
            image: Images (B, 3, H, W) in [0, 1].

        Returns:
            Features from full resolution to the deepest.
        """
        skips = [self.first(image)]
        for block in self.down_blocks:
            skips.append(functional.avg_pool2d(block(skips[-1]), 2))
        return tuple(skips)


class ImageDecoder(nn.Module):
    """Draw frames from a warped encoded image; where it is occluded, make it up.

    Args:
        channels: Widths from full resolution to the deepest.
        num_bottleneck_blocks: Number of residual blocks at the deepest resolution.
        image_sampling: How the image itself is warped: "bilinear" or "bicubic".
        image_border: What lies outside of the image, "black" or "repeated", see `warp_frames`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_bottleneck_blocks: int,
        image_sampling: str = "bilinear",
        image_border: str = "black",
    ):
        super().__init__()
        self.image_sampling, self.image_border = image_sampling, image_border
        self.bottleneck = nn.ModuleList(ImageResidualBlock(channels[-1]) for _ in range(num_bottleneck_blocks))
        self.up_blocks = nn.ModuleList(
            UpBlock(channels[level], channels[level - 1]) for level in range(len(channels) - 1, 0, -1)
        )
        self.final = nn.Conv2d(channels[0], 3, kernel_size=7, padding=3)

    def blocks(self) -> DecoderBlocks:
        """Return the blocks as functions: folded where nothing is to be learned, else plain."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        # weights that are offloaded, or stored in fewer bits, are ready for use inside of their layers' forward only
        hooked = any(hasattr(layer, hook) for layer in self.modules() for hook in ("_diffusers_hook", "_hf_hook"))
        if torch.is_grad_enabled() or hooked or not all(map(uses_running_statistics, norms)):
            # as functions: hooks on the decoder would move modules that it is given
            return DecoderBlocks(
                bottleneck=[block.__call__ for block in self.bottleneck],
                up_blocks=[block.__call__ for block in self.up_blocks],
                final=self.final.__call__,
            )
        return DecoderBlocks(
            bottleneck=[block.folded() for block in self.bottleneck],
            up_blocks=[block.folded() for block in self.up_blocks],
            final=convolution_by_rows(self.final),
        )

    def forward(
        self, encoded: EncodedImage, flow: torch.Tensor, occlusion: torch.Tensor, blocks: DecoderBlocks
    ) -> torch.Tensor:
        """Draw frames.

        Args:
            encoded: The encoded images.
            flow: Positions in the images (B, F, h, w, 2) in grid_sample units.
            occlusion: Visibility (B, F, 1, h, w) in [0, 1].
            blocks: Result of `blocks`; a caller with many frames asks once.

        Returns:
            Frames (B, F, 3, H, W) in [0, 1] in the dtype of the encoded image.
        """
        shape = occlusion.shape[:2]
        occlusion = occlusion.flatten(0, 1).float()
        warped = self._warp(encoded.skips[-1], flow)  # (B·F, C, h, w)
        features = warped * _resize_occlusion(occlusion, warped)
        for refine in blocks.bottleneck:
            features = refine(features)
        for double, skip in zip(blocks.up_blocks, encoded.skips[:0:-1], strict=True):
            if skip is not encoded.skips[-1]:
                warped = self._warp(skip, flow)
            features = double(_blend(features, warped, occlusion))
        features = _blend(features, self._warp(encoded.skips[0], flow), occlusion)
        drawn = blocks.final(features).float().sigmoid()
        warped = self._warp(encoded.image, flow, self.image_sampling)
        if self.image_sampling != "bilinear":
            warped = warped.clamp(0, 1)
        frames = _blend(drawn, warped, occlusion)
        return frames.to(encoded.image.dtype).unflatten(0, shape)

    def _warp(self, features: torch.Tensor, flow: torch.Tensor, sampling: str = "bilinear") -> torch.Tensor:
        # (B·F, C, H, W)
        warped = warp_frames(features, flow, sampling, self.image_border)
        return warped.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _resize_occlusion(occlusion: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    size = features.shape[-2:]
    if occlusion.shape[-2:] != size:
        occlusion = functional.interpolate(occlusion, size, mode="bilinear", align_corners=False)
    return occlusion.to(features.dtype)


def _blend(features: torch.Tensor, warped: torch.Tensor, occlusion: torch.Tensor) -> torch.Tensor:
    return torch.lerp(features, warped.to(features.dtype), _resize_occlusion(occlusion, features))
