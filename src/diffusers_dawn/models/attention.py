"""Attention over frames: rotary positions, relative position bias, and a window that never builds F x F scores."""

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    dispatch_attention_fn,
)
from torch import nn
from torch.nn import functional

from ..machine.float32_products import without_fast_products

# queries of a block of the band [frames]; 32 to 50 are equally fast on a CPU (benchmarks/README.md)
BLOCK_SIZE = 40
# of diffusers' attention backends, those that take a bias, which attention over frames adds to its scores
BACKENDS_WITH_BIAS = frozenset((
    *("native", "_native_cudnn", "_native_efficient", "_native_math", "_native_npu", "_native_xla"),
    *("flex", "xformers"),
))


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
    precise = torch.promote_types(x.dtype, torch.float32)
    pairs = x[..., :rotary_dim].to(precise).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler joins the sums, and knows no complex numbers
        first, second = pairs.unbind(-1)
        rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    else:
        # a pair is a complex number, and turning it one product: several times faster than sums of four real ones
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    rotated = rotated.flatten(-2).to(x.dtype)
    return rotated if rotary_dim == x.shape[-1] else torch.cat((rotated, x[..., rotary_dim:]), dim=-1)


class OffsetTable(nn.Embedding):
    """A table with a row per bucket of offsets."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Look up rows (N,), given on any device, as (N, heads)."""
        # here, where offloading has moved the weights: elsewhere they tell no device
        return super().forward(rows.to(self.weight.device))


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
        self.table = OffsetTable(num_buckets, num_heads)

    def forward(self, reach: int) -> torch.Tensor:
        """Look up the bias of every offset key - query from -reach to reach; returns (heads, 2 * reach + 1)."""
        return self.table(self._buckets(torch.arange(-reach, reach + 1))).t()

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
        queries: Frames that ask.
        keys: Frames that they see.
        bias: Tensor (1, heads, queries, keys) added to the scores; -inf outside the window.
    """

    queries: slice
    keys: slice
    bias: torch.Tensor


def band_blocks(
    position_bias: RelativePositionBias,
    num_frames: int,
    window: int | None,
    dtype: torch.dtype,
    block_size: int = BLOCK_SIZE,
) -> list[BandBlock]:
    """Split attention with a window into blocks over its band (paper section 3.3: local attention at inference).

    Args:
        position_bias: Source of the bias per head and offset.
        num_frames: Clip length F.
        window: Keys farther than this from the query are not seen [frames]; None: every key is.
        dtype: dtype of the bias, that of the queries.
        block_size: Queries per block.

    Returns:
        Blocks that cover queries 0 .. F - 1 in order.
    """
    if window is None or window >= num_frames - 1:
        window = num_frames - 1
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
        blocks.append(BandBlock(slice(first_query, last_query), slice(first_key, last_key), biases[shape]))
    return blocks


class AttentionBand(NamedTuple):
    """The same band without its blocks, of any number of frames, for compiled code.

    Attributes:
        offset_bias: Bias of every offset key - query (heads, 2 * reach + 1).
        window: Keys farther than this from the query are not seen [frames]; None: every key is.
    """

    offset_bias: torch.Tensor
    window: int | None


def attention_band(
    position_bias: RelativePositionBias, num_frames: int, window: int | None, dtype: torch.dtype
) -> AttentionBand:
    """Look up what `attend_in_band` needs.

    Args:
        position_bias: Source of the bias per head and offset.
        num_frames: Clip length F.
        window: Keys farther than this from the query are not seen [frames]; None: every key is.
        dtype: dtype of the bias, that of the queries.

    Returns:
        The band; its size depends on the number of frames only without a window.
    """
    reach = num_frames - 1 if window is None else window + BLOCK_SIZE - 1
    return AttentionBand(position_bias(reach).to(dtype), window)


def attend_in_band(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    band: AttentionBand,
    scale: float,
    backend: Any = None,
) -> torch.Tensor:
    """Attend over frames as `attend_in_blocks` does, in one graph for any number of frames.

    The clip is padded to whole blocks, which become heads of one attention: no loop tells the compiler how many there
    are.

    Args:
        query: Tensor (N, heads, F, D).
        key: Tensor (N, heads, F, D).
        value: Tensor (N, heads, F, D).
        band: Result of `attention_band`.
        scale: Factor of the scores.
        backend: One of diffusers' attention backends; None: the active one.

    Returns:
        Tensor (N, heads, F, D).
    """
    num_frames, window = query.shape[2], band.window
    device = query.device
    if window is None:
        frame = torch.arange(num_frames, device=device)
        bias = band.offset_bias[:, frame[None] - frame[:, None] + num_frames - 1]
        return _attend_fused(query, key, value, bias[None], scale, backend)
    num_blocks = (num_frames + BLOCK_SIZE - 1) // BLOCK_SIZE
    missing = num_blocks * BLOCK_SIZE - num_frames
    # key j of a block is frame j - window after the block's first query
    num_keys = BLOCK_SIZE + 2 * window
    offset = torch.arange(num_keys, device=device) - window - torch.arange(BLOCK_SIZE, device=device)[:, None]
    bias = band.offset_bias[:, offset + window + BLOCK_SIZE - 1][:, None]  # (heads, 1, queries, keys)
    first_key = torch.arange(num_blocks, device=device) * BLOCK_SIZE - window
    frame = first_key[:, None] + torch.arange(num_keys, device=device)  # (blocks, keys)
    seen = (offset.abs() <= window) & ((frame >= 0) & (frame < num_frames))[:, None]
    # finite: padded queries see nothing, and a softmax of nothing is no number
    bias = bias.masked_fill(~seen, torch.finfo(bias.dtype).min / 2).flatten(0, 1)[None]
    query = functional.pad(query, (0, 0, 0, missing)).unflatten(2, (num_blocks, BLOCK_SIZE)).flatten(1, 2)
    key, value = (
        functional
        .pad(part, (0, 0, window, missing + window))
        .unfold(2, num_keys, BLOCK_SIZE)
        .transpose(-1, -2)
        .flatten(1, 2)
        for part in (key, value)
    )
    attended = _attend_fused(query, key, value, bias, scale, backend)
    return attended.unflatten(1, (-1, num_blocks)).flatten(2, 3)[:, :, :num_frames]


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
        backend: One of diffusers' attention backends; None: the active one, which is torch's fused attention unless
            users chose another.

    Returns:
        Tensor (N, heads, F, D).
    """
    # the fused attention's products are many and small
    with nullcontext() if torch.compiler.is_compiling() else without_fast_products():
        outputs = [
            _attend_fused(
                query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys], block.bias, scale, backend
            )
            for block in blocks
        ]
    return _join(outputs)


def attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: list[BandBlock], scale: float
) -> torch.Tensor:
    """Attend as `attend_in_blocks` does, by products of all N and heads at once.

    This is faster on CPUs in half precision, where torch's fused attention spends its time setting up small products.

    Args:
        query: Tensor (N, heads, F, D).
        key: Tensor (N, heads, F, D).
        value: Tensor (N, heads, F, D).
        blocks: Result of `band_blocks` for F frames.
        scale: Factor of the scores.

    Returns:
        Tensor (N, heads, F, D).
    """
    sizes = query.shape[:2]
    outputs = []
    for block in blocks:
        frames = (query, block.queries), (key, block.keys), (value, block.keys)
        block_query, block_key, block_value = (part[:, :, where].flatten(0, 1) for part, where in frames)
        scores = torch.bmm(block_query, block_key.transpose(1, 2)).unflatten(0, sizes)
        # a softmax in half precision is half as fast, and less precise
        scores = torch.add(block.bias, scores.to(torch.promote_types(query.dtype, torch.float32)), alpha=scale)
        weights = scores.softmax(-1).to(value.dtype).flatten(0, 1)
        outputs.append(torch.bmm(weights, block_value).unflatten(0, sizes))
    return _join(outputs)


def _join(outputs: list[torch.Tensor]) -> torch.Tensor:
    # the blocks' queries; frames before heads, so that whole rows are copied
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1).transpose(1, 2)


def _backend_for_bias(backend: Any) -> Any:
    """The backend where it adds a bias to the scores, or else torch's own, such as beside flash attention in space."""
    active = _AttentionBackendRegistry.get_active_backend()[0] if backend is None else backend
    return backend if getattr(active, "value", active) in BACKENDS_WITH_BIAS else AttentionBackendName.NATIVE


def _attend_fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float, backend: Any
) -> torch.Tensor:
    backend = _backend_for_bias(backend)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))  # as backends take them
    return dispatch_attention_fn(query, key, value, attn_mask=bias, scale=scale, backend=backend).transpose(1, 2)
