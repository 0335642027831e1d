"""Layers on clips (B, F, H, W, C): frames fold into the batch of 2-D layers, norms, residuals in chunks.

While no gradient is recorded, residuals and norms work in place and in chunks that stay in the processor's cache; the
layers own the tensors they get and may overwrite them. Compiled code does neither: the compiler joins what is next to
each other, and a loop over chunks would be another graph for every number of frames.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional

NORM_EPS = 1e-5
# Layers are asked for their matrices by so many units of each input: in half precision the sum with the bias takes
# few digits from the matrix, and gradients, which pass through the inverse, keep their range
PROBE_SCALE = 32.0
# small enough for the cache of one core on a CPU; on other devices large chunks keep the device busy
CHUNK_TOKENS_CPU = 4_096
CHUNK_TOKENS_DEVICE = 1_048_576
# Pixels that attention in time takes at once, however long the clip: neighbours in memory, of which fewer would leave
# most of what each frame's access fetches unused
LEAST_PIXELS = 16


def works_in_place() -> bool:
    """Tell whether layers overwrite their inputs, chunk by chunk: not while gradients are recorded, nor compiled."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Choose float32, or a wider type, for what half precision is too coarse for."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Switch autocast off; the device "meta" has no autocast, so nothing is needed there."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def convolve_frames(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Apply a 2-D layer to every frame: (B, F, H, W, C) to (B, F, H', W', C')."""
    frames = x.flatten(0, 1).permute(0, 3, 1, 2)  # channels-last (B F, C, H, W) without a copy
    return layer(frames).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def convolve_over_input(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Apply a 2-D layer that keeps a frame's shape to every frame (B, F, H, W, C).

    Where layers work in place, the result overwrites x chunk by chunk: fewer pages of memory are new.
    """
    if not works_in_place():
        return convolve_frames(layer, x)
    frames = x.flatten(0, 1)
    for chunk in chunks(frames, 0, frames.shape[1] * frames.shape[2]):
        part = frames[chunk]
        part.copy_(layer(part.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    return frames.view(x.shape)


class PartialConv2d(nn.Conv2d):
    """A convolution that can be applied to some of its channels in, with or without its bias; padded by zeros."""

    def forward(self, x: torch.Tensor, channels: slice = slice(None), with_bias: bool = True) -> torch.Tensor:
        """Map those channels (N, C, H, W) to their share of the result (N, C_out, H', W')."""
        bias = self.bias if with_bias else None
        return functional.conv2d(x, self.weight[:, channels], bias, self.stride, self.padding)


def matrix_of(layer: nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Get a linear layer's matrix and bias by calling it, so that offloading, adapters and casts take part.

    Args:
        layer: `nn.Linear`, or what stands in its place.
        like: Tensor of the dtype and on the device of its inputs.

    Returns:
        Matrix (in, out), and bias (out,), zero where there is none.
    """
    size = layer.in_features
    probe = torch.cat((like.new_zeros(1, size), PROBE_SCALE * torch.eye(size, dtype=like.dtype, device=like.device)))
    bias, *_ = answer = layer(probe)
    return (answer[1:] - bias) / PROBE_SCALE, bias


def chunks(x: torch.Tensor, dim: int, tokens_per_index: int, least: int = 1) -> list[slice]:
    """Cut an axis into slices of a size that stays in the cache; one slice where layers do not work in place.

    Args:
        x: Any tensor.
        dim: Axis that is cut.
        tokens_per_index: Rows of channels in one index along dim.
        least: Indices of a slice at least, but for the last.

    Returns:
        Slices that cover the axis in order.
    """
    if not works_in_place():
        return [slice(0, x.shape[dim])]
    chunk_tokens = CHUNK_TOKENS_CPU if x.device.type == "cpu" else CHUNK_TOKENS_DEVICE
    step = max(least, chunk_tokens // tokens_per_index)
    return [slice(start, min(start + step, x.shape[dim])) for start in range(0, x.shape[dim], step)]


def add_in_chunks(
    x: torch.Tensor, function: Callable, dim: int, tokens_per_index: int, least: int = 1
) -> torch.Tensor:
    """Compute x + function(x), where function treats indices along dim independently.

    Args:
        x: Any tensor; overwritten with the result where layers work in place.
        function: Takes a part of x and the slice it is, returns a tensor of the part's shape.
        dim: Axis that is split.
        tokens_per_index: Rows of channels in one index along dim, to choose the chunk's size.
        least: Indices of a chunk at least.

    Returns:
        The sum, x itself where layers work in place.
    """
    if not works_in_place():
        return x + function(x, slice(None))
    for chunk in chunks(x, dim, tokens_per_index, least):
        part = x.narrow(dim, chunk.start, chunk.stop - chunk.start)
        part += function(part, chunk)
    return x


class ChannelNorm(nn.Module):
    """Normalise the last axis, with a gain and no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor | None) -> torch.Tensor:
        """Normalise (..., C); of None, return the gain (C,)."""
        if x is None:
            return self.weight.clone()  # offloading empties the weight itself when the call is over
        return functional.layer_norm(x, self.weight.shape, self.weight, None, NORM_EPS)


class VideoGroupNorm(nn.Module):
    """Group normalisation over all frames of a clip, an optional modulation, then SiLU.

    Where layers work in place, the result overwrites the input.

    Args:
        num_groups: Groups of channels.
        channels: Number of channels C.
    """

    def __init__(self, num_groups: int, channels: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor, scale_shift: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise (B, F, H, W, C), multiply by 1 + scale and add shift (B, 2 C, scale first), apply SiLU."""
        batch, num_frames, *_, channels = x.shape
        frames = x.flatten(0, 1).flatten(1, 2)  # (B F, P, C)
        count = num_frames * frames.shape[1] * channels // self.num_groups
        # per frame in float32, across frames in float64: one pass over the data without loss of precision
        sums = [self._sums(frames[chunk]) for chunk in chunks(frames, 0, frames.shape[1])]
        widest = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
        sums = torch.cat(sums).to(widest).view(batch, num_frames, 2, self.num_groups, -1)
        total, squares = sums.sum((1, -1)).unbind(1)
        mean = total[..., None] / count
        # never negative, which rounding makes it where all values are nearly the same
        variance = (squares[..., None] / count - mean.square()).clamp(min=0)
        gain = self.weight.view(self.num_groups, -1) * (variance + NORM_EPS).rsqrt()
        offset = (self.bias.view(self.num_groups, -1) - mean * gain).flatten(1)
        gain = gain.flatten(1)
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, dim=-1)
            gain, offset = gain * (1 + scale), offset * (1 + scale) + shift
        gain, offset = (value.to(x.dtype).view(batch, 1, 1, channels) for value in (gain, offset))
        if not works_in_place():
            return functional.silu(torch.addcmul(offset, x.flatten(2, 3), gain)).view(x.shape)
        clip = x.flatten(2, 3)
        for chunk in chunks(clip, 1, batch * clip.shape[2]):
            part = clip[:, chunk]
            functional.silu(torch.addcmul(offset, part, gain, out=part), inplace=True)
        return clip.view(x.shape)

    @staticmethod
    def _sums(frames: torch.Tensor) -> torch.Tensor:
        """Sum values and squares of each frame and channel: (N, P, C) to (N, 2, C)."""
        frames = frames.to(at_least_float32(frames.dtype))
        return torch.stack((frames.sum(1), frames.square().sum(1)), dim=1)
