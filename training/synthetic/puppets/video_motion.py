"""Exact motion of filmed faces: every frame of a clip is fitted, and followed back to some reference frames."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from training.synthetic.puppets.head_fit import HeadFit, HeadFitter, push_to_landmarks
from training.synthetic.puppets.landmark_measures import eye_boxes, lid_openings, mouth_opening
from training.synthetic.puppets.morphable_head import FACE, LEFT_EYE, RIGHT_EYE
from training.synthetic.puppets.motion import coarse_motion, motion_between
from training.synthetic.puppets.surface import Surface, chin_height_cm, make_surface, pose_of_fit, sample

# pixels per cell of the motion, as in LFG
STRIDE = 4
# landmarks of single frames tremble by a fraction of a pixel
SMOOTHING = (0.2, 0.6, 0.2)
# share of the source's opening below which an eye is closed; width of the outline that lashes make, of the eye's width
OPEN_SHARE, LASHES = 0.55, 0.16
# frames that the identity is fitted to
NUM_IDENTITY_FRAMES = 3


class VideoMotion:
    """Measure the motion of the face in clips.

    Args:
        fitter: Fits the head.
        find_landmarks: Finds MediaPipe's points (478, 3) [px] of the largest face of a picture; None: there is none.
        segment: Says how much of every pixel of a picture belongs to a person, float32 (S, S) in [0, 1].
        num_references: Frames that motion is measured from: the first one, and those with the widest open mouths.
    """

    def __init__(
        self,
        fitter: HeadFitter,
        find_landmarks: Callable[[np.ndarray], np.ndarray | None],
        segment: Callable[[np.ndarray], np.ndarray],
        num_references: int = 1,
    ):
        self._fitter, self._find, self._segment = fitter, find_landmarks, segment
        self._num_references = num_references

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Measure a clip.

        Args:
            frames: uint8 array (F, S, S, 3), RGB.

        Returns:
            Labels: `motion` (F, R, 3, S/4, S/4), flow x and y in grid_sample units and occlusion in [0, 1], float16;
            `motion_references` (R,), int32; `expression` (F, E), float16; `mouth_opening` (F,), of the face's height;
            `eyes_px` (F, 2, 4), boxes of the subject's left and right eye.

        Raises:
            ValueError: A frame shows no face.
        """
        landmarks_px = self._landmarks(frames)
        identity = self._identity(landmarks_px)
        fits = [self._fitter.fit(points, identity) for points in landmarks_px]
        base_cm = self._fitter.head.shape(identity)
        surfaces = [self._surface(fit, frame, base_cm) for fit, frame in zip(fits, frames, strict=True)]
        opening = np.array([mouth_opening(surface.landmarks_px) for surface in surfaces], np.float32)
        references = choose_references(opening, self._num_references)
        return {
            "motion": motion_labels(self._fitter, surfaces, references),
            "motion_references": references,
            "expression": np.stack([fit.expression for fit in fits]).astype(np.float16),
            "mouth_opening": opening,
            "eyes_px": np.stack([eye_boxes(surface.landmarks_px) for surface in surfaces]),
        }

    def _landmarks(self, frames: np.ndarray) -> np.ndarray:
        found = []
        for index, frame in enumerate(frames):
            points = self._find(frame)
            if points is None:
                raise ValueError(f"`frames` shows no face in frame {index}")
            found.append(points)
        padded = np.pad(np.stack(found), ((1, 1), (0, 0), (0, 0)), mode="edge")
        before, here, after = SMOOTHING
        return before * padded[:-2] + here * padded[1:-1] + after * padded[2:]

    def _identity(self, landmarks_px: np.ndarray) -> np.ndarray:
        chosen = np.linspace(0, len(landmarks_px) - 1, NUM_IDENTITY_FRAMES).round().astype(int)
        return np.mean([self._fitter.fit(landmarks_px[index]).identity for index in np.unique(chosen)], axis=0)

    def _surface(self, fit: HeadFit, frame: np.ndarray, base_cm: np.ndarray) -> Surface:
        head = self._fitter.head
        vertices_cm = base_cm + head.expression_shift(fit.expression)
        vertices_px = fit.project(vertices_cm)
        vertices_px[:, :2] += push_to_landmarks(vertices_px, fit)
        return make_surface(head, vertices_px, self._segment(frame), pose_of_fit(fit), chin_height_cm(vertices_cm))


def motion_labels(fitter: HeadFitter, surfaces: Sequence[Surface], references: Sequence[int]) -> np.ndarray:
    """Measure the motion of all frames from each reference, see `VideoMotion.__call__`: (F, R, 3, h, w), float16."""
    rows = []
    for driven in surfaces:
        row = []
        for reference in references:
            source = surfaces[reference]
            motion = motion_between(fitter.head, source, driven, driven.person)
            is_hidden = closed_lids(source, driven, motion.positions_px)
            motion = replace(motion, is_visible=motion.is_visible & ~is_hidden)
            flow, occlusion = coarse_motion(motion, driven.landmarks_px, STRIDE)
            row.append(np.concatenate([flow.transpose(2, 0, 1), occlusion[None]]))
        rows.append(row)
    return np.array(rows, np.float16)


def closed_lids(source: Surface, driven: Surface, positions_px: np.ndarray) -> np.ndarray:
    """Find the lids that have come down: the source shows an eye in their place, whose lashes would be stretched.

    Args:
        source: The person in the source picture.
        driven: The person in the driven picture.
        positions_px: Where in the source every pixel of the driven picture lies (S, S, 2) [px].

    Returns:
        Bool array (S, S).
    """
    before, now = (lid_openings(surface.landmarks_px) for surface in (source, driven))
    eyes = np.zeros(source.part.shape, np.uint8)
    for places, is_closed in zip((RIGHT_EYE, LEFT_EYE), now < OPEN_SHARE * before, strict=True):
        if is_closed:
            corners = np.round(source.landmarks_px[places] - 0.5).astype(np.int32)
            cv2.fillPoly(eyes, [corners], 1)
            # an outline as wide as the lashes are long, to both sides
            cv2.polylines(eyes, [corners], True, 1, max(1, round(LASHES * np.ptp(corners[:, 0]))))
    return (sample(eyes.astype(np.float32), positions_px) > 0.5) & (driven.part == FACE)


def choose_references(opening: np.ndarray, num_references: int) -> np.ndarray:
    """Choose the first frame, and others with open mouths, apart from each other; int32 (R,), sorted."""
    chosen = [0]
    for index in np.argsort(-opening, kind="stable"):
        if len(chosen) == num_references:
            break
        if min(abs(int(index) - other) for other in chosen) >= len(opening) // (num_references + 1):
            chosen.append(int(index))
    return np.array(sorted(chosen), np.int32)
