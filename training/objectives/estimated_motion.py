"""The motion that a trained LFG sees in frames, which the denoiser learns."""

import torch

from diffusers_dawn.geometry.motion_latents import latents_from_motion
from diffusers_dawn.models.lfg import LatentFlowGenerator


def estimate_motion(
    lfg: LatentFlowGenerator, reference: torch.Tensor, frames: torch.Tensor, chunk_size: int = 16
) -> torch.Tensor:
    """Estimate the motion of all frames of clips from their reference image (paper section 3.2).

    Args:
        lfg: The frozen latent flow generator.
        reference: Images (B, 3, H, W) in [0, 1].
        frames: Frames (B, F, 3, H, W) in [0, 1].
        chunk_size: Pairs that go through the network at once.

    Returns:
        Motion (B, 3, F, h, w), as latents that hold positions; float32, without gradients.
    """
    num_frames = frames.shape[1]
    source = reference[:, None].expand_as(frames).flatten(0, 1)
    parts = []
    with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
        pairs = zip(source.split(chunk_size), frames.flatten(0, 1).split(chunk_size), strict=True)
        for one, other in pairs:
            motion = lfg.estimate_motion(one.float(), other.float())
            parts.append(latents_from_motion(motion.flow[:, None], motion.occlusion[:, None]))
    return torch.cat(parts).unflatten(0, (-1, num_frames))[:, :, :, 0].transpose(1, 2)
