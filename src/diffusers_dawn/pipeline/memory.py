"""How a pipeline uses the machine: plans, estimates, windows, caches, offloading."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..geometry.frame_windows import check_windows
from ..memory.budget import WINDOW_FRAMES, WINDOW_OVERLAP, available_bytes
from ..ranges import check_counts
from .planning import make_plan, make_request, needed_bytes, networks_of
from .request import RenderPlan, check_budget

# LFG draws with weights that its norms are folded into, which hooks of single layers do not see; PBNet is small
KEPT_ON_DEVICE = ("lfg", "pbnet")
# by denoiser, which pipelines may share
_LOCKS: WeakKeyDictionary = WeakKeyDictionary()


class FitsMemory:
    """The part of `DAWNPipeline` that manages memory; goes before `DiffusionPipeline` among its bases."""

    _exclude_from_cpu_offload = list(KEPT_ON_DEVICE)

    def enable_group_offload(self, *args: Any, exclude_modules: str | list[str] | None = None, **kwargs: Any) -> None:
        """Offload groups of layers, see `DiffusionPipeline.enable_group_offload`; LFG and PBNet stay on the device.

        Args:
            *args: As in diffusers.
            exclude_modules: Further components that stay on the device.
            **kwargs: As in diffusers.
        """
        further = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or [])
        super().enable_group_offload(*args, exclude_modules=[*KEPT_ON_DEVICE, *further], **kwargs)

    def alone_with_networks(self) -> AbstractContextManager:
        """Let calls wait for each other if the networks have state, which only one call at a time may use.

        Caches of diffusers keep features of a call; hooks of offloading and layerwise casting move weights about.

        Returns:
            Context that a call runs in; no other call enters meanwhile that shares the denoiser.
        """
        layers = (layer for network in networks_of(self) for layer in network.modules())
        has_state = any(hasattr(layer, "_diffusers_hook") or hasattr(layer, "_hf_hook") for layer in layers)
        return _LOCKS.setdefault(self.unet, RLock()) if has_state else nullcontext()

    def enable_windows(self, frames: int | None = None, overlap: int = WINDOW_OVERLAP) -> None:
        """Denoise longer clips in overlapping windows that are blended at every step.

        Args:
            frames: Frames per window, which changes longer clips a little; None, as without this call: all frames in
                one pass where they fit in the memory, else windows of 200 or 100.
            overlap: Frames that neighbouring windows share at least.

        Raises:
            ValueError: Such windows cannot cover a clip.
        """
        check_windows(WINDOW_FRAMES[0] if frames is None else frames, overlap, ("frames", "overlap"))
        self._machine = replace(self._machine, window_frames=frames, window_overlap=overlap)

    def enable_step_cache(self, interval: int) -> None:
        """Run the full denoiser every N steps and reuse its deep features in between (DeepCache, arXiv 2312.00858).

        Args:
            interval: Steps from one full one to the next; 1, the default: every step is full.

        Raises:
            ValueError: It is no whole number from 1, or this denoiser has no deep levels.
        """
        check_counts(interval=interval)
        if interval > 1 and len(self.unet.config.block_out_channels) == 1:
            raise ValueError(f"`interval` is {interval}, must be 1: this denoiser has no deep levels")
        self._machine = replace(self._machine, cache_interval=interval)

    def set_memory_budget(self, num_bytes: int | None) -> None:
        """Say how much memory a call may take, weights included.

        Args:
            num_bytes: Bytes; None, as without this call: what is free.

        Raises:
            ValueError: It is not positive.
        """
        check_budget(num_bytes, "num_bytes")
        self._machine = replace(self._machine, memory_budget=num_bytes)

    def set_decode_chunk_size(self, frames: int) -> None:
        """Say how many frames are drawn at once; more take more memory.

        Args:
            frames: Frames; 8 without this call.

        Raises:
            ValueError: It is no whole number from 1.
        """
        check_counts(frames=frames)
        self._machine = replace(self._machine, decode_chunk_size=frames)

    def plan(self, num_frames: int, *, batch_size: int = 1, held_bytes: int = 0, **settings: Any) -> RenderPlan:
        """Decide how a call would render clips: sampler and steps, windows, memory; refuse what cannot be rendered.

        Args:
            num_frames: Frames F of each clip.
            batch_size: Clips B.
            held_bytes: What the caller keeps in this memory meanwhile.
            **settings: As for a call: those that `planning.make_request` takes.

        Returns:
            The plan.

        Raises:
            ValueError: An argument is not allowed, or the clips do not fit in the memory.
        """
        return make_plan(self, make_request(self, **settings), num_frames, batch_size, held_bytes)

    def estimate_memory(
        self,
        num_frames: int,
        *,
        batch_size: int = 1,
        window_frames: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **settings: Any,
    ) -> int:
        """Estimate the peak memory of rendering, see `memory.estimate`; it need not be available.

        Args:
            num_frames: Frames F of each clip.
            batch_size: Clips B.
            window_frames: Frames denoised at once; None: all.
            dtype: Precision of all networks; None: as they are.
            device: Where it is rendered; None: where the pipeline is. It need not be there.
            **settings: As for a call: those that `planning.make_request` takes. What is held does not depend on how
                many steps there are, but on whether the scheduler is the pipeline's own, as where steps are given, or
                a preset's.

        Returns:
            Bytes beside the process itself, weights included; fitted on a CPU.

        Raises:
            ValueError: An argument is not allowed.
        """
        request = make_request(self, **settings)
        check_counts(num_frames=num_frames, batch_size=batch_size)
        if window_frames is not None:
            check_counts(window_frames=window_frames)
        if not (dtype is None or isinstance(dtype, torch.dtype)):
            raise ValueError(f"`dtype` is {dtype!r}, must be a torch.dtype, or None")
        try:
            device = None if device is None else torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"`device` is {device!r}, must be a device of torch, or None") from error
        return needed_bytes(self, request, num_frames, window_frames, batch_size, dtype, device)

    def available_memory(self) -> int | None:
        """Find how much memory a call may use on the pipeline's device, weights included [bytes]; None: unknown."""
        return available_bytes(self._execution_device, networks_of(self))
