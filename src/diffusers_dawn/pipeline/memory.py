"""What a pipeline needs of the memory, and what leaves it: estimates, windows, offloading."""

from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..geometry.frame_windows import FrameWindows
from ..memory.budget import available_bytes, choose_windows
from ..memory.estimate import latent_copies, stage_bytes, weight_bytes
from ..sampling.presets import choose_sampling
from .request import RenderRequest

# LFG draws with weights that its norms are folded into, which hooks of single layers do not see; PBNet is small
KEPT_ON_DEVICE = ("lfg", "pbnet")
# by denoiser, which pipelines may share
_LOCKS: WeakKeyDictionary = WeakKeyDictionary()


class FitsMemory:
    """The part of `DAWNPipeline` that knows about memory; goes before `DiffusionPipeline` among its bases."""

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Keep weights on the CPU but for those in use, see `DiffusionPipeline.enable_sequential_cpu_offload`.

        LFG and PBNet stay on the device.

        Args:
            *args: As in diffusers.
            **kwargs: As in diffusers.
        """
        self._exclude_from_cpu_offload = [*dict.fromkeys([*self._exclude_from_cpu_offload, *KEPT_ON_DEVICE])]
        super().enable_sequential_cpu_offload(*args, **kwargs)

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
        """Wait for other calls of the denoiser where its networks have state, which belongs to one call at a time.

        Caches of diffusers keep features of a call; hooks of offloading and layerwise casting move weights about.

        Returns:
            Context that a call runs in; no other call enters meanwhile that shares the denoiser.
        """
        layers = (layer for network in self._networks() for layer in network.modules())
        has_state = any(hasattr(layer, "_diffusers_hook") or hasattr(layer, "_hf_hook") for layer in layers)
        return _LOCKS.setdefault(self.unet, RLock()) if has_state else nullcontext()

    def estimate_memory(
        self,
        num_frames: int,
        height: int | None = None,
        width: int | None = None,
        batch_size: int = 1,
        guidance_scale: float = 1.0,
        output_type: str = "pil",
        window_frames: int | None = None,
        cache_interval: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        preset: str | None = None,
        num_inference_steps: int | None = None,
    ) -> int:
        """Estimate the peak memory of rendering, see `memory.estimate`.

        Args:
            num_frames: Frames F of each clip.
            height: Height of the video [px]; None: `default_size`.
            width: Width of the video [px].
            batch_size: Clips B.
            guidance_scale: Weight of the conditions.
            output_type: Form of the frames.
            window_frames: Frames denoised at once; None: all.
            cache_interval: Above 1, the denoiser's deep features are kept.
            dtype: Precision of all networks; None: as they are.
            device: Where it is rendered; None: where the pipeline is. It need not be there.
            preset: Sampler by name, as in a call.
            num_inference_steps: Denoising steps of the pipeline's scheduler; what is held does not depend on how many,
                but on whether the scheduler is the pipeline's own or, without, the default preset's.

        Returns:
            Bytes beside the process itself, weights included; fitted on a CPU.

        Raises:
            ValueError: There is no such preset, or steps are given beside it.
        """
        request = RenderRequest(
            height or self.default_size,
            width or self.default_size,
            guidance_scale=guidance_scale,
            output_type=output_type,
            cache_interval=cache_interval,
        )
        device = None if device is None else torch.device(device)
        scheduler = choose_sampling(self.scheduler, preset, num_inference_steps).scheduler
        return self._needed_bytes(scheduler, request, num_frames, window_frames, batch_size, dtype, device)

    def available_memory(self) -> int | None:
        """Find how much memory a call may take where the pipeline is, its weights included [bytes]; None: unknown."""
        return available_bytes(self._execution_device, self._networks())

    def plan_windows(
        self,
        num_frames: int,
        request: RenderRequest,
        scheduler: Any = None,
        batch_size: int = 1,
        held_bytes: int = 0,
    ) -> FrameWindows:
        """Choose how many frames are denoised at once: all where they fit, else windows.

        Args:
            num_frames: Frames F of each clip.
            request: How they are rendered.
            scheduler: By which scheduler; None: the pipeline's.
            batch_size: Clips B.
            held_bytes: What the caller keeps in this memory meanwhile.

        Returns:
            The windows; a single one stands for one pass.

        Raises:
            ValueError: The clips do not fit; the message says what would.
        """
        scheduler = self.scheduler if scheduler is None else scheduler
        budget = self.available_memory() if request.memory_budget is None else request.memory_budget

        def needed_bytes(frames: int, window: int) -> int:
            return held_bytes + self._needed_bytes(scheduler, request, frames, window, batch_size)

        return choose_windows(num_frames, request.window_frames, request.window_overlap, needed_bytes, budget)

    def _networks(self) -> list[torch.nn.Module]:
        return [part for part in self.components.values() if isinstance(part, torch.nn.Module)]

    def _needed_bytes(
        self,
        scheduler: Any,
        request: RenderRequest,
        num_frames: int,
        window_frames: int | None,
        batch_size: int,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> int:
        size = request.clip_size(num_frames, window_frames, batch_size)
        size = size._replace(latent_copies=latent_copies(scheduler))
        networks = self.unet, self.lfg, self.audio_encoder
        stages = stage_bytes(*networks, size, device or self._execution_device, dtype)
        return weight_bytes(self._networks(), dtype) + max(stages.values())
