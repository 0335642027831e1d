"""Calls of the tiny pipeline on made-up pictures and sounds."""

from dataclasses import replace

import numpy as np
import torch

from diffusers_dawn import FaceState

RATE_HZ = 16_000
# frames of one clip computed alone, in a batch, or from moved weights: sums are taken in another order
BATCH_TOLERANCE = {"atol": 1e-3, "rtol": 0}


def picture(seed: int = 0, size: tuple[int, int] = (80, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def speech(num_frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, num_frames * RATE_HZ // 25).astype(np.float32)


def face(size: int = 80, **changes) -> FaceState:
    state = FaceState(
        pose=np.array([3.0, -2.0, 1.0, 5e-4, 60.0, 65.0]),
        blink=np.array([0.3, 0.31]),
        box_px=(0.2 * size, 0.8 * size, 0.25 * size, 0.9 * size),
        image_size=(size, size),
    )
    return replace(state, **changes)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(pipe, image=None, audio=None, **arguments):
    defaults = {"sampling_rate": RATE_HZ, "face": face(), "num_inference_steps": 2, "output_type": "pt"}
    defaults |= {"generator": seeded()} | arguments
    if defaults.get("audio_embeds") is None:
        audio = speech() if audio is None else audio
    else:
        defaults.pop("sampling_rate")
    return pipe(picture() if image is None else image, audio, **defaults)
