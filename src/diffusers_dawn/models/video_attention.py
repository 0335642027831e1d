"""Attentions of the motion denoiser, on clips (B, F, H, W, C), as attention modules and processors of diffusers.

A module cuts its clip into chunks that stay in the cache; its processor attends within one chunk.
"""

from typing import Any, NamedTuple

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    dispatch_attention_fn,
)
from torch import nn

from .attention import (
    AttentionBand,
    BandBlock,
    attend_by_products,
    attend_in_band,
    attend_in_blocks,
    rotate_pairs,
)
from .video_layers import LEAST_PIXELS, ChannelNorm, add_in_chunks, matrix_of, works_in_place

SEPARATE_PROJECTIONS = ("to_q", "to_k", "to_v")


class FrameContext(NamedTuple):
    """What temporal attention needs to know of a clip's frames, the same for every layer and step.

    Attributes:
        cos: Cosines of the rotary angles (F, 1, head_dim / 2).
        sin: Sines, the same shape.
        blocks: Blocks over the band of the attention window.
        band: The same for compiled code.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    blocks: list[BandBlock]
    band: AttentionBand


class SpatialLinearAttnProcessor:
    """Linear attention over the pixels of each frame."""

    def __call__(
        self, attn: "VideoAttention", hidden_states: torch.Tensor, output: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        """Map pixels (N, P, C) to the same shape; for many pixels, given the output projection's matrix and bias."""
        heads = (attn.num_heads, attn.head_dim)
        query, key, value = attn.project(hidden_states)  # (N, P, heads, D)
        query = query.softmax(-1)
        key, value = (part.transpose(1, 2).flatten(0, 1) for part in (key, value))  # (N heads, P, D)
        mixed = torch.bmm(key.softmax(1).transpose(1, 2), value) * attn.head_dim**-0.5  # (N heads, D, D)
        if output is None:  # mix the pixels, then project them
            mixed_pixels = torch.bmm(query.transpose(1, 2).flatten(0, 1), mixed)
            return attn.to_out[0](mixed_pixels.unflatten(0, (-1, attn.num_heads)).transpose(1, 2).flatten(2))
        # the product of the two small matrices is taken first
        matrix, bias = output
        mixed = mixed.unflatten(0, (-1, attn.num_heads))
        weight = torch.einsum("nhde,hec->nhdc", mixed, matrix.unflatten(0, heads)).flatten(1, 2)
        return torch.baddbmm(bias, query.flatten(2), weight)


class SpatialAttnProcessor:
    """Full attention over the pixels of each frame, by any of diffusers' attention backends."""

    _attention_backend = None

    def __call__(self, attn: "VideoAttention", hidden_states: torch.Tensor) -> torch.Tensor:
        """Map pixels (N, P, C) to the same shape."""
        attended = dispatch_attention_fn(*attn.project(hidden_states), backend=self._attention_backend)
        return attn.to_out[0](attended.flatten(2))  # of (N, P, heads, D)


class TemporalAttnProcessor:
    """Attention of every pixel over the frames inside the window.

    Backends of diffusers must take a mask, which is the bias. In place of the native one, CPUs take products of their
    own in half precision, which are faster.
    """

    _attention_backend = None

    def __call__(self, attn: "VideoAttention", hidden_states: torch.Tensor, frames: FrameContext) -> torch.Tensor:
        """Map pixels of whole clips (B, F, P, C) to the same shape."""
        # (B, P, F, C): a pixel's frames next to each other, before anything is computed that is wider
        query, key, value = attn.project(hidden_states.transpose(1, 2))
        query, key = (rotate_pairs(part, frames.cos, frames.sin) for part in (query, key))
        query, key, value = (part.flatten(0, 1).transpose(1, 2) for part in (query, key, value))  # (B P, heads, F, D)
        scale, backend = attn.head_dim**-0.5, self._attention_backend
        if torch.compiler.is_compiling():
            attended = attend_in_band(query, key, value, frames.band, scale, backend)
        elif query.device.type == "cpu" and query.dtype.itemsize == 2 and works_in_place() and _is_native(backend):
            attended = attend_by_products(query, key, value, frames.blocks, scale)
        else:
            attended = attend_in_blocks(query, key, value, frames.blocks, scale, backend)
        attended = attended.transpose(1, 2).flatten(2).unflatten(0, (hidden_states.shape[0], -1))
        return attn.to_out[0](attended).transpose(1, 2)


def _is_native(backend: AttentionBackendName | None) -> bool:
    if backend is None:  # that of the context `attention_backend`, or of the environment
        backend, _ = _AttentionBackendRegistry.get_active_backend()
    return backend == AttentionBackendName.NATIVE


class VideoAttention(nn.Module, AttentionModuleMixin):
    """What the attentions have in common.

    Args:
        channels: Channels C.
        num_heads: Heads.
        head_dim: Channels per head.
    """

    _output_bias = False

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.norm = ChannelNorm(channels)
        for name in SEPARATE_PROJECTIONS:
            self.add_module(name, nn.Linear(channels, num_heads * head_dim, bias=False))
        # a list, as in all attentions of diffusers, whose adapters look for `to_out.0`
        self.to_out = nn.ModuleList([nn.Linear(num_heads * head_dim, channels, bias=self._output_bias)])
        self.set_processor(self._default_processor_cls())

    def project(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalise tokens (..., C) and project them to queries, keys and values, each (..., heads, D)."""
        normalised = self.norm(hidden_states)
        if self.fused_projections:
            parts = self.to_qkv(normalised).chunk(3, dim=-1)
        else:
            parts = (getattr(self, name)(normalised) for name in SEPARATE_PROJECTIONS)
        return tuple(part.unflatten(-1, (self.num_heads, self.head_dim)) for part in parts)

    @torch.no_grad()
    def fuse_projections(self) -> None:
        """Put one projection, `to_qkv`, in the place of three: fewer and larger products.

        Raises:
            ValueError: They are adapted, quantised or offloaded.
        """
        if self.fused_projections:
            return
        parts = [_plain(self, name) for name in SEPARATE_PROJECTIONS]
        self.to_qkv = _linear_of(torch.cat([part.weight for part in parts]), parts[0].weight.requires_grad)
        for name in SEPARATE_PROJECTIONS:
            delattr(self, name)
        self.fused_projections = True

    @torch.no_grad()
    def unfuse_projections(self) -> None:
        """Cut the projection into three again, `to_q`, `to_k` and `to_v`.

        Raises:
            ValueError: It is adapted, quantised or offloaded.
        """
        if not self.fused_projections:
            return
        whole = _plain(self, "to_qkv").weight
        for name, part in zip(SEPARATE_PROJECTIONS, whole.chunk(3), strict=True):
            self.add_module(name, _linear_of(part.clone(), whole.requires_grad))
        del self.to_qkv
        self.fused_projections = False

    def _attend(
        self, tokens: torch.Tensor, dim: int, tokens_per_index: int, residual: bool, least: int = 1, **shared: Any
    ) -> torch.Tensor:
        """Let the processor map the chunks along dim, and add the results to the tokens or to nothing."""
        if residual:
            result, function = tokens, lambda part, _: self.processor(self, part, **shared)
        else:
            before = (slice(None),) * dim
            result = torch.zeros_like(tokens)
            function = lambda _, chunk: self.processor(self, tokens[(*before, chunk)], **shared)  # noqa: E731
        return add_in_chunks(result, function, dim, tokens_per_index, least)


def _plain(attention: VideoAttention, name: str) -> nn.Linear:
    layer = getattr(attention, name)
    hooked = hasattr(layer, "_diffusers_hook") or hasattr(layer, "_hf_hook")
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter or hooked:
        raise ValueError(f"`{name}` is adapted, quantised, cast or offloaded; fuse or unfuse projections before that")
    return layer


def _linear_of(weight: torch.Tensor, requires_grad: bool) -> nn.Linear:
    # on the meta device first: its own weight would only be thrown away
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad)
    return layer


class SpatialLinearAttention(VideoAttention):
    """Linear attention over the pixels of each frame; see `VideoAttention`."""

    _default_processor_cls = SpatialLinearAttnProcessor
    _available_processors = [SpatialLinearAttnProcessor]
    _output_bias = True

    def forward(self, x: torch.Tensor, residual: bool = False) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape; as a residual it is added to x, see `add_in_chunks`."""
        pixels = x.flatten(0, 1).flatten(1, 2)
        # few pixels are less than the two small matrices, whose product would be larger. Compiled code has one form
        few = works_in_place() and pixels.shape[1] < pixels.shape[2]
        output = None if few else matrix_of(self.to_out[0], x)
        return self._attend(pixels, 0, pixels.shape[1], residual, output=output).view(x.shape)


class SpatialAttention(VideoAttention):
    """Full attention over the pixels of each frame; see `VideoAttention`."""

    _default_processor_cls = SpatialAttnProcessor
    _available_processors = [SpatialAttnProcessor]

    def forward(self, x: torch.Tensor, residual: bool = False) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape; as a residual it is added to x, see `add_in_chunks`."""
        pixels = x.flatten(0, 1).flatten(1, 2)
        return self._attend(pixels, 0, pixels.shape[1], residual).view(x.shape)


class TemporalAttention(VideoAttention):
    """Attention of every pixel over the frames inside the window; see `VideoAttention`."""

    _default_processor_cls = TemporalAttnProcessor
    _available_processors = [TemporalAttnProcessor]

    def forward(self, x: torch.Tensor, frames: FrameContext, residual: bool = False) -> torch.Tensor:
        """Map (B, F, H, W, C) to the same shape; as a residual it is added to x, see `add_in_chunks`."""
        pixels = x.flatten(2, 3)
        tokens_per_pixel = pixels.shape[0] * pixels.shape[1]
        return self._attend(pixels, 2, tokens_per_pixel, residual, LEAST_PIXELS, frames=frames).view(x.shape)


def add_attention(x: torch.Tensor, attention: VideoAttention, *frames: FrameContext) -> torch.Tensor:
    """Add an attention to a clip.

    Args:
        x: The clip (B, F, H, W, C); overwritten while no gradient is recorded.
        attention: The attention.
        *frames: What else it takes.

    Returns:
        The sum.
    """
    registry = getattr(attention, "_diffusers_hook", None)
    if registry is not None and registry.hooks:
        # caches of diffusers keep what a module returns: that must be the attention alone, in memory of its own
        return x + attention(x, *frames)
    return attention(x, *frames, residual=True)
