"""Tracks of a made-up head."""

import numpy as np

from diffusers_dawn import FaceState
from diffusers_dawn.motion.track import MotionTrack

REST = FaceState(
    pose=np.array([3.0, -2.0, 1.0, 5e-4, 60.0, 65.0]),
    blink=np.array([0.3, 0.31]),
    box_px=(16.0, 64.0, 20.0, 72.0),
    image_size=(80, 80),
)


def still_track(num_frames: int = 100) -> MotionTrack:
    """A head that does nothing."""
    return MotionTrack(np.tile(REST.pose, (num_frames, 1)), np.tile(REST.blink, (num_frames, 1)))


def moving_track(num_frames: int = 100, seed: int = 0, blinks_at: tuple[int, ...] = (20, 70)) -> MotionTrack:
    """A head that sways, with blinks of five frames around the given ones."""
    rng = np.random.default_rng(seed)
    times = np.arange(num_frames)[:, None] / 25
    speeds, phases = rng.uniform(1, 4, (2, 6))
    sway = np.sin(times * speeds + phases) * np.array([6, 4, 2, 1e-5, 2, 2])
    blink = np.tile(REST.blink, (num_frames, 1))
    for frame in blinks_at:
        for offset, factor in ((-2, 0.8), (-1, 0.4), (0, 0.1), (1, 0.3), (2, 0.7)):
            if 0 <= frame + offset < num_frames:
                blink[frame + offset] *= factor
    return MotionTrack(REST.pose + sway, blink, REST.pose, REST.blink)
