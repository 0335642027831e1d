"""Random regions of images."""

import torch

from diffusers_dawn.geometry.flow import affine_from_covariance
from diffusers_dawn.models.region_motion import Regions


def make_regions(batch: int, count: int, seed: int = 0) -> Regions:
    root = 0.3 * torch.randn(batch, count, 2, 2, generator=torch.Generator().manual_seed(seed))
    covar = root @ root.mT + 1e-3 * torch.eye(2)
    shift = torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 1.6 - 0.8
    return Regions(shift, covar, affine_from_covariance(covar), torch.zeros(batch, count, 1, 1))
