"""Layers and tensors as if trained, the same in every run."""

import torch


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give gains and biases values as if trained, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def clip(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
