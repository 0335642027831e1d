"""What the blocks take and make, each described once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.modular_pipelines import InputParam, OutputParam

from ..memory.budget import WINDOW_OVERLAP
from ..motion.script import MotionScript
from ..motion.track import MotionTrack
from ..records import FaceState, Portrait, Waveform
from ..sampling.denoising import ClipContexts

# name -> type, description
_VALUES = {
    "image": (
        Any,
        "Portrait, or a list: path, bytes, PIL image, array (H, W, 3), tensor (3, H, W) in [0, 1], or a `Portrait`.",
    ),
    "face": (FaceState, "State of the face, also as a dict of its fields, or a list; no detector is needed then."),
    "portraits": (list[Portrait], "Square pictures with the state of the face in them."),
    "audio": (Any, "Recording, or a list: path, bytes, array, tensor, or (array, rate)."),
    "sampling_rate": (int, "Rate of audio arrays and tensors [Hz], one or a list."),
    "num_frames": (int, "Frames at 25 fps; None: as many as the recording lasts."),
    "audio_embeds": (torch.Tensor, "Speech features of every frame (B, F, D)."),
    "waveforms": (list[Waveform], "The recordings; None where features were given."),
    "pose": (
        torch.Tensor,
        "Head pose per frame (B, F, 6): yaw, pitch, roll [degrees], scale, x, y, as `records.POSE_NAMES`.",
    ),
    "blink": (torch.Tensor, "Openness of the left and right eye per frame (B, F, 2)."),
    "motion": (
        MotionTrack | MotionScript | str,
        "What the head and the eyes do: a track, or a text such as 'nod twice' or 'head motion 0.5'.",
    ),
    "generator": (torch.Generator, "Source of noise, or a list of one per clip."),
    "height": (int, "Height of the video [px]; None: the size that the denoiser was trained with."),
    "width": (int, "Width of the video [px]."),
    "preset": (str, "Sampler and steps by name: quality, balanced, fast; instead of the scheduler."),
    "num_inference_steps": (int, "Denoising steps of the scheduler; None: see `preset`."),
    "timesteps": (torch.Tensor, "Times of the steps."),
    "sigmas": (list[float], "Own noise levels of the steps, for schedulers that take them."),
    "eta": (float, "Share of fresh noise, in [0, 1], for schedulers that take it."),
    "latents": (torch.Tensor, "Motion (B, 3, F, h, w): noise before the denoising, clean motion after it."),
    "window_frames": (int, "Frames that are denoised at once; None: all of them."),
    "window_overlap": (int, "Frames that neighbouring windows share at least."),
    "contexts": (ClipContexts, "The denoiser's conditions, by window."),
    "sampler": (Any, "The scheduler of this call, with its steps set."),
    "step_arguments": (Mapping[str, Any], "Further arguments of the scheduler's step."),
    "decode_chunk_size": (int, "Frames that are drawn at once."),
    "output_type": (str, "Form of the frames: pil, np, pt, latent, or stream."),
    "videos": (
        Any,
        "Frames: a list of PIL images per clip, array (B, F, H, W, 3) or tensor (B, F, 3, H, W) in [0, 1].",
    ),
    "sound": (list[np.ndarray], "Samples (num_samples,) of every clip, as long as its frames; None without `audio`."),
    "sound_rate": (list[int], "Their rates [Hz]; None without `audio`."),
    "fps": (int, "Frames per second of the videos."),
}
_DEFAULTS = {
    "window_overlap": WINDOW_OVERLAP,
    "decode_chunk_size": 8,
    "output_type": "pil",
}


def takes(*names: str, needs: tuple[str, ...] = ()) -> list[InputParam]:
    """Describe a block's inputs.

    Args:
        *names: Those that may be left out.
        needs: Those that must be there.

    Returns:
        The inputs.
    """
    return [
        InputParam(name, _VALUES[name][0], _DEFAULTS.get(name), name in needs, _VALUES[name][1])
        for name in (*needs, *names)
    ]


def makes(*names: str) -> list[OutputParam]:
    """Describe a block's outputs.

    Args:
        *names: Their names.

    Returns:
        The outputs.
    """
    return [OutputParam(name, _VALUES[name][0], _VALUES[name][1]) for name in names]
