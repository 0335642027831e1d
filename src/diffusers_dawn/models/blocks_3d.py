"""Blocks of the motion denoiser, on clips (B, F, H, W, C); see `clip_layers` for what they overwrite."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .attention import BandBlock, attend_in_blocks, rotate_pairs
from .clip_layers import ChannelNorm, ClipGroupNorm, add_in_chunks, convolve_frames, matrix_of
from .condition_attention import ConditionContext, ConditionMixer


class FrameContext(NamedTuple):
    """What temporal attention needs to know of a clip's frames, the same for every layer and step.

    Attributes:
        cos: Cosines of the rotary angles (F, 1, head_dim / 2).
        sin: Sines, the same shape.
        blocks: Blocks over the band of the attention window.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    blocks: list[BandBlock]


class ResidualBlock(nn.Module):
    """Two convolutions with group norms; the first may be modulated by time and followed by conditions.

    Args:
        channels_in: Channels in.
        channels_out: Channels out.
        norm_groups: Groups of the norms.
        time_dim: Width of the time embedding; None: no time and no conditions.
        condition_dims: Width of each condition by name.
        condition_heads: Heads of the cross-attentions.
        condition_head_dim: Channels per such head.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        norm_groups: int,
        time_dim: int | None = None,
        condition_dims: dict[str, int] | None = None,
        condition_heads: int = 8,
        condition_head_dim: int = 8,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm1 = ClipGroupNorm(norm_groups, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm2 = ClipGroupNorm(norm_groups, channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Linear(channels_in, channels_out)
        self.time_projection = None if time_dim is None else nn.Linear(time_dim, 2 * channels_out)
        self.conditions = None
        if condition_dims is not None:
            self.conditions = ConditionMixer(
                condition_dims, channels_in, channels_out, condition_heads, condition_head_dim
            )

    def forward(
        self, x: torch.Tensor, time: torch.Tensor | None = None, context: ConditionContext | None = None
    ) -> torch.Tensor:
        """Map (B, F, H, W, C_in) to (B, F, H, W, C_out), given time (B, T) and projected conditions."""
        scale_shift = None if time is None else self.time_projection(F.silu(time))
        hidden = self.norm1(convolve_frames(self.conv1, x), scale_shift)
        if context is not None:
            hidden = self.conditions(hidden, x, context)
        hidden = self.norm2(convolve_frames(self.conv2, hidden))
        frames, pixels = x.flatten(0, 1), x.shape[2] * x.shape[3]
        summed = add_in_chunks(hidden.flatten(0, 1), lambda _, part: self.shortcut(frames[part]), 0, pixels)
        return summed.view(hidden.shape)


class SpatialLinearAttention(nn.Module):
    """Linear attention over the pixels of each frame, as a residual.

    Args:
        channels: Channels.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        frames = x.flatten(0, 1).flatten(1, 2)
        matrix, bias = matrix_of(self.to_out, x)
        attend = partial(self._attend, matrix.unflatten(0, (self.num_heads, self.head_dim)), bias)
        return add_in_chunks(frames, attend, dim=0, tokens_per_index=frames.shape[1]).view(x.shape)

    def _attend(self, matrix: torch.Tensor, bias: torch.Tensor, pixels: torch.Tensor, _: slice) -> torch.Tensor:
        heads = (self.num_heads, self.head_dim)
        query, key, value = self.to_qkv(self.norm(pixels)).chunk(3, dim=-1)  # (N, P, heads * D)
        query = query.unflatten(-1, heads).softmax(-1).flatten(-2)
        key = key.softmax(1).unflatten(-1, heads)
        mixed = torch.einsum("nphd,nphe->nhde", key, value.unflatten(-1, heads)) * self.head_dim**-0.5
        # mix, then project: the product of the two small matrices is taken first
        weight = torch.einsum("nhde,hec->nhdc", mixed, matrix).flatten(1, 2)
        return torch.baddbmm(bias, query, weight)


class SpatialAttention(nn.Module):
    """Full attention over the pixels of each frame, as a residual.

    Args:
        channels: Channels.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape."""
        pixels = x.flatten(0, 1).flatten(1, 2)
        qkv = self.to_qkv(self.norm(pixels)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, P, D)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.to_out(attended).view(x.shape)


class TemporalAttention(nn.Module):
    """Attention of every pixel over the frames inside the window, as a residual.

    Args:
        channels: Channels.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.norm = ChannelNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * num_heads * head_dim, bias=False)
        self.to_out = nn.Linear(num_heads * head_dim, channels, bias=False)

    def forward(self, x: torch.Tensor, frames: FrameContext) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape."""

        def attend(pixels: torch.Tensor, _: slice) -> torch.Tensor:  # (B, F, P, C)
            qkv = self.to_qkv(self.norm(pixels)).unflatten(-1, (3, self.num_heads, self.head_dim))
            rotated = rotate_pairs(qkv[..., :2, :, :].flatten(-3, -2), frames.cos, frames.sin)
            query, key = rotated.unflatten(-2, (2, self.num_heads)).unbind(-3)
            # (B, F, P, heads, D) to (B P, heads, F, D)
            query, key, value = (part.permute(0, 2, 3, 1, 4).flatten(0, 1) for part in (query, key, qkv[..., 2, :, :]))
            attended = attend_in_blocks(query, key, value, frames.blocks, scale=self.head_dim**-0.5)
            attended = attended.unflatten(0, (pixels.shape[0], -1)).permute(0, 3, 1, 2, 4).flatten(3)
            return self.to_out(attended)

        pixels = x.flatten(2, 3)
        tokens = pixels.shape[0] * pixels.shape[1]
        return add_in_chunks(pixels, attend, dim=2, tokens_per_index=tokens).view(x.shape)
