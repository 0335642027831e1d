"""Pairs of frames with known motion, to train LFG's encoder and decoder."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.utils.data import Dataset

from diffusers_dawn.geometry.flow import cell_centres
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.colour_jitter import ColourJitter
from training.data.datasets import as_images, blinking_frames, mirrored_places
from training.data.draw import Draw
from training.data.face_square import draw_corner
from training.data.known_motion import check_motion

LABELS = ("mouth_px", "eyes_px", "motion", "motion_references")
# how far a denoiser blurs where lips and lids part, in cells
SOFT_SIGMA_CELLS = (0.3, 1.5)
# in widths of the eye
AROUND_EYES = 0.4


class KnownPairs(Dataset):
    """A reference frame, another one, and the motion between them.

    Args:
        clips: The prepared clips.
        crop_px: Side of a square, mostly around the face, that is cut out of both, a multiple of 8; None: whole
            pictures.
        colour_jitter: Strength of the jitter of brightness, contrast, saturation and hue; 0: none.
        flip: Whether to mirror pairs at random.
        soft_motion_share: Share of pairs whose motion is blurred, as that of a denoiser is.
        blink_share: Share of the pairs whose driving frame is drawn from the clip's blinks, if it has any.
        denoised_share: Share of the pairs that are drawn from a denoiser's version of their motion, half of them
            around the eyes only: a denoiser knows exactly where lids are, and less where lips are.

    Raises:
        ValueError: Clips do not know their motion, or not a denoiser's version of it, or `crop_px` does not fit.
    """

    def __init__(
        self,
        clips: ClipShards | ClipMixture,
        crop_px: int | None = None,
        colour_jitter: float = 0.1,
        flip: bool = True,
        soft_motion_share: float = 0.0,
        blink_share: float = 0.0,
        denoised_share: float = 0.0,
    ) -> None:
        check_motion(clips)
        if denoised_share:
            for part in clips.parts if isinstance(clips, ClipMixture) else [clips]:
                part.read_denoised(0)
        size_px = clips.info.size_px
        if crop_px is not None and not (0 < crop_px <= size_px and crop_px % 8 == 0):
            raise ValueError(f"`crop_px` is {crop_px}, must be a multiple of 8 up to {size_px}")
        self.clips, self.crop_px, self.flip, self.blink_share = clips, crop_px, flip, blink_share
        self.soft_motion_share, self.denoised_share = soft_motion_share, denoised_share
        self.jitter = ColourJitter(colour_jitter, colour_jitter, colour_jitter, min(colour_jitter, 0.5))
        if isinstance(clips, ClipMixture):
            self.choose = clips.choose

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a pair.

        Args:
            draw: Which clip, and the seed.

        Returns:
            source and driving (3, H, W) in [0, 1], flow (h, w, 2) in grid_sample units, occlusion (1, h, w), mouth_px
            (20, 2) and eyes_px (2, 4) of the driving frame [px].
        """
        rng = draw.random()
        num_frames = self.clips.entries[draw.index].num_frames
        labels = self.clips.read_labels(draw.index, LABELS)
        denoised = self.clips.read_denoised(draw.index) if rng.random() < self.denoised_share else None
        if denoised is None:
            which, first, last = int(rng.integers(len(labels["motion_references"]))), 0, num_frames
        else:
            which, first, last = denoised.which, denoised.first, denoised.first + len(denoised.motion)
        driven = int(rng.integers(first, last))
        if rng.random() < self.blink_share:
            blinks = blinking_frames(self.clips, draw.index)
            blinks = blinks[(blinks >= first) & (blinks < last)]
            driven = int(rng.choice(blinks)) if len(blinks) else driven
        frames = self.clips.read_frames(draw.index, [int(labels["motion_references"][which]), driven])
        motion = labels["motion"][driven, which].astype(np.float32)
        places = {name: labels[name][driven].astype(np.float32) for name in ("mouth_px", "eyes_px")}
        if denoised is not None:
            told = denoised.motion[driven - first]
            around_eyes = rng.random() < 0.5
            motion = replaced_around(places["eyes_px"], motion, told, frames.shape[1]) if around_eyes else told
        if self.crop_px is not None:
            frames, motion, places = _crop(frames, motion, places, self.crop_px, rng)
        pair = self.jitter(as_images(frames), rng)
        if self.flip and rng.random() < 0.5:
            pair = pair.flip(-1)
            places = {
                name: mirrored_places(name, values[None], pair.shape[-1] - 1)[0] for name, values in places.items()
            }
            motion = motion[..., ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None]
        if denoised is None and rng.random() < self.soft_motion_share:
            motion = blur_motion(motion, rng.uniform(*SOFT_SIGMA_CELLS))
        flow = torch.from_numpy(np.ascontiguousarray(motion))
        return {
            "source": pair[0],
            "driving": pair[1],
            "flow": flow[:2].permute(1, 2, 0).contiguous(),
            "occlusion": flow[2:],
            **{name: torch.from_numpy(np.ascontiguousarray(values, np.float32)) for name, values in places.items()},
        }


def replaced_around(boxes_px: np.ndarray, motion: np.ndarray, other: np.ndarray, size_px: int) -> np.ndarray:
    """Take another motion in and around boxes, with a soft border.

    Args:
        boxes_px: x_min, x_max, y_min, y_max (N, 4) [px].
        motion: The motion (3, h, w).
        other: What takes its place there (3, h, w).
        size_px: Side of the picture that h and w stand for [px].

    Returns:
        The motion (3, h, w).
    """
    cells = motion.shape[-1]
    share = np.zeros((cells, cells), np.float32)
    for left, right, top, bottom in boxes_px * (cells / size_px):
        margin = AROUND_EYES * (right - left)
        rows = slice(max(int(top - margin), 0), int(bottom + margin) + 2)
        share[rows, max(int(left - margin), 0) : int(right + margin) + 2] = 1
    return motion + gaussian_filter(share, 1) * (other - motion)


def blur_motion(motion: np.ndarray, sigma_cells: float) -> np.ndarray:
    """Blur motion as a denoiser does.

    Args:
        motion: Positions in grid_sample units, and visibility (3, h, w).
        sigma_cells: Width of the blur.

    Returns:
        The same, its displacements and visibility blurred: positions themselves would bend at the border.
    """
    still = np.zeros_like(motion)
    still[:2] = cell_centres(*motion.shape[1:]).permute(2, 0, 1).numpy()
    return gaussian_filter(motion - still, (0, sigma_cells, sigma_cells), mode="nearest") + still


def _crop(
    frames: np.ndarray, motion: np.ndarray, places: dict[str, np.ndarray], crop_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    size_px, cells = frames.shape[1], motion.shape[-1]
    stride = size_px // cells
    left, top = draw_corner(places, size_px, crop_px, cells, rng)
    side = crop_px // stride
    motion = motion[:, top : top + side, left : left + side].copy()
    for axis, first in ((0, left), (1, top)):
        in_px = (motion[axis] + 1) * (size_px / 2) - first * stride
        motion[axis] = in_px * (2 / crop_px) - 1
    rows, columns = (slice(first * stride, first * stride + crop_px) for first in (top, left))
    shift = np.array([left, top], np.float32) * stride
    places = {
        "mouth_px": places["mouth_px"] - shift,
        "eyes_px": places["eyes_px"] - shift[[0, 0, 1, 1]],
    }
    return frames[:, rows, columns], motion, places
