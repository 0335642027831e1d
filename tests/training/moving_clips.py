"""Clips whose whole picture moves by whole pixels, and who know it."""

import numpy as np
from tiny_clips import eyed_clip

from diffusers_dawn.geometry.flow import cell_centres

NUM_FRAMES, SIZE_PX = 12, 64


def moving_clip(clip_id, num_frames=NUM_FRAMES):
    clip = eyed_clip(clip_id, num_frames)
    first = clip.frames[0]
    shifts = np.arange(num_frames) % 5
    frames = np.stack([np.roll(first, shift, axis=1) for shift in shifts])
    motion = np.empty((num_frames, 2, 3, SIZE_PX // 4, SIZE_PX // 4), np.float16)
    still = cell_centres(SIZE_PX // 4, SIZE_PX // 4).permute(2, 0, 1).numpy()
    references = np.array([0, 7], np.int32)
    for which, reference in enumerate(references):
        for index in range(num_frames):
            motion[index, which, :2] = still
            motion[index, which, 0] += (shifts[reference] - shifts[index]) * 2 / SIZE_PX
            motion[index, which, 2] = 1 - 0.05 * index
    labels = {"mouth_px": clip.labels["mouth_px"][:1] + np.stack([shifts, 0 * shifts], axis=-1)[:, None]}
    labels["mouth_px"] = labels["mouth_px"].astype(np.float32)
    labels |= {"motion": motion, "motion_references": references}
    return type(clip)(clip_id, clip.identity, frames, clip.samples, clip.labels | labels)
