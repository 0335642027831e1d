"""Calls of the tiny pipeline on made-up pictures and sounds."""

from contextlib import contextmanager
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


@contextmanager
def machine_settings(pipe, **settings):
    """Use the machine otherwise for as long as the context lasts."""
    before = pipe._machine
    if settings.keys() & {"window_frames", "window_overlap"}:
        pipe.enable_windows(settings.get("window_frames"), settings.get("window_overlap", before.window_overlap))
    for name, use in (
        ("cache_interval", pipe.enable_step_cache),
        ("memory_budget", pipe.set_memory_budget),
        ("decode_chunk_size", pipe.set_decode_chunk_size),
    ):
        if name in settings:
            use(settings[name])
    try:
        yield
    finally:
        pipe._machine = before


def run(pipe, image=None, audio=None, **arguments):
    names = ("window_frames", "window_overlap", "cache_interval", "memory_budget", "decode_chunk_size")
    machine = {name: arguments.pop(name) for name in names if name in arguments}
    defaults = {"sampling_rate": RATE_HZ, "face": face(), "num_inference_steps": 2, "output_type": "pt"}
    defaults |= {"generator": seeded()} | arguments
    if defaults.get("audio_embeds") is None:
        audio = speech() if audio is None else audio
    else:
        defaults.pop("sampling_rate")
    with machine_settings(pipe, **machine):
        return pipe(picture() if image is None else image, audio, **defaults)
