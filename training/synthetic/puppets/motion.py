"""Exact motion between two pictures of one person: where every pixel of one lies in the other, if it shows there."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.synthetic.puppets.morphable_head import INNER_LIPS, INNER_MOUTH, LEFT_EYE, LIPS, RIGHT_EYE, MorphableHead
from training.synthetic.puppets.surface import Surface, interpolate, neck_share, pixel_centres, sample

# a point is hidden if the source shows something nearer by more than this [cm]
HIDDEN_BEHIND_CM = 0.04
# beside the head the motion of its edge goes on, in growing circles [px at 256 px]
SPREADS_PX = (2, 4, 8, 16, 32)
# a coarse cell cannot be trusted where its interpolation errs by more than this share of its side
TRUSTED_CELL_SHARE = 0.3
# one pixel in so many that cannot be trusted makes its cell one to paint
PAINT_GAIN = 2.5
PERSON_THRESHOLD = 0.5
# pixels along which an edge of lips is no tooth
LIP_EDGE_PX = 3


@dataclass(frozen=True)
class DenseMotion:
    """Motion from a source to a driven picture, for every pixel of the driven one.

    Attributes:
        positions_px: Where in the source it lies, float32 (S, S, 2): x, y [px].
        is_visible: Whether the source shows it, bool (S, S).
        person: How much of it belongs to the person, float32 (S, S) in [0, 1].
        is_uncovered_inside: Whether it is an inner part of the mouth that the source does not show, bool (S, S).
    """

    positions_px: np.ndarray
    is_visible: np.ndarray
    person: np.ndarray
    is_uncovered_inside: np.ndarray


def motion_between(
    head: MorphableHead, source: Surface, driven: Surface, driven_person: np.ndarray | None = None
) -> DenseMotion:
    """Follow every pixel of the driven picture back to the source (method: both show one mesh in two positions).

    What lies beside the mesh but belongs to the person, such as hair, turns with the head's outline, and the neck
    follows less and less; the background does not move.

    Args:
        head: The mesh's shapes.
        source: The person in the source picture.
        driven: The person in the driven picture.
        driven_person: How much of every driven pixel belongs to the person (S, S), where that was seen; None: as the
            source's, moved along.

    Returns:
        The motion.
    """
    size_px, part = driven.size_px, driven.part
    centres = pixel_centres(size_px)
    in_source = interpolate(source.vertices_px, head.triangles, driven.raster)
    is_hit = (part >= 0) & head.is_followed[np.maximum(driven.raster.triangle, 0)]
    is_inside = np.isin(part, INNER_MOUTH)
    is_shown = is_hit & _shows(source, in_source)
    # upper teeth that the source shows move as skin does. All else behind the lips must be painted: nobody knows where
    # lower teeth and tongue of a picture are
    is_lower = head.follows_jaw[head.triangles[np.maximum(driven.raster.triangle, 0), 0]]
    is_uncovered_inside = is_inside & (is_lower | ~_between_lips(source, in_source))
    is_shown = np.where(is_inside, ~is_uncovered_inside, is_shown)
    is_followed = is_hit & ~is_uncovered_inside
    displacement = np.where(is_followed[..., None], in_source[..., :2] - centres, 0).astype(np.float32)
    outline, follows = _outline_motion(source, driven, centres)
    beyond = _spread(displacement - outline, is_followed, follows) + outline
    positions = centres + np.where(is_followed[..., None], displacement, beyond)
    person = sample(source.person, positions) if driven_person is None else driven_person
    is_background = (person < PERSON_THRESHOLD) & ~is_hit
    positions = np.where(is_background[..., None], centres, positions).astype(np.float32)
    is_in_picture = ((positions >= 0) & (positions <= size_px)).all(axis=-1)
    of_person = np.where(is_hit, is_shown, sample(source.person, positions) >= PERSON_THRESHOLD)
    is_visible = np.where(is_background, source.person < PERSON_THRESHOLD, of_person) & is_in_picture
    return DenseMotion(positions, is_visible, np.maximum(person, is_hit), is_uncovered_inside)


def coarse_motion(motion: DenseMotion, landmarks_px: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Average a motion to the cells that a latent flow generator works with.

    A cell's occlusion is 1 where the source shows what it shows, and 0 where something is hidden, or where, at the
    mouth and the eyes, the interpolated cells would lead elsewhere than the exact motion: there a decoder must paint.

    Args:
        motion: The motion, for pixels.
        landmarks_px: The 68 landmarks of the driven picture (68, 2).
        stride: Pixels per cell.

    Returns:
        Positions, float32 (S/k, S/k, 2) in grid_sample units; occlusion, float32 (S/k, S/k) in [0, 1].
    """
    size_px = len(motion.is_visible)
    cells = size_px // stride
    centres = pixel_centres(size_px)
    displacement = cv2.resize(motion.positions_px - centres, (cells, cells), interpolation=cv2.INTER_AREA)
    interpolated = cv2.resize(displacement, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    error_px = np.linalg.norm(centres + interpolated - motion.positions_px, axis=-1)
    is_wrong = (error_px > TRUSTED_CELL_SHARE * stride) & _mouth_and_eyes(landmarks_px, size_px)
    is_unknown = (is_wrong | ~motion.is_visible).astype(np.float32)
    unknown = cv2.resize(is_unknown, (cells, cells), interpolation=cv2.INTER_AREA)
    positions = (pixel_centres(cells) * stride + displacement) * (2 / size_px) - 1
    return positions.astype(np.float32), 1 - np.clip(PAINT_GAIN * unknown, 0, 1)


def _shows(surface: Surface, points_px: np.ndarray) -> np.ndarray:
    """Whether points (H, W, 3) in front of or on a surface are not hidden by it."""
    x, y = (points_px[..., axis].astype(np.int32).clip(0, surface.size_px - 1) for axis in (0, 1))
    # a pixel's depth, or that of the farthest one beside it: a slope must not hide itself
    depth = np.maximum(surface.raster.depth_cm, -1e4)
    farthest = cv2.erode(depth, np.ones((3, 3), np.uint8))
    is_inside = np.isin(surface.part, INNER_MOUTH)
    nearest_allowed = np.where(is_inside, depth, farthest)[y, x]
    return points_px[..., 2] > nearest_allowed - HIDDEN_BEHIND_CM * surface.pose.scale_px_per_cm


def _between_lips(surface: Surface, points_px: np.ndarray) -> np.ndarray:
    """Whether points (H, W, 3) lie between the lips that a surface parts, and not at their edge."""
    between = np.zeros((surface.size_px,) * 2, np.uint8)
    cv2.fillPoly(between, [np.round(surface.landmarks_px[INNER_LIPS] - 0.5).astype(np.int32)], 1)
    # the polygon's own outline is drawn, too
    between = cv2.erode(between, np.ones((LIP_EDGE_PX,) * 2, np.uint8)).astype(np.float32)
    return sample(between, np.ascontiguousarray(points_px[..., :2])) > 0.5


def _outline_motion(source: Surface, driven: Surface, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacement (S, S, 2) of what turns with the head's outline, and how far each pixel follows the head."""
    matrix, shift = driven.pose.outline_to_picture()
    source_matrix, source_shift = source.pose.outline_to_picture()
    to_head = np.linalg.inv(matrix)
    x, y = centres[..., 0] - np.float32(shift[0]), centres[..., 1] - np.float32(shift[1])
    follows = neck_share(x * np.float32(to_head[1, 0]) + y * np.float32(to_head[1, 1]), driven.chin_y_cm)
    (xx, xy), (yx, yy) = (source_matrix @ to_head - np.eye(2)).astype(np.float32)
    drift_x, drift_y = (source_shift - shift).astype(np.float32)
    displacement = np.stack([x * xx + y * xy + drift_x, x * yx + y * yy + drift_y], axis=-1)
    return displacement * follows[..., None], follows


def _spread(values: np.ndarray, is_known: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """Carry known values (S, S, 2) on to where none are, from near circles first, fading out along the body."""
    size_px = len(values)
    half = size_px // 2
    known = is_known.astype(np.float32)
    # where nothing follows the head, nothing is known to be zero either: a weak zero
    stacked = np.dstack([values * known[..., None], known + 0.02 * (1 - follows) + 1e-4])
    current = cv2.resize(stacked, (half, half), interpolation=cv2.INTER_AREA)
    spread, done = np.zeros((half, half, 2), np.float32), np.zeros((half, half, 1), np.float32)
    shrink = 1
    for reach_px in SPREADS_PX:
        reach = reach_px * size_px / 512
        while reach / shrink > 4 and len(current) > 16:
            current = cv2.resize(current, (len(current) // 2,) * 2, interpolation=cv2.INTER_AREA)
            shrink *= 2
        blurred = cv2.GaussianBlur(current, (0, 0), reach / shrink, borderType=cv2.BORDER_REFLECT)
        if shrink > 1:
            blurred = cv2.resize(blurred, (half, half), interpolation=cv2.INTER_LINEAR)
        mass = blurred[..., 2:]
        share = np.clip(mass * 40, 0, 1) * (1 - done)
        spread += share * blurred[..., :2] / np.maximum(mass, 1e-6)
        done += share
    return cv2.resize(spread / np.maximum(done, 1e-6), (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def _mouth_and_eyes(landmarks_px: np.ndarray, size_px: int) -> np.ndarray:
    """Bool (S, S): boxes around mouth and eyes."""
    boxes = np.zeros((size_px, size_px), bool)
    for places in (LIPS, RIGHT_EYE, LEFT_EYE):
        low, high = landmarks_px[places].min(axis=0), landmarks_px[places].max(axis=0)
        margin = 0.3 * (high - low).max()
        (left, top), (right, bottom) = (
            np.maximum(low - margin, 0).astype(int),
            np.maximum(high + margin, 0).astype(int),
        )
        boxes[top:bottom, left:right] = True
    return boxes
