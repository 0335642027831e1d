"""Parts of PBNet: the transformer VAE that turns speech into a track of states (paper section 3.4)."""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .attention import (
    BandBlock,
    RelativePositionBias,
    RotaryEmbedding,
    attend_in_blocks,
    band_blocks,
    rotate_pairs,
)

# cosines and sines of `RotaryEmbedding`, both (F, rotary_dim / 2)
Rotation = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrackSizes:
    """Sizes of one network.

    Attributes:
        state_dim: Numbers per frame S that the network moves.
        audio_dim: Width D of the audio features.
        latent_dim: Width Z of the latent of a frame.
        state_width: Width of an embedded state.
        audio_width: Width of the embedded audio features.
        decoder_width: Width C of the decoder.
        feed_forward_dim: Inner width of the feed-forward parts.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of every attention.
        head_dim: Channels of a head of the decoder.
        rotary_dim: How many of them are rotated; even.
        num_buckets: Rows of the relative position tables; even.
        max_distance: Distance from which all keys share a bucket [frames].
    """

    state_dim: int
    audio_dim: int
    latent_dim: int
    state_width: int
    audio_width: int
    decoder_width: int
    feed_forward_dim: int
    num_layers: int
    num_heads: int
    head_dim: int
    rotary_dim: int
    num_buckets: int
    max_distance: int


def sinusoidal_positions(num_frames: int, width: int, device: torch.device | None = None) -> torch.Tensor:
    """Compute sinusoidal positions, sine and cosine in turn, in float32.

    Args:
        num_frames: Number of positions F.
        width: Number of channels C.
        device: Where the result lives.

    Returns:
        Tensor (F, C).
    """
    positions = torch.arange(num_frames, device=device, dtype=torch.float32)
    channels = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angles = torch.outer(positions, torch.exp(channels * (-math.log(10_000.0) / width)))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]


class TrackEncoderAttention(nn.Module):
    """Self-attention with the parameters of `nn.MultiheadAttention`.

    That one, and the layer around it, read weights without calling the modules that have them, which offloading needs,
    and round otherwise in evaluation than in training.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """Attend from hidden (B, F, C) to itself where frame_mask (B, F) is true; returns (B, F, C)."""
        projected = functional.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        # (B, F, 3 * C) -> 3 times (B, heads, F, D)
        query, key, value = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if frame_mask is None else frame_mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class TrackEncoderLayer(nn.Module):
    """Self-attention and feed-forward with the parameters of `nn.TransformerEncoderLayer`; normalised afterwards."""

    def __init__(self, width: int, sizes: TrackSizes, dropout: float) -> None:
        super().__init__()
        self.self_attn = TrackEncoderAttention(width, sizes.num_heads, dropout)
        self.linear1 = nn.Linear(width, sizes.feed_forward_dim)
        self.linear2 = nn.Linear(sizes.feed_forward_dim, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """Refine hidden (B, F, C); frame_mask (B, F): True in clip."""
        hidden = self.norm1(hidden + self.dropout(self.self_attn(hidden, frame_mask)))
        inner = self.dropout(functional.gelu(self.linear1(hidden)))
        return self.norm2(hidden + self.dropout(self.linear2(inner)))


class TrackEncoder(nn.Module):
    """Sequence and speech to the distribution of a latent per frame; needed for training only."""

    def __init__(self, sizes: TrackSizes, dropout: float) -> None:
        super().__init__()
        width = 2 * sizes.state_width + sizes.audio_width
        self.embed_first = nn.Linear(sizes.state_dim, sizes.state_width)
        self.embed_difference = nn.Linear(sizes.state_dim, sizes.state_width)
        self.embed_audio = nn.Linear(sizes.audio_dim, sizes.audio_width)
        self.dropout = nn.Dropout(dropout)
        layer = TrackEncoderLayer(width, sizes, dropout)
        # as in torch, all layers begin alike
        self.transformer = nn.ModuleDict({"layers": nn.ModuleList(deepcopy(layer) for _ in range(sizes.num_layers))})
        self.to_mu = nn.Linear(width, sizes.latent_dim)
        self.to_logvar = nn.Linear(width, sizes.latent_dim)

    def forward(
        self, sequence: torch.Tensor, audio: torch.Tensor, frame_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map states (B, F, S) and features (B, F, D) to mu, logvar (B, F, Z); frame_mask (B, F): True in clip."""
        first = sequence[:, :1]
        hidden = torch.cat(
            (
                self.embed_first(first).expand(-1, sequence.shape[1], -1),
                self.embed_difference(sequence - first),
                self.embed_audio(audio),
            ),
            dim=-1,
        )
        positions = sinusoidal_positions(hidden.shape[1], hidden.shape[2], hidden.device)
        hidden = self.dropout(hidden + positions.to(hidden.dtype))
        for layer in self.transformer["layers"]:
            hidden = layer(hidden, frame_mask)
        return self.to_mu(hidden), self.to_logvar(hidden)


class FrameAttention(nn.Module):
    """Multi-head attention over frames with rotary positions on the first channels of each head."""

    def __init__(self, sizes: TrackSizes) -> None:
        super().__init__()
        self.num_heads, self.head_dim = sizes.num_heads, sizes.head_dim
        inner = sizes.num_heads * sizes.head_dim
        self.to_query = nn.Linear(sizes.decoder_width, inner, bias=False)
        self.to_key = nn.Linear(sizes.decoder_width, inner, bias=False)
        self.to_value = nn.Linear(sizes.decoder_width, inner, bias=False)
        self.to_out = nn.Linear(inner, sizes.decoder_width, bias=False)

    def forward(
        self, hidden: torch.Tensor, memory: torch.Tensor, blocks: list[BandBlock], rotary: Rotation
    ) -> torch.Tensor:
        """Attend from hidden (B, F, C) to memory (B, F, C) with rotary cosines and sines; returns (B, F, C)."""
        # (B, F, heads * D) -> (B, heads, F, D)
        query, key, value = (
            tensor.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for tensor in (self.to_query(hidden), self.to_key(memory), self.to_value(memory))
        )
        query, key = rotate_pairs(query, *rotary), rotate_pairs(key, *rotary)
        attended = attend_in_blocks(query, key, value, blocks, self.head_dim**-0.5)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class TrackDecoderLayer(nn.Module):
    """Self-attention, cross-attention to the memory, feed-forward; each residual, then normalised."""

    def __init__(self, sizes: TrackSizes) -> None:
        super().__init__()
        width = sizes.decoder_width
        self.self_attention = FrameAttention(sizes)
        self.cross_attention = FrameAttention(sizes)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, sizes.feed_forward_dim), nn.GELU(), nn.Linear(sizes.feed_forward_dim, width)
        )
        self.norm_self, self.norm_cross, self.norm_feed_forward = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        hidden: torch.Tensor,
        memory: torch.Tensor,
        self_blocks: list[BandBlock],
        cross_blocks: list[BandBlock],
        rotary: Rotation,
    ) -> torch.Tensor:
        """Refine hidden (B, F, C) with memory (B, F, C)."""
        hidden = self.norm_self(hidden + self.self_attention(hidden, hidden, self_blocks, rotary))
        hidden = self.norm_cross(hidden + self.cross_attention(hidden, memory, cross_blocks, rotary))
        return self.norm_feed_forward(hidden + self.feed_forward(hidden))


class TrackDecoder(nn.Module):
    """First state, latent and speech of every frame to the difference of its state to the first."""

    def __init__(self, sizes: TrackSizes, window: int | None, clip_frames: int | None) -> None:
        super().__init__()
        self.width, self.window, self.clip_frames = sizes.decoder_width, window, clip_frames
        self.embed_first = nn.Linear(sizes.state_dim, sizes.state_width)
        self.embed_audio = nn.Linear(sizes.audio_dim, sizes.audio_width)
        self.to_memory = nn.Linear(sizes.state_width + sizes.latent_dim + sizes.audio_width, self.width)
        self.self_bias = RelativePositionBias(sizes.num_buckets, sizes.max_distance, sizes.num_heads)
        self.cross_bias = RelativePositionBias(sizes.num_buckets, sizes.max_distance, sizes.num_heads)
        self.start_projection = nn.Linear(self.width, self.width)
        self.start_norm = nn.LayerNorm(self.width, bias=False)
        self.start_attention = FrameAttention(sizes)
        self.start_rotary, self.rotary = (RotaryEmbedding(sizes.rotary_dim) for _ in range(2))
        self.layers = nn.ModuleList(TrackDecoderLayer(sizes) for _ in range(sizes.num_layers))
        self.to_difference = nn.Linear(self.width, sizes.state_dim)

    def forward(
        self, latent: torch.Tensor, audio: torch.Tensor, first: torch.Tensor, frame_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Decode latents (B, F, Z) with features (B, F, D) and first state (B, S) to differences (B, F, S)."""
        num_batch, num_frames, _ = latent.shape
        first = self.embed_first(first)[:, None].expand(-1, num_frames, -1)
        memory = self.to_memory(torch.cat((first, latent, self.embed_audio(audio)), dim=-1))  # (B, F, C)
        window = None if self.training else self._window(num_frames)
        self_blocks = band_blocks(self.self_bias, num_frames, window, memory.dtype)
        cross_blocks = band_blocks(self.cross_bias, num_frames, window, memory.dtype)

        hidden = self.start_projection(memory.new_zeros(num_batch, num_frames, self.width))
        normalised = self.start_norm(hidden)
        hidden = hidden + self.start_attention(normalised, normalised, self_blocks, self.start_rotary(num_frames))
        rotary = self.rotary(num_frames)
        for layer in self.layers:
            hidden = layer(hidden, memory, self_blocks, cross_blocks, rotary)
        difference = self.to_difference(hidden)
        # as published, padded frames are seen by the others; only their own output is taken away
        return difference if frame_mask is None else difference.masked_fill(~frame_mask[..., None], 0.0)

    def _window(self, num_frames: int) -> int | None:
        if self.clip_frames is None or num_frames <= self.clip_frames:
            return self.window
        # the mean over more frames than in training moves less; half a clip to either side is as many as there
        half = self.clip_frames // 2
        return half if self.window is None else min(half, self.window)


class TrackVAE(nn.Module):
    """One network: the variational autoencoder of one kind of track (pose, blink, or both).

    Args:
        sizes: Its sizes.
        dropout: Dropout of the encoder in training.
        window: Farthest key that the decoder sees in evaluation mode [frames]; None: every key is.
        clip_frames: Longest clip in training; in longer ones a frame sees no more others than in training. None: the
            window alone counts.
        with_encoder: Whether the encoder exists.
    """

    def __init__(
        self, sizes: TrackSizes, dropout: float, window: int | None, clip_frames: int | None, with_encoder: bool
    ) -> None:
        super().__init__()
        self.encoder = TrackEncoder(sizes, dropout) if with_encoder else None
        self.decoder = TrackDecoder(sizes, window, clip_frames)
