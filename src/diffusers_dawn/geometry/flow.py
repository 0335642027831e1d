"""Geometry of images and motions: grids, warping, affine motions of regions, the face mask.

Coordinates are those of `grid_sample`: x to the right, y down, the image spans [-1, 1]. Grids put -1 and 1 at the
centres of the outermost cells, while sampling takes them as the outer edges (`align_corners=False`); the published
weights were trained with both, so both stay. Everything is computed in float32, also under autocast: a bfloat16
coordinate is off by up to half a pixel of a 128 px image.
"""

import torch
from torch.nn import functional

SMALLEST_VARIANCE = 1e-12
"""Below this (grid units squared) a region's spread is treated as a point."""


def coordinate_grid(height: int, width: int, device: torch.device | str | None = None) -> torch.Tensor:
    """List the coordinates of all cells, endpoints included.

    Args:
        height: Number of rows.
        width: Number of columns.
        device: Where the grid lives.

    Returns:
        Float32 tensor (height, width, 2) of x, y in [-1, 1].
    """
    x = torch.linspace(-1, 1, width, device=device)
    y = torch.linspace(-1, 1, height, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def cell_centres(height: int, width: int, device: torch.device | str | None = None) -> torch.Tensor:
    """List where the middles of all cells lie in the image: a flow that moves nothing, for `grid_sample`.

    Args:
        height: Number of rows.
        width: Number of columns.
        device: Where the grid lives.

    Returns:
        Float32 tensor (height, width, 2) of x, y in (-1, 1).
    """
    x, y = (
        (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (2 / count) - 1 for count in (width, height)
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def resize_flow(flow: torch.Tensor, height: int, width: int, border: str = "black") -> torch.Tensor:
    """Resize a flow bilinearly; its values stay, as they do not depend on the resolution.

    Args:
        flow: Sampling positions (N, h, w, 2).
        height: Wanted number of rows.
        width: Wanted number of columns.
        border: "black": positions are interpolated, as published, so that the outermost pixels of a picture that does
            not move repeat those beside them; "repeated": displacements are, so that they stay.

    Returns:
        Float32 sampling positions (N, height, width, 2).
    """
    flow = flow.float()
    if flow.shape[1:3] == (height, width):
        return flow
    if border == "repeated":
        flow = flow - cell_centres(*flow.shape[1:3], device=flow.device)
    resized = functional.interpolate(flow.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
    resized = resized.permute(0, 2, 3, 1)
    return resized + cell_centres(height, width, device=flow.device) if border == "repeated" else resized


def warp(features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sample features at the positions of a flow; outside the image they are 0.

    Args:
        features: Features or images (B, C, H, W).
        flow: Sampling positions (B, h, w, 2) in grid_sample units; resized to H x W when they differ.

    Returns:
        Warped features (B, C, H, W) in the dtype of `features`.

    Raises:
        ValueError: The shapes do not fit.
    """
    if flow.ndim != 4:
        raise ValueError(f"`flow` is {tuple(flow.shape)}, must be (B, h, w, 2)")
    return warp_frames(features, flow[:, None])[:, 0]


def warp_frames(
    features: torch.Tensor, flow: torch.Tensor, sampling: str = "bilinear", border: str = "black"
) -> torch.Tensor:
    """Sample one image per batch entry at the positions of several flows, without a copy of it per flow.

    Args:
        features: Features or images (B, C, H, W).
        flow: Sampling positions (B, F, h, w, 2) in grid_sample units; resized to H x W when they differ.
        sampling: "bilinear" or "bicubic", which blurs less and may leave the features' range.
        border: What lies outside of the image: "black", zeros, as published; or "repeated", its outermost pixels.

    Returns:
        Warped features (B, F, C, H, W) in the dtype of `features`.

    Raises:
        ValueError: The shapes do not fit.
    """
    if features.ndim != 4:
        raise ValueError(f"`features` is {tuple(features.shape)}, must be (B, C, H, W)")
    if flow.ndim != 5 or flow.shape[-1] != 2 or flow.shape[0] != features.shape[0]:
        raise ValueError(f"`flow` is {tuple(flow.shape)}, must be ({features.shape[0]}, F, h, w, 2)")
    batch, channels, height, width = features.shape
    frames = flow.shape[1]
    positions = resize_flow(flow.flatten(0, 1), height, width, border)
    if batch == 1:
        # (F, C, H, W); the expanded image is a view
        sampled = _sample(features.float().expand(frames, -1, -1, -1), positions, sampling, border)
        return sampled.to(features.dtype)[None]
    # (B, C, F·H, W): the frames are stacked as rows of one tall image
    positions = positions.reshape(batch, frames * height, width, 2)
    sampled = _sample(features.float(), positions, sampling, border)
    return sampled.to(features.dtype).unflatten(2, (frames, height)).transpose(1, 2)


def _sample(features: torch.Tensor, positions: torch.Tensor, sampling: str, border: str) -> torch.Tensor:
    device = features.device
    if device.type == "mps":  # torch's kernels for Metal know neither bicubic sampling nor borders in every version
        if sampling == "bicubic":
            features, positions = features.cpu(), positions.cpu()
        elif border == "repeated":
            positions, border = within_centres(positions, *features.shape[-2:]), "black"
    padding = "border" if border == "repeated" else "zeros"
    sampled = functional.grid_sample(features, positions, mode=sampling, padding_mode=padding, align_corners=False)
    return sampled.to(device)


def within_centres(positions: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Move positions beyond the centres of an image's outermost pixels there, where a repeated border begins.

    Args:
        positions: Sampling positions (..., 2) in grid_sample units.
        height: Height of the image [px].
        width: Its width [px].

    Returns:
        Positions (..., 2); bilinear sampling there sees nothing beyond the border.
    """
    most = 1 - 1 / positions.new_tensor((width, height))
    return torch.minimum(torch.maximum(positions, -most), most)


def antialiased_downsample(image: torch.Tensor, stride: int) -> torch.Tensor:
    """Blur with a Gaussian wide enough for the stride, then keep every stride-th pixel.

    Args:
        image: Images (B, C, H, W).
        stride: Factor by which the image shrinks; 1 returns it unchanged.

    Returns:
        Images (B, C, ceil(H / stride), ceil(W / stride)).
    """
    if stride == 1:
        return image
    sigma = (stride - 1) / 2
    radius = round(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = line[:, None] * line[None, :]
    kernel = (kernel / kernel.sum()).to(image.dtype).expand(image.shape[1], 1, -1, -1)
    return functional.conv2d(image, kernel, stride=stride, padding=radius, groups=image.shape[1])


def region_moments(heatmap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute where each heatmap lies and how far it spreads.

    Args:
        heatmap: Weights (B, K, h, w), each of the K maps sums to 1.

    Returns:
        Mean positions (B, K, 2), and covariances (B, K, 2, 2), in grid units; float32.
    """
    heatmap = heatmap.float()
    grid = coordinate_grid(*heatmap.shape[-2:], device=heatmap.device)
    shift = (heatmap[..., None] * grid).sum(dim=(2, 3))
    offset = grid - shift[:, :, None, None]  # (B, K, h, w, 2)
    outer = offset[..., :, None] * offset[..., None, :]
    covar = (heatmap[..., None, None] * outer).sum(dim=(2, 3))
    return shift, covar


def affine_from_covariance(covar: torch.Tensor) -> torch.Tensor:
    """Find the affine map from the unit circle to a region: U·sqrt(S) of the singular value decomposition.

    The closed form for symmetric 2x2 matrices; U is a rotation by the angle of the long axis. (A decomposition leaves
    the signs of the columns open. LAPACK's U always is a reflection, so only both signs together can differ from it,
    and that difference is undone by `motion_between`.) Where the region has no long axis, the angle counts as a
    constant, so gradients stay finite.

    Args:
        covar: Symmetric positive semidefinite matrices (..., 2, 2).

    Returns:
        Float32 matrices (..., 2, 2), the column of the larger variance first.
    """
    covar = covar.float()
    mean = (covar[..., 0, 0] + covar[..., 1, 1]) / 2
    half_difference = (covar[..., 0, 0] - covar[..., 1, 1]) / 2
    mixed = (covar[..., 0, 1] + covar[..., 1, 0]) / 2
    # differences below float32's resolution carry no direction
    is_round = half_difference.square() + mixed.square() <= (1e-6 * mean).square() + SMALLEST_VARIANCE**2
    half_difference = torch.where(is_round, torch.full_like(mean, SMALLEST_VARIANCE), half_difference)
    mixed = torch.where(is_round, torch.zeros_like(mean), mixed)
    angle = torch.atan2(mixed, half_difference) / 2
    half_gap = torch.hypot(half_difference, mixed)
    long = (mean + half_gap).clamp(min=SMALLEST_VARIANCE).sqrt()
    short = (mean - half_gap).clamp(min=SMALLEST_VARIANCE).sqrt()
    first = torch.stack([angle.cos() * long, angle.sin() * long], dim=-1)
    second = torch.stack([-angle.sin() * short, angle.cos() * short], dim=-1)
    return torch.stack([first, second], dim=-1)


def inverse_2x2(matrix: torch.Tensor) -> torch.Tensor:
    """Invert 2x2 matrices elementwise, which autocast cannot round and whose gradient is cheap.

    Args:
        matrix: Regular matrices (..., 2, 2).

    Returns:
        Float32 matrices (..., 2, 2).
    """
    a, b, c, d = matrix.float().flatten(-2).unbind(-1)
    determinant = a * d - b * c
    return torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2)) / determinant[..., None, None]


def transform_points(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Multiply 2x2 matrices with points, elementwise in float32.

    Args:
        matrix: Matrices (..., 2, 2).
        points: Points (..., 2); the leading axes broadcast against those of `matrix`.

    Returns:
        Float32 points (..., 2).
    """
    return (matrix.float() * points.float()[..., None, :]).sum(dim=-1)


def gaussian_heatmap(shift: torch.Tensor, covar: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Draw one Gaussian bump, of height 1, per region.

    Args:
        shift: Centres (B, K, 2) in grid units.
        covar: Covariances (B, K, 2, 2) in grid units squared.
        height: Number of rows.
        width: Number of columns.

    Returns:
        Float32 heatmaps (B, K, height, width) in [0, 1].
    """
    offset = coordinate_grid(height, width, shift.device) - shift.float()[:, :, None, None]
    # a point stays invertible, and rounding cannot make a distance negative
    precision = inverse_2x2(covar.float() + SMALLEST_VARIANCE * torch.eye(2, device=covar.device))[:, :, None, None]
    distance_squared = (offset * transform_points(precision, offset)).sum(dim=-1).clamp(min=0)
    return torch.exp(-0.5 * distance_squared)


def motion_between(source_affine: torch.Tensor, driving_affine: torch.Tensor) -> torch.Tensor:
    """Map the surroundings of a driving region to those of the source region.

    The affine maps of regions are known up to their sign, so the product is given the sign that makes its first
    element positive (no turn by more than 90 degrees).

    Args:
        source_affine: Matrices (..., 2, 2) of `affine_from_covariance`.
        driving_affine: Matrices (..., 2, 2) of `affine_from_covariance`.

    Returns:
        Float32 matrices (..., 2, 2).
    """
    inverse = inverse_2x2(driving_affine)
    # each row of the inverse's transpose is a column to transform
    product = transform_points(source_affine[..., None, :, :], inverse.mT).mT
    return product * torch.sign(product[..., :1, :1])


def face_box_mask(boxes: torch.Tensor, image_sizes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Draw face boxes as filled rectangles (paper section 3.2: face location).

    As published, x is scaled by the height of the analysed image and y by its width; for square images, the usual
    case, that is the same. The pixel after the one that holds the right or bottom edge belongs to the box.

    Args:
        boxes: x_min, x_max, y_min, y_max (B, 4) [px] in the analysed image.
        image_sizes: Height and width (B, 2) [px] of the analysed images.
        height: Height of the mask [px].
        width: Width of the mask [px].

    Returns:
        Float32 masks (B, 1, height, width) of 0 and 1.

    Raises:
        ValueError: The shapes do not fit.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"`boxes` is {tuple(boxes.shape)}, must be (B, 4)")
    if image_sizes.shape != (boxes.shape[0], 2):
        raise ValueError(f"`image_sizes` is {tuple(image_sizes.shape)}, must be ({boxes.shape[0]}, 2)")
    boxes, image_sizes = boxes.float(), image_sizes.float().to(boxes.device)
    left_right = (boxes[:, :2] * width / image_sizes[:, :1]).trunc()
    top_bottom = (boxes[:, 2:] * height / image_sizes[:, 1:]).trunc()
    columns = _between(torch.arange(width, device=boxes.device), left_right)
    rows = _between(torch.arange(height, device=boxes.device), top_bottom)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _between(index: torch.Tensor, first_and_last: torch.Tensor) -> torch.Tensor:
    return (index >= first_and_last[:, :1]) & (index <= first_and_last[:, 1:] + 1)
