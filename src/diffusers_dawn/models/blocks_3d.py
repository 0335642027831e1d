"""Blocks of the motion denoiser. Inside them a clip is (B, F, H, W, C): frames fold into the batch of 2-D layers.

While no gradient is recorded, residuals are added in place and in chunks that stay in the processor's cache; the
blocks own the tensors they get and may overwrite them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .attention import BandBlock, attend_in_blocks, rotate_pairs

NORM_EPS = 1e-5
# small enough for the cache of one core on a CPU; on other devices large chunks keep the device busy
CHUNK_TOKENS_CPU = 2_048
CHUNK_TOKENS_DEVICE = 1_048_576


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


class ConditionContext(NamedTuple):
    """Conditions of a clip as one block's cross-attention needs them, the same for every step (N = B * F frames).

    One pair of tokens, condition and null, makes each head's softmax a sigmoid, so a condition's output before its
    norm is a mix of 1 + heads vectors. Column 0 of each group below stands for the constant vector.

    Attributes:
        query_weight: Query projections of all conditions (conditions * heads * head_dim, C).
        head_sum: Adds the channels of a head (conditions * heads * head_dim, groups); constant columns are zero.
        group_sum: Adds the columns of a condition (groups, groups).
        score_map: From normalised pixels to unnormalised score differences (N, C, groups).
        basis: Centred vectors, times the output norm's gain (N, groups, C_out).
        gram: Their inner products before the gain, over C_out (N, groups, groups); float32 or wider, like head_sum
            and group_sum, because small variances are differences of large products.
    """

    query_weight: torch.Tensor
    head_sum: torch.Tensor
    group_sum: torch.Tensor
    score_map: torch.Tensor
    basis: torch.Tensor
    gram: torch.Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Choose where to compute what half precision has not the digits for."""
    return torch.promote_types(dtype, torch.float32)


def convolve_frames(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Apply a 2-D layer to every frame: (B, F, H, W, C) to (B, F, H', W', C')."""
    frames = x.flatten(0, 1).permute(0, 3, 1, 2)  # channels-last (B F, C, H, W) without a copy
    return layer(frames).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def chunks(x: torch.Tensor, dim: int, tokens_per_index: int) -> list[slice]:
    """Cut an axis into slices of a size that stays in the cache; one slice while gradients are recorded.

    Args:
        x: Any tensor.
        dim: Axis that is cut.
        tokens_per_index: Rows of channels in one index along dim.

    Returns:
        Slices that cover the axis in order.
    """
    if torch.is_grad_enabled():
        return [slice(0, x.shape[dim])]
    chunk_tokens = CHUNK_TOKENS_CPU if x.device.type == "cpu" else CHUNK_TOKENS_DEVICE
    step = max(1, chunk_tokens // tokens_per_index)
    return [slice(start, min(start + step, x.shape[dim])) for start in range(0, x.shape[dim], step)]


def add_in_chunks(x: torch.Tensor, function: Callable, dim: int, tokens_per_index: int) -> torch.Tensor:
    """Compute x + function(x), where function treats indices along dim independently.

    Args:
        x: Any tensor; overwritten with the result while no gradient is recorded.
        function: Takes a part of x and the slice it is, returns a tensor of the part's shape.
        dim: Axis that is split.
        tokens_per_index: Rows of channels in one index along dim, to choose the chunk's size.

    Returns:
        The sum, x itself while no gradient is recorded.
    """
    if torch.is_grad_enabled():
        return x + function(x, slice(None))
    for chunk in chunks(x, dim, tokens_per_index):
        part = x.narrow(dim, chunk.start, chunk.stop - chunk.start)
        part += function(part, chunk)
    return x


class ChannelNorm(nn.Module):
    """Normalise the last axis, with a gain and no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (..., C)."""
        return F.layer_norm(x, self.weight.shape, self.weight, None, NORM_EPS)


class ClipGroupNorm(nn.Module):
    """Group normalisation over all frames of a clip, an optional modulation, then SiLU.

    While no gradient is recorded, the result overwrites the input.

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
        if torch.is_grad_enabled():
            return F.silu(torch.addcmul(offset, x.flatten(2, 3), gain)).view(x.shape)
        clip = x.flatten(2, 3)
        for chunk in chunks(clip, 1, batch * clip.shape[2]):
            part = clip[:, chunk]
            F.silu(torch.addcmul(offset, part, gain, out=part), inplace=True)
        return clip.view(x.shape)

    @staticmethod
    def _sums(frames: torch.Tensor) -> torch.Tensor:
        """Sum values and squares of each frame and channel: (N, P, C) to (N, 2, C)."""
        frames = frames.to(at_least_float32(frames.dtype))
        return torch.stack((frames.sum(1), frames.square().sum(1)), dim=1)


class ConditionCrossAttention(nn.Module):
    """Cosine cross-attention from a frame's pixels to one condition token and one learned null token.

    Args:
        condition_dim: Width of the condition.
        channels_in: Channels of the pixels that ask.
        channels_out: Channels of the answer.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    def __init__(self, condition_dim: int, channels_in: int, channels_out: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.embed = nn.Linear(condition_dim, 2 * channels_out)
        self.norm_in = ChannelNorm(channels_in)
        self.to_query = nn.Linear(channels_in, inner, bias=False)
        self.to_key_value = nn.Linear(2 * channels_out, 2 * inner, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_dim))
        self.key_scale = nn.Parameter(torch.ones(head_dim))
        self.null_key_value = nn.Parameter(torch.randn(2, head_dim))
        self.to_out = nn.Linear(inner, channels_out, bias=False)
        self.norm_out = ChannelNorm(channels_out)

    def project(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Turn a condition (N, D) into score map (N, C_in, 1 + heads), basis and Gram matrix, as ConditionContext."""
        tokens = self.to_key_value(self.embed(F.silu(condition)))
        with torch.autocast(tokens.device.type, enabled=False):
            score_map, basis, gram = self._project(*tokens.to(at_least_float32(tokens.dtype)).chunk(2, dim=-1))
        return score_map.to(condition.dtype), basis.to(condition.dtype), gram

    def _project(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads = (self.num_heads, -1)
        keys, values = keys.unflatten(-1, heads), values.unflatten(-1, heads)
        null_key, null_value = self.null_key_value.to(keys.dtype).unbind(0)
        # softmax over (condition, null) is the sigmoid of the difference of their scores; cosine scores times 8
        key_difference = F.normalize(keys, dim=-1) - F.normalize(null_key, dim=-1)
        key_difference = key_difference * (8 * self.query_scale * self.key_scale)
        query_weight = (self.to_query.weight * self.norm_in.weight).to(keys.dtype).unflatten(0, heads)
        score_map = torch.einsum("hdc,nhd->nch", query_weight, key_difference)
        out_weight = self.to_out.weight.to(keys.dtype).unflatten(1, heads)
        # out = to_out(null + sigmoid * (value - null)): linear in the sigmoids. The constant's score is 0, its
        # sigmoid 1/2, hence the 2.
        constant = 2 * torch.einsum("ohd,d->o", out_weight, null_value)
        slopes = torch.einsum("ohd,nhd->nho", out_weight, values - null_value)
        basis = torch.cat((constant.expand(len(slopes), 1, -1), slopes), dim=1)
        basis = basis - basis.mean(-1, keepdim=True)
        gram = basis @ basis.transpose(1, 2) / basis.shape[-1]
        return F.pad(score_map, (1, 0)), basis * self.norm_out.weight, gram


class ConditionMixer(nn.Module):
    """Sum of the cross-attentions to audio, pose and blink (paper section 3.3), in closed form.

    Args:
        condition_dims: Width of each condition by name.
        channels_in: Channels of the pixels that ask.
        channels_out: Channels of the answer.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    def __init__(
        self, condition_dims: dict[str, int], channels_in: int, channels_out: int, num_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleDict({
            name: ConditionCrossAttention(dim, channels_in, channels_out, num_heads, head_dim)
            for name, dim in condition_dims.items()
        })

    def project(self, conditions: dict[str, torch.Tensor]) -> ConditionContext:
        """Project conditions (B, F, D) by name, once per clip."""
        score_maps, bases, grams, query_weights = [], [], [], []
        for name, attention in self.attentions.items():
            score_map, basis, gram = attention.project(conditions[name].flatten(0, 1))
            score_maps.append(score_map)
            bases.append(basis)
            grams.append(gram)
            query_weights.append(attention.to_query.weight * attention.norm_in.weight)
        group, num_heads = grams[0].shape[-1], attention.num_heads
        num_groups = group * len(grams)
        gram = grams[0].new_zeros(grams[0].shape[0], num_groups, num_groups)
        for index, part in enumerate(grams):
            gram[:, index * group : (index + 1) * group, index * group : (index + 1) * group] = part
        ones = gram.new_ones(attention.query_scale.numel(), 1)
        head_sum = F.pad(torch.block_diag(*[ones] * num_heads), (1, 0))
        return ConditionContext(
            query_weight=torch.cat(query_weights),
            head_sum=torch.block_diag(*[head_sum] * len(grams)),
            group_sum=torch.block_diag(*[gram.new_ones(group, group)] * len(grams)),
            score_map=torch.cat(score_maps, dim=-1),
            basis=torch.cat(bases, dim=1),
            gram=gram,
        )

    def forward(self, hidden: torch.Tensor, x: torch.Tensor, context: ConditionContext) -> torch.Tensor:
        """Add the answers for pixels x (B, F, H, W, C) to hidden (B, F, H, W, C_out)."""
        pixels = x.flatten(0, 1).flatten(1, 2)  # (N, P, C)
        precise = context.gram.dtype

        def answer(_: torch.Tensor, frames: slice) -> torch.Tensor:
            normalised = F.layer_norm(pixels[frames], pixels.shape[-1:], None, None, NORM_EPS)
            query = F.linear(normalised, context.query_weight)
            scores = torch.bmm(normalised, context.score_map[frames])
            with torch.autocast(x.device.type, enabled=False):
                query_norm = (query.to(precise).square() @ context.head_sum).clamp(min=1e-24).sqrt()
                share = (scores / query_norm).sigmoid()
                # the output norm's variance is a quadratic form of the shares
                variance = (torch.bmm(share, context.gram[frames]) * share) @ context.group_sum
                share = share * (variance.clamp(min=0) + NORM_EPS).rsqrt()
            return torch.bmm(share.to(x.dtype), context.basis[frames])

        flat = hidden.flatten(0, 1).flatten(1, 2)
        return add_in_chunks(flat, answer, dim=0, tokens_per_index=flat.shape[1]).view(hidden.shape)


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
        return add_in_chunks(frames, self._attend, dim=0, tokens_per_index=frames.shape[1]).view(x.shape)

    def _attend(self, pixels: torch.Tensor, _: slice) -> torch.Tensor:
        heads = (self.num_heads, self.head_dim)
        query, key, value = self.to_qkv(self.norm(pixels)).chunk(3, dim=-1)  # (N, P, heads * D)
        query = query.unflatten(-1, heads).softmax(-1).flatten(-2)
        key = key.softmax(1).unflatten(-1, heads)
        mixed = torch.einsum("nphd,nphe->nhde", key, value.unflatten(-1, heads)) * self.head_dim**-0.5
        # mix, then project: the product of the two small matrices is taken first
        out_weight = self.to_out.weight.unflatten(1, heads)
        weight = torch.einsum("nhde,che->nhdc", mixed, out_weight).flatten(1, 2)
        return torch.baddbmm(self.to_out.bias, query, weight)


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
