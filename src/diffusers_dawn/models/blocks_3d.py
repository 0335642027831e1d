"""The block of the motion denoiser, on clips (B, F, H, W, C); see `video_layers` for what it overwrites."""

import torch
from torch import nn
from torch.nn import functional

from .condition_attention import ConditionContext, ConditionMixer
from .video_layers import VideoGroupNorm, add_in_chunks, convolve_frames, convolve_over_input


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
        signed_conditions: Names of those that are embedded together with their negatives.
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
        signed_conditions: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm1 = VideoGroupNorm(norm_groups, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm2 = VideoGroupNorm(norm_groups, channels_out)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Linear(channels_in, channels_out)
        self.time_projection = None if time_dim is None else nn.Linear(time_dim, 2 * channels_out)
        self.conditions = None
        if condition_dims is not None:
            self.conditions = ConditionMixer(
                condition_dims, channels_in, channels_out, condition_heads, condition_head_dim, signed_conditions
            )

    def forward(
        self, x: torch.Tensor, time: torch.Tensor | None = None, context: ConditionContext | None = None
    ) -> torch.Tensor:
        """Map (B, F, H, W, C_in) to (B, F, H, W, C_out), given time (B, T) and projected conditions."""
        scale_shift = None if time is None else self.time_projection(functional.silu(time))
        hidden = self.norm1(convolve_frames(self.conv1, x), scale_shift)
        if context is not None:
            hidden = self.conditions(hidden, x, context)
        hidden = self.norm2(convolve_over_input(self.conv2, hidden))
        frames, pixels = x.flatten(0, 1), x.shape[2] * x.shape[3]
        summed = add_in_chunks(hidden.flatten(0, 1), lambda _, part: self.shortcut(frames[part]), 0, pixels)
        return summed.view(hidden.shape)
