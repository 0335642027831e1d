"""How much memory a clip needs, before it is rendered."""

from collections.abc import Iterable

import torch

# Fitted to peaks measured at the published size on a CPU (benchmarks/denoiser.py prints them beside the estimate): the
# widest block holds about this many copies of the first convolution's output, a block's conditions this many values
# per frame and channel, and convolutions work in this much
ACTIVATION_COPIES = 10
CONDITION_VALUES = 270
WORKSPACE_BYTES = 50 * 2**20


def weight_bytes(modules: Iterable[torch.nn.Module]) -> int:
    """Sum the sizes of all tensors of modules [bytes]."""
    return sum(tensor.nbytes for module in modules for tensor in module.state_dict().values())


def denoising_bytes(denoiser: torch.nn.Module, num_frames: int, height: int, width: int) -> int:
    """Estimate what denoising one clip holds beside the weights; it grows linearly with frames.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        num_frames: Frames F.
        height: Height of the motion h.
        width: Width of the motion w.

    Returns:
        Bytes.
    """
    channels = denoiser.config.block_out_channels
    values = ACTIVATION_COPIES * height * width * channels[0] + CONDITION_VALUES * sum(channels)
    return WORKSPACE_BYTES + num_frames * values * torch.finfo(denoiser.dtype).bits // 8
