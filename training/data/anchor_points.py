"""Points of a face that regions are led to, and whose flow is known."""

from collections.abc import Mapping

import torch

from training.data.mouth import CORNERS, LOWER_LIP, UPPER_LIP


def anchor_points(places: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Choose the points that regions are led to, the most telling ones first.

    Args:
        places: "mouth_px" (..., 20, 2), "face_box_px" (..., 4) and perhaps "eyes_px" (..., 2, 4) [px].

    Returns:
        Middle of the inner upper and lower lip, corners of the mouth, top and bottom of the face, and, where eyes are
        known, upper and lower lid of the left and the right one (..., 6 or 10, 2) [px].
    """
    lips = places["mouth_px"][..., [UPPER_LIP, LOWER_LIP, *CORNERS], :]
    points = [lips, _top_and_bottom(places["face_box_px"])]
    if "eyes_px" in places:
        points.append(_top_and_bottom(places["eyes_px"]).flatten(-3, -2))
    return torch.cat(points, dim=-2)


def flow_points(places: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Choose the points whose flow is known.

    Args:
        places: As for `anchor_points`.

    Returns:
        The mouth's landmarks, and the lids' middles where eyes are known (..., 20 or 24, 2) [px].
    """
    if "eyes_px" not in places:
        return places["mouth_px"]
    return torch.cat((places["mouth_px"], _top_and_bottom(places["eyes_px"]).flatten(-3, -2)), dim=-2)


def _top_and_bottom(box_px: torch.Tensor) -> torch.Tensor:
    # middles of the upper and the lower edge (..., 2, 2) of boxes (..., 4)
    x_min, x_max, y_min, y_max = box_px.unbind(-1)
    middle = (x_min + x_max) / 2
    return torch.stack((torch.stack((middle, y_min), dim=-1), torch.stack((middle, y_max), dim=-1)), dim=-2)
