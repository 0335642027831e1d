"""How near pictures are to the truth, and how sharp: PSNR, SSIM, gradient energy, each frame by itself."""

import torch
from torch.nn import functional

# Wang et al. 2004, section III.C
SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
# better than 8 bits can tell: what equal pictures count in means
LARGEST_PSNR_DB = 100.0


def psnr(prediction: torch.Tensor, target: torch.Tensor, box_px: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the peak signal-to-noise ratio of every frame: -10 log10 of the mean squared error.

    From 0 dB (black against white) to infinity (equal); higher is better.

    Args:
        prediction: Images (..., C, H, W) in [0, 1].
        target: Images (..., C, H, W) in [0, 1].
        box_px: x_min, x_max, y_min, y_max (4,) or (..., 4) [px]: only pixels that it touches count; None: all do.

    Returns:
        Float32 tensor (...) [dB]; infinite where the frames are equal.

    Raises:
        ValueError: The shapes do not fit, or a box lies outside of the image.
    """
    prediction, target = _image_pair(prediction, target)
    error = (prediction - target).square().mean(dim=-3)
    return -10 * _mean_in_box(error, box_px, margin_px=0).log10()


def ssim(prediction: torch.Tensor, target: torch.Tensor, box_px: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the structural similarity of every frame (SSIM; Wang et al. 2004, equation 13).

    Gaussian windows of 11 px that lie inside the image, the mean over channels and windows. From -1 to 1 (equal);
    higher is better.

    Args:
        prediction: Images (..., C, H, W) in [0, 1], H and W at least 11.
        target: Images (..., C, H, W) in [0, 1].
        box_px: x_min, x_max, y_min, y_max (4,) or (..., 4) [px]: only windows centred in it count; None: all do.

    Returns:
        Float32 tensor (...); 1 where the frames are equal.

    Raises:
        ValueError: The shapes do not fit, the images are too small, or a box holds no window's centre.
    """
    prediction, target = _image_pair(prediction, target)
    if min(prediction.shape[-2:]) < SSIM_WINDOW_PX:
        raise ValueError(
            f"`prediction` is {tuple(prediction.shape)}, must have at least {SSIM_WINDOW_PX} rows and columns"
        )
    # differences from mid-grey change no variance, but keep its digits
    first, second = prediction - 0.5, target - 0.5
    products = torch.stack([first, second, first.square(), second.square(), first * second])
    mean1, mean2, square1, square2, mixed = _gaussian_means(products)
    variance1, variance2 = (square1 - mean1.square()).clamp(min=0), (square2 - mean2.square()).clamp(min=0)
    covariance = mixed - mean1 * mean2
    mean1, mean2 = mean1 + 0.5, mean2 + 0.5
    luminance = (2 * mean1 * mean2 + SSIM_K1**2) / (mean1.square() + mean2.square() + SSIM_K1**2)
    structure = (2 * covariance + SSIM_K2**2) / (variance1 + variance2 + SSIM_K2**2)
    return _mean_in_box((luminance * structure).mean(dim=-3), box_px, margin_px=SSIM_WINDOW_PX // 2)


def gradient_energy(images: torch.Tensor) -> torch.Tensor:
    """Measure the sharpness of every frame: the mean squared difference of neighbouring pixels.

    Args:
        images: Images (..., C, H, W) in [0, 1], H and W at least 2.

    Returns:
        Float32 tensor (...): horizontal plus vertical; 0 for a plain image, smaller for a blurred than a sharp one.

    Raises:
        ValueError: The shape does not fit.
    """
    images = torch.as_tensor(images).float()
    if images.ndim < 3 or min(images.shape[-2:]) < 2:
        raise ValueError(f"`images` is {tuple(images.shape)}, must be (..., C, H, W) with at least 2x2 pixels")
    return sum(images.diff(dim=dim).square().mean(dim=(-3, -2, -1)) for dim in (-1, -2))


def _image_pair(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, target = torch.as_tensor(prediction).float(), torch.as_tensor(target).float()
    if prediction.ndim < 3 or prediction.shape != target.shape:
        raise ValueError(
            f"`prediction` is {tuple(prediction.shape)} and `target` {tuple(target.shape)}, must be equal: "
            "(..., C, H, W)"
        )
    return prediction, target.to(prediction.device)


def _gaussian_means(images: torch.Tensor) -> torch.Tensor:
    # (..., H, W) -> (..., H - 10, W - 10)
    offsets = torch.arange(SSIM_WINDOW_PX, device=images.device) - SSIM_WINDOW_PX // 2
    line = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA_PX**2))
    line = line / line.sum()
    planes = images.reshape(-1, 1, *images.shape[-2:])
    with torch.autocast(images.device.type, enabled=False):
        planes = functional.conv2d(functional.conv2d(planes, line[None, None, None]), line[None, None, :, None])
    return planes.view(*images.shape[:-2], *planes.shape[-2:])


def _mean_in_box(values: torch.Tensor, box_px: torch.Tensor | None, margin_px: int) -> torch.Tensor:
    """Average values (..., h, w) of the pixels that a box touches; `margin_px` are missing at each border."""
    if box_px is None:
        return values.mean(dim=(-2, -1))
    box_px = torch.as_tensor(box_px).to(values.device).float()
    if box_px.shape != (4,) and box_px.shape != (*values.shape[:-2], 4):
        raise ValueError(f"`box_px` is {tuple(box_px.shape)}, must be (4,) or {(*values.shape[:-2], 4)}")
    column, row = (
        torch.arange(count, device=values.device) + margin_px for count in (values.shape[-1], values.shape[-2])
    )
    x_min, x_max, y_min, y_max = box_px[..., None].unbind(-2)
    columns = (column >= x_min.floor()) & (column < x_max.ceil())
    rows = (row >= y_min.floor()) & (row < y_max.ceil())
    inside = (rows[..., :, None] & columns[..., None, :]).expand_as(values)
    count = inside.sum(dim=(-2, -1))
    if (count == 0).any():
        raise ValueError(f"`box_px` {box_px.tolist()} holds no pixel that counts")
    return torch.where(inside, values, 0.0).sum(dim=(-2, -1)) / count
