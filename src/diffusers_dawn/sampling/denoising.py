"""What the denoiser predicts for a clip, by window; a pass over all frames is one window (paper section 3.3)."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers.hooks import PyramidAttentionBroadcastConfig

from ..geometry.frame_windows import FrameWindows
from .conditions import Conditions, null_conditions
from .guidance import ALL, Guidance, guidance_of, without


class ClipContexts:
    """The denoiser's contexts of a clip, for one window at a time.

    Those of a single window are kept. At the published size the contexts of all frames take a megabyte per frame, and
    making those of a window takes 3 % of the time of denoising it, so several windows get theirs anew in every step.
    What all windows have in common is made once: the reference's share of the first convolution, and the context of
    the null condition, as all windows are equally long.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        reference: Features of the source images (B, C, h, w).
        location: Features of the face's location (B, C', h, w).
        conditions: Conditions of all frames.
        windows: The windows.
        guidance: Weights of the conditions, which say what else the denoiser is called with.
    """

    def __init__(
        self,
        denoiser: Any,
        reference: torch.Tensor,
        location: torch.Tensor,
        conditions: Conditions,
        windows: FrameWindows,
        guidance: Guidance,
    ) -> None:
        self.windows, self.left_out = windows, guidance.left_out
        self.num_calls = len(windows.slices) * (1 + len(self.left_out))
        self._denoiser, self._conditions = denoiser, conditions
        first = self._conditions_of(windows.slices[0])
        context = denoiser.prepare_context(reference, location, *first)
        self._shared = context._replace(conditions=[])
        self._null = self._with(null_conditions(first)) if ALL in self.left_out else None
        self._only = [context, *self._lessened(first)] if len(windows.slices) == 1 else None

    def of_window(self, window: slice) -> list[Any]:
        """Return the context of one window, followed by those without some conditions that guidance needs."""
        if self._only:
            return self._only
        conditions = self._conditions_of(window)
        return [self._with(conditions), *self._lessened(conditions)]

    def _lessened(self, conditions: Conditions) -> list[Any]:
        return [self._null if names == ALL else self._with(without(conditions, names)) for names in self.left_out]

    def _with(self, conditions: Conditions) -> Any:
        return self._shared._replace(conditions=self._denoiser.project_conditions(*conditions))

    def _conditions_of(self, window: slice) -> Conditions:
        return Conditions(*(condition[:, window] for condition in self._conditions))


class StepCache:
    """Deep features of a clip's denoiser, kept from one step for the next ones (DeepCache, arXiv 2312.00858).

    Args:
        interval: Run the full network every `interval` steps and only its highest resolution in between; 1: always.
    """

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval
        self._features: dict[tuple[int, int], torch.Tensor] = {}

    def begin_step(self, index: int) -> None:
        """Forget the features where all levels are to run in this step."""
        if index % self.interval == 0:
            self._features.clear()

    def call(self, denoiser: Any, place: tuple[int, int], *inputs: Any, context: Any) -> torch.Tensor:
        """Call the denoiser for the window and the condition whose numbers are the place; returns (B, 3, F, h, w)."""
        if getattr(denoiser, "is_cache_enabled", False):
            # what diffusers' caches keep belongs to the place, too
            with denoiser.cache_context(f"window {place[0]}, condition {place[1]}"):
                return self._call(denoiser, place, *inputs, context=context)
        return self._call(denoiser, place, *inputs, context=context)

    def _call(self, denoiser: Any, place: tuple[int, int], *inputs: Any, context: Any) -> torch.Tensor:
        if self.interval == 1:
            return denoiser(*inputs, context=context, return_dict=False)[0]
        known = self._features.get(place)
        output = denoiser(*inputs, context=context, deep_features=known, return_deep_features=known is None)
        if known is None:
            self._features[place] = output.deep_features
        return output.sample


def begin_clip(denoiser: Any, contexts: ClipContexts) -> None:
    """Let the caches of diffusers that are enabled forget other clips.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        contexts: The clip's contexts.

    Raises:
        ValueError: The cache knows one call per step only, and this clip takes several.
    """
    if not getattr(denoiser, "is_cache_enabled", False):
        return
    if contexts.num_calls > 1 and isinstance(denoiser._cache_config, PyramidAttentionBroadcastConfig):
        raise ValueError(
            "`enable_cache`: pyramid attention broadcast knows one call per step, this clip takes "
            f"{contexts.num_calls} (windows, and guidance); a TaylorSeerCacheConfig or `enable_step_cache` serves here"
        )
    denoiser._reset_stateful_cache()


def predict(
    denoiser: Any,
    model_input: torch.Tensor,
    timestep: torch.Tensor,
    contexts: ClipContexts,
    guidance_scale: float | Mapping[str, float] = 1.0,
    on_window_end: Callable[[], None] = lambda: None,
    cache: StepCache | None = None,
) -> torch.Tensor:
    """Predict noise (or what the scheduler is told) for all frames, with guidance.

    Args:
        denoiser: `A2VFlowDiffusionModel`.
        model_input: Noisy motion (B, 3, F, h, w).
        timestep: Time of the step.
        contexts: The denoiser's contexts of the clip.
        guidance_scale: Weight of the conditions against the null condition, or of each, see `guidance_of`.
        on_window_end: Called after each window.
        cache: Deep features of earlier steps; None: none are kept.

    Returns:
        Prediction (B, 3, F, h, w) in float32; that of windows is blended where they overlap.
    """
    cache = StepCache() if cache is None else cache
    windows, guidance = contexts.windows, guidance_of(guidance_scale)
    prediction = torch.zeros_like(model_input, dtype=torch.float32)
    for index, (window, weights) in enumerate(zip(windows.slices, windows.weights(), strict=True)):
        own = contexts.of_window(window)
        full, *others = _predictions(denoiser, model_input[:, :, window], timestep, own, cache, index)
        part = guidance.combine(full, others, contexts.left_out)
        prediction[:, :, window].addcmul_(part, weights[:, None, None].to(part.device))
        on_window_end()
    return prediction


def step_arguments(
    scheduler: Any, generator: torch.Generator | list[torch.Generator] | None, eta: float
) -> dict[str, Any]:
    """Choose what a scheduler's step takes.

    Args:
        scheduler: The scheduler.
        generator: Source of fresh noise, or one per clip.
        eta: Share of fresh noise.

    Returns:
        Those of the two, by name, that the step of this scheduler has.
    """
    accepted = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in (("generator", generator), ("eta", eta)) if name in accepted}


def check_callback(callback: Any, names: Any, allowed: Sequence[str]) -> None:
    """Refuse what is no callback of diffusers, or asks for tensors that there are not.

    Args:
        callback: `callback_on_step_end` of a call.
        names: Its `callback_on_step_end_tensor_inputs`.
        allowed: Names of tensors that it may ask for.

    Raises:
        ValueError: One of them is not allowed.
    """
    if not (callback is None or callable(callback)):
        raise ValueError(f"`callback_on_step_end` is {callback!r}, must be a function, or None")
    if not isinstance(names, list | tuple) or any(name not in allowed for name in names):
        raise ValueError(f"`callback_on_step_end_tensor_inputs` is {names!r}, must be of {allowed}")


def step_callback(pipeline: Any, callback: Callable | None, names: Sequence[str]) -> Callable | None:
    """Turn a callback of diffusers into a function from latents to latents.

    Args:
        pipeline: What the callback gets as its first argument.
        callback: Called as callback(pipeline, step, time, tensors), returns tensors to go on with by name; or None.
        names: Names of the tensors that it gets.

    Returns:
        Function of step, time and latents that returns the latents to go on with, of the same type and on the same
        device; None without a callback. It raises a ValueError if the callback returns something else.
    """
    if callback is None:
        return None

    def on_step_end(index: int, timestep: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        changed = callback(pipeline, index, timestep, dict.fromkeys(names, latents))
        if not (changed is None or isinstance(changed, Mapping)):
            raise ValueError(f"`callback_on_step_end` returned {changed!r}, must return tensors by name, or None")
        unknown = [name for name in changed or () if name != "latents"]
        if unknown:
            raise ValueError(f"`callback_on_step_end` returned {unknown[0]!r}, may return 'latents' alone")
        going_on = (changed or {}).get("latents", latents)
        is_tensor = torch.is_tensor(going_on)
        if not is_tensor or going_on.shape != latents.shape or not going_on.is_floating_point():
            given = f"{going_on.dtype} {tuple(going_on.shape)}" if is_tensor else f"a {type(going_on).__name__}"
            raise ValueError(
                f"`callback_on_step_end` returned `latents` that are {given}, must be a tensor of floats"
                f" {tuple(latents.shape)}"
            )
        return going_on.to(latents)

    return on_step_end


def _predictions(
    denoiser: Any,
    model_input: torch.Tensor,
    timestep: torch.Tensor,
    contexts: Sequence[Any],
    cache: StepCache,
    window: int,
) -> list[torch.Tensor]:
    """Call the denoiser with each context."""
    model_input = model_input.to(denoiser.dtype)
    return [
        cache.call(denoiser, (window, index), model_input, timestep, context=context).float()
        for index, context in enumerate(contexts)
    ]
