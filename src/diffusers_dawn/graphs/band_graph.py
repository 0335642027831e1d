"""Attention over frames in operations that ONNX has, for any number of frames."""

import torch

from ..models.attention import BLOCK_SIZE
from ..models.video_attention import FrameContext, VideoAttention

# takes a key's weight away: finite, as a softmax of nothing is no number
UNSEEN = -1e9


def attend_by_gathering(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    offset_bias: torch.Tensor,
    reach: int,
    window: torch.Tensor | int,
    scale: float,
) -> torch.Tensor:
    """Attend over frames as `models.attention.attend_in_band` does, without loops, padding or unfolding.

    Args:
        query: Tensor (N, heads, F, D).
        key: Tensor (N, heads, F, D).
        value: Tensor (N, heads, F, D).
        offset_bias: Bias of every offset key - query (heads, 2 * (reach + BLOCK_SIZE) - 1).
        reach: Largest window [frames]; blocks of queries see so many keys to either side.
        window: Keys farther than this from the query are not seen [frames], at most `reach`.
        scale: Factor of the scores.

    Returns:
        Tensor (N, heads, F, D).
    """
    num_frames = query.shape[2]
    num_blocks = (num_frames + BLOCK_SIZE - 1) // BLOCK_SIZE
    first = torch.arange(num_blocks)[:, None] * BLOCK_SIZE
    queries = first + torch.arange(BLOCK_SIZE)  # (blocks, queries)
    keys = first + torch.arange(-reach, BLOCK_SIZE + reach)  # (blocks, keys)
    offset = torch.arange(-reach, BLOCK_SIZE + reach) - torch.arange(BLOCK_SIZE)[:, None]
    inside = (keys >= 0) & (keys < num_frames)
    seen = (offset.abs() <= window) & inside[:, None]  # (blocks, queries, keys)
    bias = offset_bias[:, offset + reach + BLOCK_SIZE - 1][:, None]  # (heads, 1, queries, keys)
    bias = torch.where(seen, bias, torch.full((), UNSEEN, dtype=bias.dtype))
    # frames beyond the clip repeat its ends; (N, heads, blocks, queries or keys, D)
    queries, keys = (index.clamp(min=0).clamp(max=num_frames - 1) for index in (queries, keys))
    scores = query[:, :, queries] @ key[:, :, keys].transpose(-1, -2) * scale + bias
    attended = scores.softmax(-1) @ value[:, :, keys]
    return attended.flatten(2, 3)[:, :, :num_frames]


def attend_to_all(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offset_bias: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attend from every frame to every frame.

    Args:
        query: Tensor (N, heads, F, D).
        key: Tensor (N, heads, F, D).
        value: Tensor (N, heads, F, D).
        offset_bias: Bias of every offset key - query (heads, 2 * F - 1).
        scale: Factor of the scores.

    Returns:
        Tensor (N, heads, F, D).
    """
    num_frames = query.shape[2]
    frame = torch.arange(num_frames)
    bias = offset_bias[:, frame[None] - frame[:, None] + num_frames - 1]
    return (query @ key.transpose(-1, -2) * scale + bias).softmax(-1) @ value


def rotate_by_sums(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate as `models.attention.rotate_pairs` does, without complex numbers, which ONNX has not.

    Args:
        x: Tensor (..., D).
        cos: Cosines of the angles, broadcastable to (..., R / 2) with R <= D.
        sin: Sines, the same shape.

    Returns:
        Tensor (..., D).
    """
    rotary_dim = 2 * cos.shape[-1]
    first, second = x[..., 0:rotary_dim:2], x[..., 1:rotary_dim:2]
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1).flatten(-2)
    return torch.cat((rotated, x[..., rotary_dim:]), dim=-1)


class GatheringTemporalProcessor:
    """Attention of every pixel over the frames inside the window, by `attend_by_gathering`."""

    def __call__(self, attn: VideoAttention, hidden_states: torch.Tensor, frames: FrameContext) -> torch.Tensor:
        """Map pixels of whole clips (B, F, P, C) to the same shape."""
        query, key, value = attn.project(hidden_states.transpose(1, 2))  # (B, P, F, heads, D)
        query, key = (rotate_by_sums(part, frames.cos, frames.sin) for part in (query, key))
        query, key, value = (part.flatten(0, 1).transpose(1, 2) for part in (query, key, value))
        (offset_bias, window), scale = frames.band, attn.head_dim**-0.5
        if window is None:
            attended = attend_to_all(query, key, value, offset_bias, scale)
        else:
            attended = attend_by_gathering(query, key, value, offset_bias, window, window, scale)
        attended = attended.transpose(1, 2).flatten(2).unflatten(0, (hidden_states.shape[0], -1))
        return attn.to_out[0](attended).transpose(1, 2)
