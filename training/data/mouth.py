"""How far a mouth is open, by its landmarks."""

import torch

from diffusers_dawn.models.mouth_reader import MOUTH_DEVIATIONS, MOUTH_MEANS

# middle of the inner upper and lower lip (62 and 66 of the 68-point convention) among the 20 mouth landmarks
UPPER_LIP, LOWER_LIP = 14, 18
# outer corners (48 and 54)
CORNERS = 0, 6


def mouth_opening(mouth_px: torch.Tensor, face_box_px: torch.Tensor) -> torch.Tensor:
    """Measure how far the mouth is open: the gap between the inner lips over the height of the face.

    Args:
        mouth_px: Mouth landmarks x, y (F, 20, 2) [px], points 48 to 67 of the 68-point convention.
        face_box_px: x_min, x_max, y_min, y_max (F, 4) [px].

    Returns:
        Float32 tensor (F,), about 0.1 for a wide open mouth.

    Raises:
        ValueError: The shapes do not fit, or a box has no height.
    """
    mouth_px, face_box_px = _checked(mouth_px, face_box_px)
    return (mouth_px[:, UPPER_LIP] - mouth_px[:, LOWER_LIP]).norm(dim=-1) / _height(face_box_px)


def mouth_width(mouth_px: torch.Tensor, face_box_px: torch.Tensor) -> torch.Tensor:
    """Measure how wide the mouth is: the distance of its outer corners over the height of the face.

    Args:
        mouth_px: Mouth landmarks x, y (F, 20, 2) [px], points 48 to 67 of the 68-point convention.
        face_box_px: x_min, x_max, y_min, y_max (F, 4) [px].

    Returns:
        Float32 tensor (F,), about 0.3.

    Raises:
        ValueError: The shapes do not fit, or a box has no height.
    """
    mouth_px, face_box_px = _checked(mouth_px, face_box_px)
    left, right = CORNERS
    return (mouth_px[:, left] - mouth_px[:, right]).norm(dim=-1) / _height(face_box_px)


def mouth_track(mouth_px: torch.Tensor, face_box_px: torch.Tensor) -> torch.Tensor:
    """Measure the mouth of a clip as the denoiser is told of it.

    Mouths are not equally wide, so that width counts from the clip's own median. The height of the face is the clip's
    median, too: a chin that drops makes the box higher.

    Args:
        mouth_px: Mouth landmarks x, y (F, 20, 2) [px], points 48 to 67 of the 68-point convention.
        face_box_px: x_min, x_max, y_min, y_max (F, 4) [px].

    Returns:
        Float32 tensor (F, 2): opening and width, of the height of the face, less `MOUTH_MEANS` and over
        `MOUTH_DEVIATIONS`.

    Raises:
        ValueError: The shapes do not fit.
    """
    opening, width = mouth_opening(mouth_px, face_box_px), mouth_width(mouth_px, face_box_px)
    heights = _height(torch.as_tensor(face_box_px).float())
    track = torch.stack((opening, width), dim=-1) * (heights / heights.median())[:, None]
    track[:, 1] -= track[:, 1].median()
    return (track - track.new_tensor(MOUTH_MEANS)) / track.new_tensor(MOUTH_DEVIATIONS)


def _checked(mouth_px: torch.Tensor, face_box_px: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mouth_px, face_box_px = torch.as_tensor(mouth_px).float(), torch.as_tensor(face_box_px).float()
    if mouth_px.ndim != 3 or mouth_px.shape[1:] != (20, 2):
        raise ValueError(f"`mouth_px` is {tuple(mouth_px.shape)}, must be (F, 20, 2)")
    if face_box_px.shape != (len(mouth_px), 4):
        raise ValueError(f"`face_box_px` is {tuple(face_box_px.shape)}, must be ({len(mouth_px)}, 4)")
    return mouth_px, face_box_px


def _height(face_box_px: torch.Tensor) -> torch.Tensor:
    height = face_box_px[:, 3] - face_box_px[:, 2]
    if (height <= 0).any():
        raise ValueError(f"`face_box_px` has a height of {height.min():g} px, all must be positive")
    return height
