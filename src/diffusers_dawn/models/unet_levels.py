"""The parts of the motion denoiser around its blocks: levels of resolution, embeddings, heads (paper section 3.3)."""

import math

import torch
from torch import nn
from torch.nn import functional

from .blocks_3d import ResidualBlock
from .condition_attention import ConditionContext
from .hooked_methods import hooked_like_forward
from .video_attention import (
    FrameContext,
    SpatialAttention,
    SpatialLinearAttention,
    TemporalAttention,
    add_attention,
)
from .video_layers import convolve_frames


class FaceLocationEncoder(nn.Module):
    """Two strided convolutions from a mask of the face's box to latent resolution.

    Args:
        channels: Channels out; half as many in between.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels // 2, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)

    def forward(self, face_mask: torch.Tensor) -> torch.Tensor:
        """Map a mask (B, 1, H, W) to features (B, C, H / 4, W / 4)."""
        return functional.relu(self.conv2(functional.relu(self.conv1(face_mask))))


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the diffusion step and a two-layer perceptron.

    Args:
        channels: Sinusoidal features.
        time_dim: Width of the embedding.
    """

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Linear(channels, time_dim)
        self.linear2 = nn.Linear(time_dim, time_dim)

    def forward(self, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Embed steps (B,) as (B, T) in the dtype of the network's inputs."""
        half = self.channels // 2
        exponents = torch.arange(half, device=timestep.device, dtype=torch.float32) / (half - 1)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
        features = torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)
        return self.linear2(functional.gelu(self.linear1(features)))


class UNetLevel(nn.Module):
    """One resolution of the way down or up: two conditioned blocks, attention in space, attention in time, resampling.

    Args:
        channels_in: Channels in.
        channels_out: Channels of both blocks.
        block: Keyword arguments of `ResidualBlock`.
        attention: Keyword arguments of the attentions.
        resample: Layer on 2-D images at the end; None: none.
    """

    def __init__(
        self, channels_in: int, channels_out: int, block: dict, attention: dict, resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels_in, channels_out, **block)
        self.block2 = ResidualBlock(channels_out, channels_out, **block)
        self.spatial_attention = SpatialLinearAttention(channels_out, **attention)
        self.temporal_attention = TemporalAttention(channels_out, **attention)
        self.resample = resample

    @hooked_like_forward
    def project_conditions(self, conditions: dict[str, torch.Tensor]) -> list[ConditionContext]:
        """Project conditions (B, F, D) by name, for each of the blocks."""
        return [block.conditions.project(conditions) for block in (self.block1, self.block2)]

    @hooked_like_forward
    def resampled(self, x: torch.Tensor) -> torch.Tensor:
        """Resample (B, F, H, W, C_out), as at the end of `forward`."""
        return convolve_frames(self.resample, x)

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, conditions: list[ConditionContext], frames: FrameContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, F, H, W, C_in) to the resampled result and the result before."""
        x = self.block1(x, time, conditions[0])
        x = self.block2(x, time, conditions[1])
        x = add_attention(x, self.spatial_attention)
        x = add_attention(x, self.temporal_attention, frames)
        return (x if self.resample is None else convolve_frames(self.resample, x)), x


class UNetMiddle(nn.Module):
    """The lowest resolution: block, full attention in space, attention in time, block.

    Args:
        channels: Channels.
        block: Keyword arguments of `ResidualBlock`.
        attention: Keyword arguments of the attentions.
    """

    def __init__(self, channels: int, block: dict, attention: dict) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, **block)
        self.spatial_attention = SpatialAttention(channels, **attention)
        self.temporal_attention = TemporalAttention(channels, **attention)
        self.block2 = ResidualBlock(channels, channels, **block)

    @hooked_like_forward
    def project_conditions(self, conditions: dict[str, torch.Tensor]) -> list[ConditionContext]:
        """Project conditions (B, F, D) by name, for each of the blocks."""
        return [block.conditions.project(conditions) for block in (self.block1, self.block2)]

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, conditions: list[ConditionContext], frames: FrameContext
    ) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        x = self.block1(x, time, conditions[0])
        x = add_attention(x, self.spatial_attention)
        x = add_attention(x, self.temporal_attention, frames)
        return self.block2(x, time, conditions[1])


class OutputHead(nn.Module):
    """An unconditioned block and a linear map to one part of the prediction.

    Args:
        channels_in: Channels in.
        channels: Channels of the block.
        channels_out: Channels of the prediction.
        norm_groups: Groups of the norms.
    """

    def __init__(self, channels_in: int, channels: int, channels_out: int, norm_groups: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels_in, channels, norm_groups)
        self.linear = nn.Linear(channels, channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, F, H, W, C_in) to (B, F, H, W, C_out)."""
        return self.linear(self.block(x))
