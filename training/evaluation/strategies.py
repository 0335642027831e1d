"""Ways of making a video with one pipeline: all frames at once, or, as the paper compares, in parts (section 4.4)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from diffusers_dawn.records import Portrait

ALL_AT_ONCE, SEMI_AUTOREGRESSIVE, TWO_RESOLUTIONS = "all_at_once", "sar", "ttr"
# as long as the longest clips of the paper's training
CHUNK_FRAMES = 40
# of a clip of 200 frames, twenty are key frames, as many as the first clips of the paper's training have
KEY_EVERY = 10
STRATEGIES = {
    ALL_AT_ONCE: "all frames are made at once",
    SEMI_AUTOREGRESSIVE: f"{CHUNK_FRAMES} frames are made after {CHUNK_FRAMES}, from the last one before them (SAR)",
    TWO_RESOLUTIONS: f"every {KEY_EVERY}th frame is made first, then, from each, those up to the next (TTR)",
}


class Stretch(NamedTuple):
    """Neighbouring frames of a video.

    Attributes:
        latents: Their motion away from a picture (1, 3, F, h, w).
        portrait: The picture.
    """

    latents: torch.Tensor
    portrait: Portrait


# makes latents (1, 3, N, h, w) from a portrait and the numbers of the frames (N,)
Animate = Callable[[Portrait, np.ndarray], torch.Tensor]
# draws a stretch of one frame, which has that number, so that others can start from it
Draw = Callable[[Stretch, int], Portrait]


def make_stretches(strategy: str, portrait: Portrait, num_frames: int, animate: Animate, draw: Draw) -> list[Stretch]:
    """Make a video.

    A part starts from a picture that was drawn, as this denoiser takes one picture and no other frames: what is wrong
    in it stays, and frames do not know the key frame after them.

    Args:
        strategy: One of `STRATEGIES`.
        portrait: The portrait.
        num_frames: Frames F, at least 1.
        animate: Makes frames, all that it is given at once.
        draw: Makes a portrait of a frame.

    Returns:
        The stretches of the video in order, F frames together.
    """
    if strategy == SEMI_AUTOREGRESSIVE:
        return _chunk_after_chunk(portrait, num_frames, animate, draw)
    if strategy == TWO_RESOLUTIONS:
        return _from_key_frames(portrait, num_frames, animate, draw)
    return [Stretch(animate(portrait, np.arange(num_frames)), portrait)]


def _chunk_after_chunk(portrait: Portrait, num_frames: int, animate: Animate, draw: Draw) -> list[Stretch]:
    stretches: list[Stretch] = []
    for frames in np.split(np.arange(num_frames), range(CHUNK_FRAMES, num_frames, CHUNK_FRAMES)):
        if stretches:
            before = stretches[-1]
            portrait = draw(Stretch(before.latents[:, :, -1:], before.portrait), int(frames[0]) - 1)
        stretches.append(Stretch(animate(portrait, frames), portrait))
    return stretches


def _from_key_frames(portrait: Portrait, num_frames: int, animate: Animate, draw: Draw) -> list[Stretch]:
    keys = np.arange(0, num_frames, KEY_EVERY)
    latents = animate(portrait, keys)
    # the portrait itself is sharper than the key frame that shows it
    starts = [portrait]
    for number, key in enumerate(keys[1:], 1):
        starts.append(draw(Stretch(latents[:, :, number : number + 1], portrait), int(key)))
    parts = np.split(np.arange(num_frames), keys[1:])
    return [Stretch(animate(start, frames), start) for start, frames in zip(starts, parts, strict=True)]
