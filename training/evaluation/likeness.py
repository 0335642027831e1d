"""How near the frames of a video are to those that were filmed: PSNR, SSIM, LPIPS, landmark distances."""

import math

import numpy as np

from training.evaluation.extractors import PICTURES_AT_ONCE, Extractors, as_images
from training.evaluation.face_reader import MOUTH_POINTS, FaceReadings
from training.evaluation.metrics.image_quality import LARGEST_PSNR_DB, psnr, ssim
from training.evaluation.metrics.landmark_distance import align_landmarks, landmark_distance

PICTURE_LABELS = {"psnr_db": "PSNR [dB]", "ssim": "SSIM", "lpips": "LPIPS"}
LANDMARK_LABELS = {
    "m_lmd_px": "M-LMD, the mouth's landmarks [px]",
    "f_lmd_px": "F-LMD, the face's landmarks [px]",
    "m_lmd_aligned_px": "M-LMD, faces aligned first [px]",
    "f_lmd_aligned_px": "F-LMD, faces aligned first [px]",
}
HIGHER_LIKENESS = ("psnr_db", "ssim")  # of the others, lower is better
LIKENESS_LABELS = PICTURE_LABELS | LANDMARK_LABELS


def frame_likeness(
    made: np.ndarray,
    truth: np.ndarray,
    made_readings: FaceReadings | None,
    truth_readings: FaceReadings | None,
    extractors: Extractors,
) -> dict[str, float]:
    """Compare the frames of a video with those that were filmed, means over all but the first, which is the portrait.

    Args:
        made: uint8 frames (F, H, W, 3), F at least 2.
        truth: uint8 frames (F, H, W, 3).
        made_readings: What was read from the frames; None where nothing reads faces.
        truth_readings: What was read from the truth's.
        extractors: Has the network of LPIPS, or not.

    Returns:
        What `LIKENESS_LABELS` names, without LPIPS where its network is missing. Without readings there are no
        landmark distances; they are NaN where either video shows a face in less than 90 % of the frames.

    Raises:
        ValueError: The shapes do not fit.
    """
    if made.shape != truth.shape or made.ndim != 4 or len(made) < 2:
        raise ValueError(f"`made` is {made.shape} and `truth` {truth.shape}, must be equal: (F, H, W, 3), F above 1")
    made, truth = made[1:], truth[1:]
    starts = range(0, len(made), PICTURES_AT_ONCE)
    parts = [
        tuple(as_images(frames[start : start + PICTURES_AT_ONCE]) for frames in (made, truth)) for start in starts
    ]
    found = {
        "psnr_db": _mean([psnr(*pair).clamp(max=LARGEST_PSNR_DB) for pair in parts]),
        "ssim": _mean([ssim(*pair) for pair in parts]),
    }
    if extractors.lpips is not None:
        found["lpips"] = float(extractors.perceptual_distances(made, truth).mean())
    if made_readings is not None and truth_readings is not None:
        found |= landmark_distances(made_readings, truth_readings)
    return found


def landmark_distances(made: FaceReadings, truth: FaceReadings) -> dict[str, float]:
    """Compute how far the landmarks of two readings lie apart, of all frames but the first.

    Args:
        made: What was read from a video (F frames).
        truth: What was read from what was filmed (F frames).

    Returns:
        What `LANDMARK_LABELS` names [px]; NaN where either shows a face in less than 90 % of the frames.
    """
    if not (made.show_face() and truth.show_face()):
        return dict.fromkeys(LANDMARK_LABELS, math.nan)
    made_px, truth_px = made.mesh_px[1:], truth.mesh_px[1:]
    aligned_px, mouth = align_landmarks(made_px, truth_px), list(MOUTH_POINTS)
    return {
        "m_lmd_px": landmark_distance(made_px[:, mouth], truth_px[:, mouth]),
        "f_lmd_px": landmark_distance(made_px, truth_px),
        "m_lmd_aligned_px": landmark_distance(aligned_px[:, mouth], truth_px[:, mouth]),
        "f_lmd_aligned_px": landmark_distance(aligned_px, truth_px),
    }


def _mean(parts: list) -> float:
    return float(np.mean(np.concatenate([part.numpy() for part in parts])))
