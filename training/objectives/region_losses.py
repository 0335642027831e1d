"""Losses on LFG's regions and flow: equivariance, landmarks, and occlusion of mouths and eyes."""

import torch
from torch.nn import functional

from diffusers_dawn.geometry.flow import inverse_2x2
from diffusers_dawn.models.region_motion import Regions
from training.objectives.box_masks import box_coverage, box_mask, mouth_box_mask, open_eye_boxes, to_cells
from training.objectives.losses import check_same_shape, mean_per_sample
from training.objectives.random_transform import RandomTransform

INNER_LIPS = slice(12, 20)
"""Landmarks 60 to 67, the inner contour, among the 20 of a mouth."""
CLOSED_EYE_HEIGHT_TO_WIDTH = 0.1
"""Height over width from which down an eye is closed."""
MIN_VISIBLE_EYE = 0.5
"""Smaller over larger opening, below which nothing of an eye is left to warp."""
EYE_MARGIN = 0.4
"""How far around an eye all should stay visible, in widths of the eye."""


def equivariance_losses(
    driving: Regions, transformed: Regions, transform: RandomTransform
) -> tuple[torch.Tensor, torch.Tensor]:
    """Penalise regions that do not follow the image (motion representations for articulated animation, section 3.5).

    The transformed image shows at z what the driving image shows at T(z), so its regions, moved by T, should be those
    of the driving image. The affine maps of regions are known up to their sign; as in `motion_between`, the product
    is given the sign that makes its first element positive. A map is U·sqrt(S) of a covariance, hence the second loss
    vanishes exactly only for a T that turns and scales; the small shear of a random T leaves a little.

    Args:
        driving: Regions of the driving image.
        transformed: Regions of `transform.warp_image` of the driving image.
        transform: The transform T of each sample.

    Returns:
        Mean of |shift - T(shift')|, and mean of |1 - inverse(affine)·J·affine'| with the Jacobian J of T at shift';
        scalars.

    Raises:
        ValueError: The regions are not equally many, or there is not one transform per sample.
    """
    if driving.shift.shape != transformed.shift.shape:
        raise ValueError(
            f"`transformed` has shifts {tuple(transformed.shift.shape)}, must have {tuple(driving.shift.shape)}"
        )
    shift = mean_per_sample((driving.shift.float() - transform.warp_points(transformed.shift)).abs())
    moved = _product(transform.jacobian(transformed.shift), transformed.affine.float())
    relative = _product(inverse_2x2(driving.affine), moved)
    relative = torch.where(relative[..., :1, :1] < 0, -relative, relative)
    affine = mean_per_sample((torch.eye(2, device=relative.device) - relative).abs())
    return shift.mean(), affine.mean()


def landmark_loss(regions: Regions, landmarks_px: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Pull the first regions onto landmarks; not in the paper, but it finds the mouth much sooner.

    Args:
        regions: Regions of images, at least as many as landmarks.
        landmarks_px: Landmarks x, y (B, K, 2) [px].
        image_size: Height and width [px] of the images.

    Returns:
        Mean distance in each coordinate, in units of the grid (-1 to 1); a scalar.

    Raises:
        ValueError: There are fewer regions than landmarks.
    """
    num_landmarks = landmarks_px.shape[1]
    if regions.shift.shape[1] < num_landmarks:
        raise ValueError(f"`regions` are {regions.shift.shape[1]}, must be at least {num_landmarks}, one per landmark")
    height, width = image_size
    last = landmarks_px.new_tensor([width - 1, height - 1])
    wanted = 2 * landmarks_px.float() / last - 1
    return mean_per_sample((regions.shift[:, :num_landmarks].float() - wanted).abs()).mean()


def landmark_flow_loss(
    flow: torch.Tensor, source_px: torch.Tensor, driving_px: torch.Tensor, image_size: tuple[int, int]
) -> torch.Tensor:
    """Pull the flow at the driving image's landmarks to the source's landmarks; not in the paper.

    Args:
        flow: Positions in the source (B, h, w, 2) in grid_sample units.
        source_px: Landmarks x, y in the source (B, K, 2) [px].
        driving_px: The same landmarks in the driving image (B, K, 2) [px].
        image_size: Height and width [px] of the images.

    Returns:
        Mean distance in each coordinate, in units of the grid (-1 to 1); a scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_same_shape(source_px, driving_px, "(B, K, 2)", 3)
    height, width = image_size
    size = source_px.new_tensor([width, height], dtype=torch.float32)
    wanted, places = ((2 * points.float() + 1) / size - 1 for points in (source_px, driving_px))
    found = functional.grid_sample(
        flow.float().permute(0, 3, 1, 2), places[:, None], padding_mode="border", align_corners=False
    )
    return mean_per_sample((found[:, :, 0].mT - wanted).abs()).mean()


def open_mouth_loss(occlusion: torch.Tensor, mouth_px: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Within the mouth's box, ask for occlusion exactly between the lips; not in the paper.

    A closed mouth has nothing to warp there, but lips that are stretched over the gap look better to the comparison
    of pictures than the decoder's first attempts, so without this the decoder is not asked for a long time.

    Args:
        occlusion: Visibility of the source in the driving image (B, 1, h, w) in [0, 1].
        mouth_px: Landmarks 48 to 67 of the driving image (B, 20, 2) [px].
        image_size: Height and width [px] of the image.

    Returns:
        Cross-entropy of "visible", averaged over the mouths' boxes; a scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    if occlusion.ndim != 4 or mouth_px.shape != (len(occlusion), 20, 2):
        raise ValueError(f"`mouth_px` is {tuple(mouth_px.shape)}, must be ({len(occlusion)}, 20, 2) as `occlusion`")
    inside = polygon_mask(mouth_px[:, INNER_LIPS], *image_size)[:, None].float()
    size = occlusion.shape[-2:]
    visible = 1 - functional.interpolate(inside, size, mode="area")
    box = mouth_box_mask(mouth_px[:, None], image_size, *size)[:, :, 0]
    # autocast refuses cross-entropy of probabilities
    with torch.autocast(occlusion.device.type, enabled=False):
        entropy = functional.binary_cross_entropy(occlusion.float(), visible, reduction="none")
    return mean_per_sample(entropy, box).mean()


def closed_eye_loss(occlusion: torch.Tensor, eyes_px: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Ask for occlusion of the eyes in proportion to how far they open or close; not in the paper.

    A lid that closes would have to be drawn from the line above the eye over all of it, and the flow, whose cells are
    as high as an eye, shows the squeezed eye instead.

    Args:
        occlusion: Visibility of the source in the driving image (B, 1, h, w) in [0, 1].
        eyes_px: Boxes of both eyes in source and driving image (B, 2, 2, 4) [px]: x_min, x_max, y_min, y_max.
        image_size: Height and width [px] of the image.

    Returns:
        Cross-entropy of "visible", which in an eye is the smaller opening over the larger, or 0 below
        `MIN_VISIBLE_EYE`, and around it 1; a scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    if occlusion.ndim != 4 or eyes_px.shape != (len(occlusion), 2, 2, 4):
        raise ValueError(f"`eyes_px` is {tuple(eyes_px.shape)}, must be ({len(occlusion)}, 2, 2, 4) as `occlusion`")
    eyes_px = eyes_px.float()
    opening = (eyes_px[..., 3] - eyes_px[..., 2]) / (eyes_px[..., 1] - eyes_px[..., 0]).clamp(min=1)
    opening = opening.clamp(min=CLOSED_EYE_HEIGHT_TO_WIDTH)
    visible = opening.amin(dim=1) / opening.amax(dim=1)  # (B, eye)
    visible = torch.where(visible < MIN_VISIBLE_EYE, 0.0, visible)
    size = occlusion.shape[-2:]
    boxes = to_cells(open_eye_boxes(eyes_px[:, 1]), image_size, *size)  # (B, eye, 4)
    wanted = 1 - box_coverage(boxes, *size) * (1 - visible)[..., None, None]
    # around the eye all stays: spectacles, brows, the bridge of the nose
    margin = EYE_MARGIN * (boxes[..., 1:2] - boxes[..., :1])
    around = box_mask(boxes + margin * boxes.new_tensor([-1, 1, -1, 1]), *size)
    with torch.autocast(occlusion.device.type, enabled=False):
        seen = occlusion.float().expand_as(wanted)
        entropy = functional.binary_cross_entropy(seen, wanted, reduction="none")
    return mean_per_sample(entropy, around).mean()


def polygon_mask(corners_px: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Find the pixels whose centre lies in a polygon, by counting the edges to the right of it.

    Args:
        corners_px: Corners x, y in order (B, N, 2) [px]; whole numbers are the centres of pixels.
        height: Rows of the image.
        width: Columns of the image.

    Returns:
        Bool tensor (B, height, width).
    """
    x, y = (corners_px.float()[..., axis, None, None] for axis in (0, 1))  # (B, N, 1, 1)
    next_x, next_y = x.roll(-1, dims=1), y.roll(-1, dims=1)
    rows = torch.arange(height, device=corners_px.device)[:, None]
    columns = torch.arange(width, device=corners_px.device)
    spans = (y > rows) != (next_y > rows)  # (B, N, height, 1)
    rise = torch.where(next_y == y, 1.0, next_y - y)  # a level edge spans no row
    to_the_right = columns < x + (next_x - x) * (rows - y) / rise
    return (spans & to_the_right).sum(dim=1) % 2 == 1


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    # of 2x2 matrices, elementwise: autocast would round a matrix product
    return (left[..., :, :, None] * right[..., None, :, :]).sum(dim=-2)
