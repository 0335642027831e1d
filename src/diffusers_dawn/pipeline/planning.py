"""From what a call asks for to how it is rendered: sampler and steps, windows, memory."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ..memory.budget import choose_windows
from ..memory.estimate import stage_bytes, weight_bytes
from ..ranges import check_counts
from ..sampling.presets import choose_sampling
from ..sampling.scheduler_choice import allow_long_clips, check_scheduler
from ..sampling.scheduler_times import set_timesteps
from .request import RenderPlan, RenderRequest, refuse_moved


def make_request(
    pipe: Any,
    height: int | None = None,
    width: int | None = None,
    num_inference_steps: int | None = None,
    timesteps: list[int] | None = None,
    sigmas: list[float] | None = None,
    guidance_scale: float | Mapping[str, float] | None = None,
    eta: float | None = None,
    output_type: str = "pil",
    preset: str | None = None,
    **moved: Any,
) -> RenderRequest:
    """Collect and check what a call asks for.

    Args:
        pipe: The pipeline, or the stages of one.
        height: As for `DAWNPipeline.__call__`, like the others.
        width: Width of the video [px].
        num_inference_steps: Denoising steps.
        timesteps: Own times of the steps.
        sigmas: Own noise levels of the steps.
        guidance_scale: Weight of the conditions, or of each; None: the pipeline's.
        eta: Share of fresh noise.
        output_type: Form of the frames.
        preset: Sampler and steps by name.
        **moved: Refused, see `refuse_moved`.

    Returns:
        The request; its scheduler is a copy, with the times of its steps set.

    Raises:
        ValueError: An argument is not allowed.
        TypeError: An argument is none of a call.
    """
    refuse_moved(moved)
    sampling = choose_sampling(pipe.scheduler, preset, num_inference_steps, timesteps, sigmas, eta)
    scheduler = copy.deepcopy(sampling.scheduler)
    request = RenderRequest(
        pipe.default_size if height is None else height,
        pipe.default_size if width is None else width,
        scheduler,
        *sampling[1:4],
        {"speech": pipe.config.speech_guidance} if guidance_scale is None else guidance_scale,
        sampling.eta,
        output_type,
        pipe._machine,
    )
    multiple = pipe.unet.size_multiple * pipe.lfg.config.motion_stride
    request.check(multiple, scheduler.config.num_train_timesteps - 1)
    check_scheduler(scheduler)
    allow_long_clips(scheduler)
    set_timesteps(scheduler, pipe._execution_device, *request.schedule)
    return request


def make_plan(
    pipe: Any, request: RenderRequest, num_frames: int, batch_size: int = 1, held_bytes: int = 0
) -> RenderPlan:
    """Choose how many frames are denoised at once: all where they fit, else windows.

    Args:
        pipe: The pipeline.
        request: What is asked for.
        num_frames: Frames F of each clip.
        batch_size: Clips B.
        held_bytes: What the caller keeps in this memory meanwhile.

    Returns:
        The plan.

    Raises:
        ValueError: A number is no count, or the clips do not fit in the memory.
    """
    check_counts(num_frames=num_frames, batch_size=batch_size)
    machine = request.machine
    budget = pipe.available_memory() if machine.memory_budget is None else machine.memory_budget

    def needed(frames: int, window: int) -> int:
        return held_bytes + needed_bytes(pipe, request, frames, window, batch_size)

    windows = choose_windows(num_frames, machine.window_frames, machine.window_overlap, needed, budget)
    return RenderPlan(request, windows, needed(num_frames, windows.slices[0].stop))


def needed_bytes(
    pipe: Any,
    request: RenderRequest,
    num_frames: int,
    window_frames: int | None,
    batch_size: int,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> int:
    """Estimate the peak of the memory, weights included, see `memory.estimate`.

    Args:
        pipe: The pipeline.
        request: What is asked for.
        num_frames: Frames F of each clip.
        window_frames: Frames denoised at once; None: all.
        batch_size: Clips B.
        dtype: Precision of all networks; None: as they are.
        device: Where it is rendered; None: where the pipeline is.

    Returns:
        Bytes.
    """
    size = request.clip_size(num_frames, window_frames, batch_size)
    stages = stage_bytes(pipe.unet, pipe.lfg, pipe.audio_encoder, size, device or pipe._execution_device, dtype)
    return weight_bytes(networks_of(pipe), dtype) + max(stages.values())


def networks_of(pipe: Any) -> list[torch.nn.Module]:
    """List the networks of a pipeline."""
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
