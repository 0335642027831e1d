"""How clips are to be rendered: the settings of a pipeline call, checked before any work."""

import math
from dataclasses import dataclass
from numbers import Real

from ..geometry.frame_windows import check_windows
from ..memory.budget import WINDOW_FRAMES, WINDOW_OVERLAP
from ..memory.estimate import ClipSize
from .clips import is_whole_number
from .output import OUTPUT_TYPES

MOST_HEAD_MOTION = 2


@dataclass(frozen=True)
class RenderRequest:
    """Settings that all clips of a call share; see `DAWNPipeline.__call__`.

    Attributes:
        height: Height of the video [px].
        width: Width of the video [px].
        num_inference_steps: Denoising steps; memory does not depend on them.
        timesteps: Own times of the steps.
        sigmas: Own noise levels of the steps.
        guidance_scale: Weight of the conditions against the null condition.
        eta: Share of fresh noise.
        head_motion: Factor of the head's motion.
        output_type: Form of the frames.
        decode_chunk_size: Frames drawn at once.
        window_frames: Frames denoised at once; None: chosen by the memory.
        window_overlap: Frames that neighbouring windows share at least.
        memory_budget: Memory that may be taken, weights included [bytes]; None: what is free.
        cache_interval: Every so many calls all levels of the denoiser run; 1: in every call.
    """

    height: int
    width: int
    num_inference_steps: int = 1
    timesteps: list[int] | None = None
    sigmas: list[float] | None = None
    guidance_scale: float = 1.0
    eta: float = 1.0
    head_motion: float = 1.0
    output_type: str = "pil"
    decode_chunk_size: int = 8
    window_frames: int | None = None
    window_overlap: int = WINDOW_OVERLAP
    memory_budget: int | None = None
    cache_interval: int = 1

    @property
    def schedule(self) -> tuple[int, list[int] | None, list[float] | None]:
        """Steps, times and noise levels, as `scheduler_choice.set_timesteps` takes them."""
        return self.num_inference_steps, self.timesteps, self.sigmas

    def check(self, size_multiple: int, most_steps: int) -> None:
        """Refuse what cannot be rendered.

        Args:
            size_multiple: What height and width must be multiples of [px].
            most_steps: Most denoising steps that the scheduler can do.

        Raises:
            ValueError: A setting is not allowed.
        """
        sizes_are_whole = is_whole_number(self.height) and is_whole_number(self.width)
        if not sizes_are_whole or self.height != self.width or self.height <= 0 or self.height % size_multiple:
            raise ValueError(
                f"`height` and `width` are {self.height!r} and {self.width!r}, must be equal and a positive multiple"
                f" of {size_multiple}"
            )
        if not is_whole_number(self.num_inference_steps) or not 1 <= self.num_inference_steps <= most_steps:
            raise ValueError(
                f"`num_inference_steps` is {self.num_inference_steps!r}, must be a whole number in [1, {most_steps}]"
            )
        if not (isinstance(self.guidance_scale, Real) and 0 <= self.guidance_scale < math.inf):
            raise ValueError(f"`guidance_scale` is {self.guidance_scale!r}, must be a finite number from 0")
        if not (isinstance(self.eta, Real) and 0 <= self.eta <= 1):
            raise ValueError(f"`eta` is {self.eta!r}, must be a number in [0, 1]")
        if not (isinstance(self.head_motion, Real) and 0 <= self.head_motion <= MOST_HEAD_MOTION):
            raise ValueError(f"`head_motion` is {self.head_motion!r}, must be a number in [0, {MOST_HEAD_MOTION}]")
        if self.output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` is {self.output_type!r}, must be one of {', '.join(OUTPUT_TYPES)}")
        if not is_whole_number(self.decode_chunk_size) or self.decode_chunk_size < 1:
            raise ValueError(f"`decode_chunk_size` is {self.decode_chunk_size!r}, must be a whole number from 1")
        if not is_whole_number(self.cache_interval) or self.cache_interval < 1:
            raise ValueError(f"`cache_interval` is {self.cache_interval!r}, must be a whole number from 1")
        for name in ("window_frames", "window_overlap"):
            value = getattr(self, name)
            if value is not None and not is_whole_number(value):
                raise ValueError(f"`{name}` is {value!r}, must be a whole number")
        check_windows(WINDOW_FRAMES[0] if self.window_frames is None else self.window_frames, self.window_overlap)
        if self.memory_budget is not None and not (isinstance(self.memory_budget, Real) and self.memory_budget > 0):
            raise ValueError(f"`memory_budget` is {self.memory_budget!r}, must be a positive number of bytes, or None")

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
            with_null=self.guidance_scale != 1.0,
            output_type=self.output_type,
            decode_chunk_size=self.decode_chunk_size,
            keeps_deep_features=self.cache_interval > 1,
        )
