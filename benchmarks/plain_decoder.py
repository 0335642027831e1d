"""The decoder as its definition reads: frame by frame, with the source image encoded again for every frame."""

import torch
from torch.nn import functional

from diffusers_dawn import LatentFlowGenerator
from diffusers_dawn.models import blocks_2d


def convolve_normalise_rectify(block: blocks_2d.ConvNormRelu | blocks_2d.UpBlock, x: torch.Tensor) -> torch.Tensor:
    """Apply convolution, batch norm and relu, one after the other."""
    return functional.relu(block.norm(block.conv(x)))


def warp(x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample (B, C, H, W) at float32 positions (B, h, w, 2), resized to H x W."""
    if flow.shape[1:3] != x.shape[2:]:
        flow = functional.interpolate(flow.permute(0, 3, 1, 2), x.shape[2:], mode="bilinear").permute(0, 2, 3, 1)
    return functional.grid_sample(x.float(), flow, align_corners=False).to(x.dtype)


def resize(occlusion: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Resize an occlusion map (B, 1, h, w) to the size of x (B, C, H, W)."""
    if occlusion.shape[2:] != x.shape[2:]:
        occlusion = functional.interpolate(occlusion, x.shape[2:], mode="bilinear")
    return occlusion.to(x.dtype)


def blend(x: torch.Tensor, warped: torch.Tensor, occlusion: torch.Tensor) -> torch.Tensor:
    """Take the warped features where they are visible, else what was made up."""
    occlusion = resize(occlusion, x)
    return warped * occlusion + x * (1 - occlusion)


def decode_frame(
    model: LatentFlowGenerator, image: torch.Tensor, flow: torch.Tensor, occlusion: torch.Tensor
) -> torch.Tensor:
    """Encode the source and draw one frame from it.

    Args:
        model: The model whose parameters are used.
        image: Source images (B, 3, H, W) in [0, 1].
        flow: Positions in the images (B, h, w, 2) in grid_sample units.
        occlusion: Visibility (B, 1, h, w) in [0, 1].

    Returns:
        Frames (B, 3, H, W) in [0, 1].
    """
    skips = [convolve_normalise_rectify(model.encoder.first, image)]
    for block in model.encoder.down_blocks:
        skips.append(functional.avg_pool2d(convolve_normalise_rectify(block, skips[-1]), 2))
    x = warp(skips[-1], flow)
    x = x * resize(occlusion, x)
    for block in model.decoder.bottleneck:
        hidden = block.conv1(functional.relu(block.norm1(x)))
        x = x + block.conv2(functional.relu(block.norm2(hidden)))
    for block, skip in zip(model.decoder.up_blocks, skips[:0:-1], strict=True):
        x = blend(x, warp(skip, flow), occlusion)
        x = convolve_normalise_rectify(block, functional.interpolate(x, scale_factor=2))
    x = blend(x, warp(skips[0], flow), occlusion)
    return blend(model.decoder.final(x).sigmoid(), warp(image, flow), occlusion)


def decode_motion(
    model: LatentFlowGenerator, image: torch.Tensor, flow: torch.Tensor, occlusion: torch.Tensor
) -> torch.Tensor:
    """Draw the frames of a clip one by one.

    Args:
        model: The model whose parameters are used.
        image: Source images (B, 3, H, W) in [0, 1].
        flow: Positions in the images (B, F, h, w, 2) in grid_sample units.
        occlusion: Visibility (B, F, 1, h, w) in [0, 1].

    Returns:
        Frames (B, F, 3, H, W) in [0, 1].
    """
    motions = zip(flow.unbind(1), occlusion.unbind(1), strict=True)
    return torch.stack([decode_frame(model, image, *motion) for motion in motions], dim=1)
