"""Convolution blocks for images: plain for training, folded for inference.

The decoder's blocks have a `folded` method besides, which returns a function that computes the same with the batch
norms folded into the convolutions (and other savings that need fixed weights). Folding costs far less than one use,
so nothing is stored: fold, use, forget.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

ImageFunction = Callable[[torch.Tensor], torch.Tensor]


def batch_norm(norm: nn.BatchNorm2d, features: torch.Tensor) -> torch.Tensor:
    """Apply a batch norm; a frozen one uses and keeps its running statistics, in train mode too.

    Args:
        norm: The layer; it is frozen when its weight does not require gradients.
        features: Features (B, C, H, W).

    Returns:
        Normalised features (B, C, H, W).
    """
    if norm.weight.dtype != torch.float32:
        # under autocast features may have another half precision, which torch mixes with float32 only
        features = features.to(norm.weight.dtype)
    if norm.weight.requires_grad or not norm.training:
        return norm(features)
    return functional.batch_norm(
        features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def uses_running_statistics(norm: nn.BatchNorm2d) -> bool:
    """Tell whether a batch norm is a fixed affine map, so that it may be folded.

    Args:
        norm: The layer.

    Returns:
        True in eval mode, and when the layer is frozen.
    """
    return not norm.training or not norm.weight.requires_grad


def scale_and_offset(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Write a batch norm with fixed statistics as scale·x + offset.

    Args:
        norm: The layer.

    Returns:
        Scale and offset, float32, (C,) each.
    """
    scale = norm.weight.float() * torch.rsqrt(norm.running_var.float() + norm.eps)
    return scale, norm.bias.float() - norm.running_mean.float() * scale


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold a batch norm into the convolution before it.

    Args:
        conv: The convolution.
        norm: The batch norm of its output.

    Returns:
        Weight (O, I, k, k) and bias (O,) of the equivalent convolution, float32.
    """
    scale, offset = scale_and_offset(norm)
    return conv.weight.float() * scale[:, None, None, None], conv.bias.float() * scale + offset


def channels_last(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Store a weight the way convolutions of channels-last images want it.

    Args:
        weight: Weight (O, I, k, k).
        dtype: Wanted dtype.

    Returns:
        The weight in channels-last memory.
    """
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def convolution_by_rows(conv: nn.Conv2d) -> ImageFunction:
    """Return a convolution with few outputs and a large kernel as a function for inference.

    Processors work on blocks of 16 and more output channels. The rows of the kernel, taken as channels of a flat
    convolution, fill them; the shifted sum of the rows is cheap, and done in float32.

    Args:
        conv: A convolution with an odd square kernel, padded to keep the image's size.

    Returns:
        A function from features (B, I, H, W) to float32 features (B, O, H, W).
    """
    channels, rows, padding = conv.out_channels, conv.kernel_size[0], conv.padding
    weight = conv.weight.permute(2, 0, 1, 3).flatten(0, 1)[:, :, None]  # (rows·O, I, 1, columns)
    weight, bias = channels_last(weight, conv.weight.dtype), conv.bias.float()[:, None, None]

    def convolve(features: torch.Tensor) -> torch.Tensor:
        height = features.shape[2]
        by_row = functional.conv2d(features, weight, padding=padding)  # (B, rows·O, H + rows - 1, W)
        total = bias
        for row in range(rows):
            total = total + by_row[:, row * channels : (row + 1) * channels, row : row + height].float()
        return total

    return convolve


class ConvNormRelu(nn.Module):
    """Convolution, batch norm, relu; the image keeps its size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Args:
            features: Features (B, I, H, W).

        Returns:
            Features (B, O, H, W).
        """
        return functional.relu(batch_norm(self.norm, self.conv(features)))


class UpBlock(nn.Module):
    """Nearest-neighbour doubling, convolution, batch norm, relu."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Args:
            features: Features (B, I, H, W).

        Returns:
            Features (B, O, 2·H, 2·W).
        """
        doubled = functional.interpolate(features, scale_factor=2, mode="nearest")
        return functional.relu(batch_norm(self.norm, self.conv(doubled)))

    def folded(self) -> ImageFunction:
        """Return the block as a function for inference.

        On a doubled image a 3x3 kernel meets only 2x2 different pixels, so each of the four output phases is a 2x2
        convolution of the small image: 4/9 of the arithmetic.
        """
        weight, bias = fold_batch_norm(self.conv, self.norm)
        dtype, channels = self.conv.weight.dtype, self.conv.out_channels
        weight, bias = channels_last(phase_kernels(weight), dtype), bias.to(dtype).repeat(4)

        def double(features: torch.Tensor) -> torch.Tensor:
            batch, _, height, width = features.shape
            phases = functional.conv2d(features, weight, bias, padding=1).relu_()  # (B, 4·O, H + 1, W + 1)
            doubled = phases.new_empty(batch, height, 2, width, 2, channels)
            for row in (0, 1):
                for column in (0, 1):
                    phase = phases.narrow(1, (2 * row + column) * channels, channels).permute(0, 2, 3, 1)
                    doubled[:, :, row, :, column] = phase[:, row : row + height, column : column + width]
            return doubled.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)

        return double


def phase_kernels(weight: torch.Tensor) -> torch.Tensor:
    """Split a 3x3 kernel for doubled images into 2x2 kernels for the images before doubling.

    Args:
        weight: Weight (O, I, 3, 3).

    Returns:
        Weight (4·O, I, 2, 2): even and odd rows, within these even and odd columns, within these O.
    """
    # (phase, tap of the small image, tap of the doubled image)
    taps = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    return torch.einsum("oiyx,pay,qbx->pqoiab", weight, taps, taps).flatten(0, 2)


class ImageResidualBlock(nn.Module):
    """Pre-activation residual block: twice batch norm, relu, convolution; then the input is added."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Args:
            features: Features (B, C, H, W).

        Returns:
            Features (B, C, H, W).
        """
        hidden = self.conv1(functional.relu(batch_norm(self.norm1, features)))
        return features + self.conv2(functional.relu(batch_norm(self.norm2, hidden)))

    def folded(self) -> ImageFunction:
        """Return the block as a function for inference."""
        dtype = self.conv1.weight.dtype
        scale, offset = (vector.to(dtype)[:, None, None] for vector in scale_and_offset(self.norm1))
        weight1, bias1 = fold_batch_norm(self.conv1, self.norm2)
        weight1, bias1 = channels_last(weight1, dtype), bias1.to(dtype)
        weight2, bias2 = channels_last(self.conv2.weight, dtype), self.conv2.bias

        def refine(features: torch.Tensor) -> torch.Tensor:
            hidden = torch.addcmul(offset, features, scale).relu_()
            hidden = functional.conv2d(hidden, weight1, bias1, padding=1).relu_()
            return functional.conv2d(hidden, weight2, bias2, padding=1).add_(features)

        return refine


class Hourglass(nn.Module):
    """Encoder and decoder with skip connections; the input itself is the last skip.

    Args:
        in_channels: Channels of the input.
        channels: Widths from full resolution (of the last up block) to the innermost level.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]):
        super().__init__()
        inputs = [in_channels, *channels[1:-1]]
        self.down_blocks = nn.ModuleList(ConvNormRelu(i, o) for i, o in zip(inputs, channels[1:], strict=True))
        self.up_blocks = nn.ModuleList()
        for level in range(len(channels) - 1, 0, -1):
            # all but the innermost level get the skip connection besides
            widened = channels[level] * (1 if level == len(channels) - 1 else 2)
            self.up_blocks.append(UpBlock(widened, channels[level - 1]))
        self.out_channels = channels[0] + in_channels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Apply the network.

        Args:
            image: Images (B, C, H, W); both sides divisible by 2 to the power of the number of levels.

        Returns:
            Features (B, out_channels, H, W).
        """
        skips = [image]
        for block in self.down_blocks:
            skips.append(functional.avg_pool2d(block(skips[-1]), 2))
        features = skips.pop()
        for block in self.up_blocks:
            features = torch.cat([block(features), skips.pop()], dim=1)
        return features
