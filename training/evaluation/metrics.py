"""Distances between clips, and what can be told of one clip, without downloaded networks.

All take tensors or arrays. Images are (..., C, H, W) in [0, 1], every frame by itself; tracks
have time as their last axis, unless it says otherwise.
"""

import torch
from torch.nn import functional

# Wang et al. 2004, section III.C
SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
# a blink begins below the first share of the usual openness, and is over above the second
CLOSED_SHARE, OPEN_SHARE = 0.5, 0.7


def psnr(prediction: torch.Tensor, target: torch.Tensor, box_px: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the peak signal-to-noise ratio of every frame.

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
    """Compute the structural similarity of every frame (Wang et al. 2004, equation 13).

    Gaussian windows of 11 px that lie inside the image, the mean over channels and windows.

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


def pearson_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the correlation of two tracks over time.

    Args:
        first: Tracks (..., F), F at least 2.
        second: Tracks (..., F).

    Returns:
        Float32 tensor (...) in [-1, 1] on the CPU; NaN where a track is constant, as it is undefined there.

    Raises:
        ValueError: The shapes do not fit.
    """
    first, second = _track_pair(first, second)
    # rounding would give a constant a direction
    is_constant = (first.amin(-1) == first.amax(-1)) | (second.amin(-1) == second.amax(-1))
    first, second = (track - track.mean(dim=-1, keepdim=True) for track in (first, second))
    correlation = (first * second).sum(dim=-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    return correlation.clamp(-1, 1).masked_fill(is_constant, torch.nan).float()


def best_lag(first: torch.Tensor, second: torch.Tensor, max_lag: int) -> tuple[int, float]:
    """Find the shift in time at which two tracks agree most.

    Args:
        first: Track (F,).
        second: Track (F,).
        max_lag: Largest shift in either direction [frames], in 0..F - 2.

    Returns:
        The lag [frames], positive where the second track comes later, and the correlation there; of equal ones the
        lag nearest to 0. The correlation is NaN, and the lag 0, if a track is constant.

    Raises:
        ValueError: The shapes do not fit, or `max_lag` is out of range.
    """
    first, second = _track_pair(first, second)
    num_frames = first.shape[-1]
    if first.ndim != 1:
        raise ValueError(f"`first` is {tuple(first.shape)}, must be (F,)")
    if not 0 <= max_lag <= num_frames - 2:
        raise ValueError(f"`max_lag` is {max_lag}, must be within 0 and {num_frames - 2}")
    best, highest = 0, float("nan")
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        early, late = max(-lag, 0), max(lag, 0)
        common = num_frames - abs(lag)
        found = float(pearson_correlation(first[early : early + common], second[late : late + common]))
        if found > highest or highest != highest and found == found:
            best, highest = lag, found
    return best, highest


def blink_rate(blink: torch.Tensor, fps: float) -> float:
    """Count blinks per second.

    A blink begins when the mean openness of both eyes falls below half of its usual value, the median over the clip,
    and is over when it rises above 0.7 of it: openness that trembles around one threshold is not counted twice. Eyes
    that are closed in the first frame do not blink until they were open.

    Args:
        blink: Eye openness (F, 2).
        fps: Frames per second.

    Returns:
        Blinks per second.

    Raises:
        ValueError: The shape does not fit, or `fps` is not positive.
    """
    blink = torch.as_tensor(blink).float()
    if blink.ndim != 2 or blink.shape[1] != 2 or len(blink) == 0:
        raise ValueError(f"`blink` is {tuple(blink.shape)}, must be (F, 2) with F at least 1")
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}, must be positive")
    openness = blink.mean(dim=1)
    usual = openness.median()
    falls = (openness < CLOSED_SHARE * usual).tolist()
    rises = (openness > OPEN_SHARE * usual).tolist()
    num_blinks, is_open = 0, False
    for closes, opens in zip(falls, rises, strict=True):
        num_blinks += is_open and closes
        is_open = opens or (is_open and not closes)
    return num_blinks * fps / len(blink)


def _image_pair(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, target = torch.as_tensor(prediction).float(), torch.as_tensor(target).float()
    if prediction.ndim < 3 or prediction.shape != target.shape:
        raise ValueError(
            f"`prediction` is {tuple(prediction.shape)} and `target` {tuple(target.shape)}, must be equal: "
            "(..., C, H, W)"
        )
    return prediction, target.to(prediction.device)


def _track_pair(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # small and worth float64, which not every device has: the spread may be little beside the mean
    first, second = torch.as_tensor(first).cpu().double(), torch.as_tensor(second).cpu().double()
    if first.ndim < 1 or first.shape != second.shape or first.shape[-1] < 2:
        raise ValueError(
            f"`first` is {tuple(first.shape)} and `second` {tuple(second.shape)}, must be equal: (..., F) with F at "
            "least 2"
        )
    return first, second


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
