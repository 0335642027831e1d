"""How far the landmarks of a face lie from their true places: M-LMD of the mouth, F-LMD of the face."""

import numpy as np


def landmark_distance(made_px: np.ndarray, truth_px: np.ndarray) -> float:
    """Compute the mean distance of landmarks from their true places (LMD; Chen et al. 2018).

    At least 0; lower is better. M-LMD is that of the mouth's points, F-LMD that of the whole face's.

    Args:
        made_px: Landmarks (F, N, 2) [px].
        truth_px: Their true places (F, N, 2); frames with a value that is not finite, in either, do not count.

    Returns:
        Mean over frames and points [px]; NaN where no frame counts.

    Raises:
        ValueError: The shapes do not fit.
    """
    made_px, truth_px = _pair(made_px, truth_px)
    distances = np.linalg.norm(made_px - truth_px, axis=-1).mean(axis=1)
    counted = np.isfinite(distances)
    return float(distances[counted].mean()) if counted.any() else float("nan")


def align_landmarks(made_px: np.ndarray, truth_px: np.ndarray) -> np.ndarray:
    """Move, turn and scale the landmarks of every frame onto their true places (least squares; Umeyama 1991).

    What then is left of a distance is the face's expression, not its place, size or roll.

    Args:
        made_px: Landmarks (F, N, 2), N at least 2, of which not all coincide.
        truth_px: Their true places (F, N, 2).

    Returns:
        The moved landmarks (F, N, 2), float64; NaN where a frame is not finite.

    Raises:
        ValueError: The shapes do not fit.
    """
    made_px, truth_px = _pair(made_px, truth_px)
    if made_px.shape[1] < 2:
        raise ValueError(f"`made_px` is {made_px.shape}, must have at least 2 landmarks to be aligned")
    # as complex numbers: a turn with a scale is a factor, a shift a summand
    made, truth = (points[..., 0] + 1j * points[..., 1] for points in (made_px, truth_px))
    made_centre, truth_centre = (points.mean(axis=1, keepdims=True) for points in (made, truth))
    made, truth = made - made_centre, truth - truth_centre
    size = (np.abs(made) ** 2).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        factor = (made.conj() * truth).sum(axis=1, keepdims=True) / np.where(size > 0, size, np.nan)
    moved = factor * made + truth_centre
    return np.stack((moved.real, moved.imag), axis=-1)


def _pair(made_px: np.ndarray, truth_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    made_px, truth_px = np.asarray(made_px, np.float64), np.asarray(truth_px, np.float64)
    if made_px.ndim != 3 or made_px.shape[-1] != 2 or made_px.shape != truth_px.shape or 0 in made_px.shape:
        raise ValueError(
            f"`made_px` is {made_px.shape} and `truth_px` {truth_px.shape}, must be equal: (F, N, 2), none 0"
        )
    return made_px, truth_px
