"""How clips are rendered: what a call asks for, how the machine is used, and the plan made from both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..geometry.frame_windows import FrameWindows, check_windows
from ..memory.budget import WINDOW_FRAMES, WINDOW_OVERLAP
from ..memory.estimate import ClipSize, latent_copies
from ..ranges import check_counts, is_between, is_whole_number
from ..sampling.guidance import guidance_of
from .output import OUTPUT_TYPES

# what are no arguments of a call: what says it instead
MOVED = {
    "window_frames": "pipe.enable_windows(frames, overlap)",
    "window_overlap": "pipe.enable_windows(frames, overlap)",
    "memory_budget": "pipe.set_memory_budget(num_bytes)",
    "cache_interval": "pipe.enable_step_cache(interval)",
    "decode_chunk_size": "pipe.set_decode_chunk_size(frames)",
    "face_index": "pipe.prepare_portrait(image, face_index=...)",
    "crop": "pipe.prepare_portrait(image, crop=...)",
    "attention_kwargs": "pipe.set_adapters(names, weights)",
    "head_motion": 'motion="head motion 0.5"',
}


def refuse_moved(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a call does not have, and say where they are.

    Args:
        arguments: Such arguments.

    Raises:
        TypeError: There is one.
    """
    for name in arguments:
        instead = f"; use `{MOVED[name]}`" if name in MOVED else ""
        raise TypeError(f"`{name}` is no argument of a call{instead}")


def check_budget(num_bytes: int | None, name: str) -> None:
    """Refuse what is no size of a memory.

    Args:
        num_bytes: The size [bytes]; None: not limited.
        name: Argument name for the message.

    Raises:
        ValueError: It is no positive number.
    """
    if num_bytes is not None and not is_between(num_bytes, 1, math.inf):
        raise ValueError(f"`{name}` is {num_bytes!r}, must be a positive number of bytes, or None")


@dataclass(frozen=True)
class MachineSettings:
    """How a pipeline uses the machine; see `DAWNPipeline.enable_windows` and the methods beside it.

    Attributes:
        window_frames: Frames denoised at once; None: all where they fit in the memory, else 200 or 100.
        window_overlap: Frames that neighbouring windows share at least.
        memory_budget: Memory that may be taken, weights included [bytes]; None: what is free.
        cache_interval: Run the full denoiser every N steps; 1: in every step.
        decode_chunk_size: Frames drawn at once.

    Raises:
        ValueError: A setting is not allowed.
    """

    window_frames: int | None = None
    window_overlap: int = WINDOW_OVERLAP
    memory_budget: int | None = None
    cache_interval: int = 1
    decode_chunk_size: int = 8

    def __post_init__(self) -> None:
        """Refuse what is not allowed."""
        check_counts(decode_chunk_size=self.decode_chunk_size, cache_interval=self.cache_interval)
        check_windows(WINDOW_FRAMES[0] if self.window_frames is None else self.window_frames, self.window_overlap)
        check_budget(self.memory_budget, "memory_budget")


@dataclass(frozen=True)
class RenderRequest:
    """Settings that all clips of a call share; see `DAWNPipeline.__call__`.

    Attributes:
        height: Height of the video [px].
        width: Width of the video [px].
        scheduler: What samples, with the times of its steps set.
        num_inference_steps: Denoising steps.
        timesteps: Own times of the steps.
        sigmas: Own noise levels of the steps.
        guidance_scale: Weight of the conditions against the null condition, or of each.
        eta: Share of fresh noise.
        output_type: Form of the frames.
        machine: How the machine is used.
    """

    height: int
    width: int
    scheduler: Any = None
    num_inference_steps: int = 1
    timesteps: list[int] | None = None
    sigmas: list[float] | None = None
    guidance_scale: float | Mapping[str, float] = 1.0
    eta: float = 1.0
    output_type: str = "pil"
    machine: MachineSettings = MachineSettings()

    @property
    def schedule(self) -> tuple[int, list[int] | None, list[float] | None]:
        """Steps, times and noise levels, as `scheduler_times.set_timesteps` takes them."""
        return self.num_inference_steps, self.timesteps, self.sigmas

    def check(self, size_multiple: int = 1, most_steps: int | None = None) -> None:
        """Refuse what cannot be rendered; without arguments, what no pipeline can render.

        Args:
            size_multiple: What height and width must be multiples of [px].
            most_steps: Most denoising steps that the scheduler can do; None: not known.

        Raises:
            ValueError: A setting is not allowed.
        """
        if not (is_whole_number(self.height) and is_whole_number(self.width)) or self.height != self.width:
            raise ValueError(
                f"`height` and `width` are {self.height!r} and {self.width!r}, must be equal whole numbers"
            )
        if self.height <= 0 or self.height % size_multiple:
            allowed = "positive" if size_multiple == 1 else f"a positive multiple of {size_multiple}"
            raise ValueError(f"`height` is {self.height}, must be {allowed}")
        has_steps = is_whole_number(self.num_inference_steps) and self.num_inference_steps >= 1
        if not has_steps or (most_steps is not None and self.num_inference_steps > most_steps):
            allowed = "from 1" if most_steps is None else f"in [1, {most_steps}]"
            raise ValueError(
                f"`num_inference_steps` is {self.num_inference_steps!r}, must be a whole number {allowed}"
            )
        guidance_of(self.guidance_scale)
        if not is_between(self.eta, 0, 1):
            raise ValueError(f"`eta` is {self.eta!r}, must be a number in [0, 1]")
        if not (isinstance(self.output_type, str) and self.output_type in OUTPUT_TYPES):
            raise ValueError(f"`output_type` is {self.output_type!r}, must be one of {', '.join(OUTPUT_TYPES)}")

    def clip_size(self, num_frames: int, window_frames: int | None = None, batch_size: int = 1) -> ClipSize:
        """Say what the memory of a batch of clips depends on.

        Args:
            num_frames: Frames F of each clip.
            window_frames: Frames denoised at once; None: all.
            batch_size: Clips B.

        Returns:
            The record for `memory.estimate`.
        """
        return ClipSize(
            num_frames=num_frames,
            height=self.height,
            width=self.width,
            window_frames=num_frames if window_frames is None else min(window_frames, num_frames),
            batch_size=batch_size,
            num_guiding=len(guidance_of(self.guidance_scale).left_out),
            output_type=self.output_type,
            decode_chunk_size=self.machine.decode_chunk_size,
            keeps_deep_features=self.machine.cache_interval > 1,
            latent_copies=latent_copies(self.scheduler),
        )


class RenderPlan(NamedTuple):
    """How clips of one length will be rendered, and what they need.

    Attributes:
        request: What was asked for, with sampler and steps.
        windows: Frames denoised at once; a single window is one pass.
        num_bytes: Estimated peak of the memory, weights included.
    """

    request: RenderRequest
    windows: FrameWindows
    num_bytes: int
