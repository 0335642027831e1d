"""From features, pose and blink to the conditions of the denoiser (paper section 3.3)."""

from typing import NamedTuple

import torch


class Conditions(NamedTuple):
    """What the denoiser is told of every frame.

    Attributes:
        audio_features: Speech features at 25 fps (B, F, D).
        pose: Pose minus that of the reference (B, F, 6) [deg, and units of the face state].
        blink: Eye openness minus that of the reference (B, F, 2).
    """

    audio_features: torch.Tensor
    pose: torch.Tensor
    blink: torch.Tensor


def relative_conditions(
    audio_features: torch.Tensor,
    pose: torch.Tensor,
    blink: torch.Tensor,
    reference_pose: torch.Tensor,
    reference_blink: torch.Tensor,
) -> Conditions:
    """Express pose and blink as differences to the reference image.

    Args:
        audio_features: Speech features at 25 fps (B, F, D).
        pose: Pose per frame (B, F, 6), as `records.POSE_NAMES`.
        blink: Eye openness per frame (B, F, 2).
        reference_pose: Pose of the reference image (B, 6).
        reference_blink: Eye openness of the reference image (B, 2).

    Returns:
        The conditions.
    """
    return Conditions(audio_features, pose - reference_pose[:, None], blink - reference_blink[:, None])


def null_conditions(conditions: Conditions, frame_mask: torch.Tensor | None = None) -> Conditions:
    """Replace conditions by the null condition, which is all zeros.

    Args:
        conditions: The conditions.
        frame_mask: Bool tensor (B, F), True where a frame loses its conditions, or (B, F, 3), where it loses speech,
            pose or blink; None: every frame loses all.

    Returns:
        Conditions of the same shapes.
    """
    if frame_mask is None:
        return Conditions(*(torch.zeros_like(condition) for condition in conditions))
    masks = [frame_mask] * len(conditions) if frame_mask.ndim == 2 else frame_mask.unbind(-1)
    return Conditions(
        *(condition.masked_fill(mask[..., None], 0) for condition, mask in zip(conditions, masks, strict=True))
    )
