"""Latents shared by several frames: a clip is cut into pieces of equal length; the last may be shorter."""

import torch
from torch.nn import functional


def mean_of_pieces(values: torch.Tensor, stride: int, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Give every frame the mean over its piece.

    Args:
        values: Tensor (B, F, Z).
        stride: Frames per piece.
        frame_mask: Bool tensor (B, F), True where a frame counts; None: all do.

    Returns:
        Tensor (B, F, Z); 0 where no frame of the piece counts. With a stride of 1 the values as they are.
    """
    if stride == 1:
        return values
    num_frames = values.shape[1]
    piece = torch.arange(num_frames, device=values.device) // stride
    inside = torch.ones_like(values[..., :1]) if frame_mask is None else frame_mask[..., None].to(values.dtype)
    # where, not a product: what padding gives may be infinite
    total, count = (
        part.new_zeros(len(part), _num_pieces(num_frames, stride), part.shape[2]).index_add(1, piece, part)
        for part in (torch.where(inside > 0, values, 0.0), inside)
    )
    return (total / count.clamp(min=1))[:, piece]


def spread_pieces(values: torch.Tensor, stride: int) -> torch.Tensor:
    """Change linearly from the middle frame of each piece to that of the next.

    Args:
        values: Tensor (B, F, Z), of which the middle frames of the pieces count.
        stride: Frames per piece.

    Returns:
        Tensor (B, F, Z); constant before the first middle and after the last. With a stride of 1 the values as they
        are.
    """
    if stride == 1:
        return values
    num_frames = values.shape[1]
    middles = torch.arange(_num_pieces(num_frames, stride), device=values.device) * stride + stride // 2
    of_pieces = values[:, middles.clamp(max=num_frames - 1)]
    spread = functional.interpolate(of_pieces.transpose(1, 2), scale_factor=stride, mode="linear", align_corners=False)
    return spread.transpose(1, 2)[:, :num_frames]


def _num_pieces(num_frames: int, stride: int) -> int:
    return (num_frames + stride - 1) // stride
