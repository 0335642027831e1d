"""Keep a picture's background still while the person in it moves."""

import torch
from torch.nn import functional

from .flow import cell_centres, warp_frames

# what lies so near to a person moves along, such as the ends of hair; share of the picture's width
NEAR_SHARE = 0.03


def keep_background(
    flow: torch.Tensor, occlusion: torch.Tensor, person: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the motion out of what shows no person, neither in the picture nor where it is taken from.

    Args:
        flow: Positions in the picture (B, F, h, w, 2) in grid_sample units.
        occlusion: Visibility (B, F, 1, h, w) in [0, 1].
        person: How much of every cell of the picture belongs to a person (B, 1, h, w) in [0, 1].

    Returns:
        Flow and occlusion, the same shapes; near the person they fade to what was given.
    """
    reach = max(1, round(NEAR_SHARE * int(person.shape[-1])))
    near = functional.max_pool2d(person, 2 * reach + 1, stride=1, padding=reach)
    # where the person came to, and where they were: what they uncover is to be painted
    involved = torch.maximum(warp_frames(near, flow, border="repeated"), near[:, None]).flatten(0, 1)
    involved = functional.avg_pool2d(involved, 3, stride=1, padding=1, count_include_pad=False)
    still = 1 - involved.unflatten(0, flow.shape[:2])  # (B, F, 1, h, w)
    centres = cell_centres(*flow.shape[2:4], device=flow.device).expand_as(flow)
    flow = torch.lerp(flow, centres, still.permute(0, 1, 3, 4, 2))
    return flow, torch.lerp(occlusion, torch.ones_like(occlusion), still)
