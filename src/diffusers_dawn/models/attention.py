"""Attention over frames: rotary positions, relative position bias, and a window that never builds F x F scores."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn


class RotaryEmbedding(nn.Module):
    """Rotary positions whose frequencies belong to the checkpoint.

    The published checkpoints store the frequencies, and they need not be the usual ones (theta 10000), with which a
    new model starts. Keep them in float32: the angle grows with the frame.

    Args:
        rotary_dim: Number of channels that are rotated; even.
    """

    def __init__(self, rotary_dim: int) -> None:
        super().__init__()
        exponents = torch.arange(0, rotary_dim, 2, dtype=torch.float32) / rotary_dim
        self.register_buffer("frequencies", 10_000.0**-exponents)

    def forward(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines of the angles, both (F, rotary_dim / 2) in float32."""
        positions = torch.arange(num_frames, device=self.frequencies.device, dtype=torch.float32)
        angles = torch.outer(positions, self.frequencies.float())
        return angles.cos(), angles.sin()


def rotate_pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first channels of a tensor, pair by pair of neighbouring channels; leave the others.

    Args:
        x: Tensor (..., D).
        cos: Cosines of the angles, broadcastable to (..., R / 2) with R <= D.
        sin: Sines, the same shape.

    Returns:
        Tensor (..., D) in the dtype of x.
    """
    rotary_dim = 2 * cos.shape[-1]
    # a pair is a complex number, and turning it one product: several times faster than sums of four real ones
    precise = torch.promote_types(x.dtype, torch.float32)
    pairs = torch.view_as_complex(x[..., :rotary_dim].to(precise).unflatten(-1, (-1, 2)))
    rotated = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
    return rotated if rotary_dim == x.shape[-1] else torch.cat((rotated, x[..., rotary_dim:]), dim=-1)


class RelativePositionBias(nn.Module):
    """Bidirectional bucketed bias of T5, one value per head and distance.

    Args:
        num_buckets: Rows of the table; half of them for keys after the query.
        max_distance: Distance from which all keys share a bucket [frames].
        num_heads: Columns of the table.
    """

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.table = nn.Embedding(num_buckets, num_heads)

    def forward(self, reach: int) -> torch.Tensor:
        """Look up the bias of every offset key - query from -reach to reach; returns (heads, 2 * reach + 1)."""
        offsets = torch.arange(-reach, reach + 1, device=self.table.weight.device)
        return self.table(self._buckets(offsets)).t()

    def _buckets(self, offsets: torch.Tensor) -> torch.Tensor:
        half = self.num_buckets // 2
        exact = half // 2
        distance = offsets.abs()
        # beyond `exact` the buckets widen logarithmically up to max_distance
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        wide = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(distance < exact, distance, wide) + half * (offsets > 0)


class BandBlock(NamedTuple):
    """A run of queries, the run of keys they may see, and the bias between the two.

    Attributes:
        first_query: Index of the first query frame.
        last_query: Index after the last query frame.
        first_key: Index of the first key frame.
        last_key: Index after the last key frame.
        bias: Tensor (1, heads, queries, keys) added to the scores; -inf outside the window.
    """

    first_query: int
    last_query: int
    first_key: int
    last_key: int
    bias: torch.Tensor


def band_blocks(
    position_bias: RelativePositionBias, num_frames: int, window: int | None, dtype: torch.dtype, block_size: int = 40
) -> list[BandBlock]:
    """Split attention with a window into blocks over its band (paper section 3.3: local attention at inference).

    Args:
        position_bias: Source of the bias per head and offset.
        num_frames: Clip length F.
        window: Keys farther than this from the query are not seen [frames]; None: every key is.
        dtype: dtype of the bias, that of the queries.
        block_size: Queries per block.

    Returns:
        Blocks that cover queries 0 .. F - 1 in order; without a window, or with one at least F - 1, one block.
    """
    if window is None or window >= num_frames - 1:
        window, block_size = num_frames - 1, num_frames
    # offsets of a block reach from -(window + block_size) to the same, masked down to +-window
    reach = window + block_size
    offset_bias = position_bias(reach)
    outside = torch.arange(-reach, reach + 1, device=offset_bias.device).abs() > window
    offset_bias = offset_bias.to(dtype).masked_fill(outside, float("-inf"))
    blocks: list[BandBlock] = []
    biases: dict[tuple[int, int, int], torch.Tensor] = {}
    for first_query in range(0, num_frames, block_size):
        last_query = min(num_frames, first_query + block_size)
        first_key, last_key = max(0, first_query - window), min(num_frames, last_query + window)
        # blocks away from the ends of the clip look alike and share their bias
        shape = (last_query - first_query, first_key - first_query, last_key - first_query)
        if shape not in biases:
            queries = torch.arange(shape[0], device=offset_bias.device)
            keys = torch.arange(shape[1], shape[2], device=offset_bias.device)
            biases[shape] = offset_bias[:, keys[None] - queries[:, None] + reach][None].contiguous()
        blocks.append(BandBlock(first_query, last_query, first_key, last_key, biases[shape]))
    return blocks


def attend_in_blocks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    blocks: list[BandBlock],
    scale: float,
    backend: Any = None,
) -> torch.Tensor:
    """Attend over frames block by block; scores exist for one block at a time.

    Args:
        query: Tensor (N, heads, F, D).
        key: Tensor (N, heads, F, D).
        value: Tensor (N, heads, F, D).
        blocks: Result of `band_blocks` for F frames.
        scale: Factor of the scores.
        backend: One of diffusers' attention backends; None: batched products on the CPU while no gradient is
            recorded, else the active one, which is torch's fused attention unless users chose another.

    Returns:
        Tensor (N, heads, F, D).
    """
    attend = partial(_attend_fused, backend=backend)
    if backend is None and query.device.type == "cpu" and not torch.is_grad_enabled():
        attend = _attend_by_products
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    outputs = [
        attend(
            query[:, :, block.first_query : block.last_query], key[:, :, keys], value[:, :, keys], block.bias, scale
        )
        for block in blocks
        for keys in (slice(block.first_key, block.last_key),)
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _attend_fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float, backend: Any
) -> torch.Tensor:
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))  # as backends take them
    return dispatch_attention_fn(query, key, value, attn_mask=bias, scale=scale, backend=backend).transpose(1, 2)


def _attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float
) -> torch.Tensor:
    # torch's fused kernel for CPUs walks through a head at a time; batched products over all pixels and heads of a
    # chunk, whose scores stay in the cache, take three quarters of its time (benchmarks/README.md)
    batch = query.shape[:2]
    scores = torch.bmm((query * scale).flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    scores.view(*batch, *scores.shape[1:]).add_(bias)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).unflatten(0, batch)
