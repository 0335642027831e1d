"""Where mouth, eyes and other boxes lie, at the resolution of motion or features."""

import torch

# a usual open eye's height over its width
OPEN_EYE_HEIGHT_TO_WIDTH = 0.35
# to either side of an eye, in its widths: what is hidden there would join both eyes to one band
BESIDE_EYE = 0.5


def mouth_box_mask(mouth_px: torch.Tensor, image_size: tuple[int, int], height: int, width: int) -> torch.Tensor:
    """Draw the box around the mouth (landmarks 48 to 67) at the resolution of the motion.

    Args:
        mouth_px: Landmarks x, y (B, F, 20, 2) [px].
        image_size: Height and width [px] of the image that they lie in.
        height: Rows of the motion.
        width: Columns of the motion.

    Returns:
        Float32 mask (B, 1, F, height, width): 1 in every cell that the box touches, 0 elsewhere. A mouth beyond the
        border is drawn at the border, so that every frame has at least one cell.

    Raises:
        ValueError: The shape does not fit.
    """
    if mouth_px.ndim != 4 or mouth_px.shape[2:] != (20, 2):
        raise ValueError(f"`mouth_px` is {tuple(mouth_px.shape)}, must be (B, F, 20, 2)")
    image_height, image_width = image_size
    scale = mouth_px.new_tensor([width / image_width, height / image_height], dtype=torch.float32)
    cells = mouth_px.float() * scale  # (B, F, 20, 2)
    low, high = cells.amin(-2), cells.amax(-2)
    return box_mask(torch.stack((low, high), dim=-1).flatten(-2), height, width)[:, None]


def eye_box_mask(eyes_px: torch.Tensor, image_size: tuple[int, int], height: int, width: int) -> torch.Tensor:
    """Draw the boxes of both eyes at the resolution of the motion, and what lies beside and between them.

    Closed eyes get boxes as large as open ones.

    Args:
        eyes_px: x_min, x_max, y_min, y_max (B, F, 2, 4) [px].
        image_size: Height and width [px] of the image that they lie in.
        height: Rows of the motion.
        width: Columns of the motion.

    Returns:
        Float32 mask (B, 1, F, height, width), as `mouth_box_mask` makes it.
    """
    boxes = open_eye_boxes(eyes_px)
    beside = BESIDE_EYE * (boxes[..., 1:2] - boxes[..., :1]) * boxes.new_tensor([-1, 1, 0, 0])
    return box_mask(to_cells(boxes + beside, image_size, height, width), height, width).amax(dim=2)[:, None]


def to_cells(box_px: torch.Tensor, image_size: tuple[int, int], height: int, width: int) -> torch.Tensor:
    """Convert boxes x_min, x_max, y_min, y_max (..., 4) from image pixels to mask cells."""
    image_height, image_width = image_size
    scale = box_px.new_tensor([width / image_width] * 2 + [height / image_height] * 2, dtype=torch.float32)
    return box_px.float() * scale


def open_eye_boxes(eyes_px: torch.Tensor) -> torch.Tensor:
    """Make eye boxes at least as high as those of open eyes, so that lids that wrongly stay open count as errors.

    Args:
        eyes_px: x_min, x_max, y_min, y_max (..., 4) [px], closed eyes' boxes as flat as they are.

    Returns:
        The boxes (..., 4) [px].
    """
    x_min, x_max, y_min, y_max = eyes_px.unbind(-1)
    middle = (y_min + y_max) / 2
    half = torch.maximum(y_max - y_min, OPEN_EYE_HEIGHT_TO_WIDTH * (x_max - x_min)) / 2
    return torch.stack((x_min, x_max, middle - half, middle + half), dim=-1)


def box_mask(box_cells: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Draw boxes.

    Args:
        box_cells: x_min, x_max, y_min, y_max (..., 4), in cells of the mask.
        height: Rows of the mask.
        width: Columns of the mask.

    Returns:
        Float32 mask (..., height, width): 1 in every cell that the box touches, 0 elsewhere. A box beyond the border
        is drawn at the border, so that every mask has at least one cell.
    """
    inside = []
    for ends, count in zip(box_cells.float().floor().split(2, dim=-1), (width, height), strict=True):
        low, high = ends.clamp(0, count - 1).split(1, dim=-1)
        index = torch.arange(count, device=box_cells.device)
        inside.append((index >= low) & (index <= high))
    columns, rows = inside
    return (rows[..., :, None] & columns[..., None, :]).float()


def box_coverage(box_cells: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Tell how much of every cell boxes cover.

    Args:
        box_cells: x_min, x_max, y_min, y_max (..., 4), in cells.
        height: Rows.
        width: Columns.

    Returns:
        Float32 shares (..., height, width) in [0, 1].
    """
    shares = []
    for ends, count in zip(box_cells.float().split(2, dim=-1), (width, height), strict=True):
        index = torch.arange(count, device=box_cells.device)
        low, high = ends.split(1, dim=-1)
        shares.append((torch.minimum(high, index + 1) - torch.maximum(low, index)).clamp(min=0))
    columns, rows = shares
    return rows[..., :, None] * columns[..., None, :]
