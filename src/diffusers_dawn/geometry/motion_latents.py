"""Convert motion to the denoiser's latents and back (paper section 3.3)."""

import torch

from .flow import cell_centres


def latents_from_motion(flow: torch.Tensor, occlusion: torch.Tensor, flow_scale: float | None = None) -> torch.Tensor:
    """Join flow and occlusion to latents.

    Args:
        flow: Positions in the source image (B, F, h, w, 2) in grid_sample units.
        occlusion: Visibility (B, F, 1, h, w) in [0, 1].
        flow_scale: None: the latents hold positions, as published. A number: they hold displacements from the middles
            of the cells, where nothing moves, times this number. Positions vary by 1 across the picture and by some
            hundredths in time, so under noise there is little to see of how anything moves; displacements of about
            0.25, the largest of heads, times 4 fill the range of the latents.

    Returns:
        Float32 latents (B, 3, F, h, w): flow x, flow y, 2 * occlusion - 1.
    """
    flow = flow.float()
    if flow_scale is not None:
        flow = flow_scale * (flow - cell_centres(*flow.shape[2:4], device=flow.device))
    return torch.cat((flow.permute(0, 4, 1, 2, 3), 2 * occlusion.float().transpose(1, 2) - 1), dim=1)


def motion_from_latents(latents: torch.Tensor, flow_scale: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Take flow and occlusion out of latents; undoes `latents_from_motion`.

    Args:
        latents: Latents (B, 3, F, h, w).
        flow_scale: As they were made.

    Returns:
        Flow (B, F, h, w, 2) in grid_sample units, and occlusion (B, F, 1, h, w) in [0, 1]; float32, because half
        precision is too coarse for positions.
    """
    flow = latents[:, :2].permute(0, 2, 3, 4, 1).float()
    if flow_scale is not None:
        flow = flow / flow_scale + cell_centres(*flow.shape[2:4], device=flow.device)
    occlusion = ((latents[:, 2:].float() + 1) / 2).clamp(0, 1).transpose(1, 2)
    return flow, occlusion
