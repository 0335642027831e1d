"""Named choices of sampler and steps: how much quality for how many denoising calls."""

from typing import Any, NamedTuple


class SamplerPreset(NamedTuple):
    """A sampler and its steps.

    Attributes:
        scheduler: Short name, see `scheduler_choice.SCHEDULERS`.
        num_inference_steps: Denoising calls.
        eta: Share of fresh noise, for schedulers that take it.
    """

    scheduler: str
    num_inference_steps: int
    eta: float


class Sampling(NamedTuple):
    """How one call of the pipeline samples.

    Attributes:
        scheduler: The scheduler.
        num_inference_steps: Number of steps, unless one of the next is given.
        timesteps: Own times of the steps.
        sigmas: Own noise levels of the steps.
        eta: Share of fresh noise, for schedulers that take it.
    """

    scheduler: Any
    num_inference_steps: int
    timesteps: list[int] | None
    sigmas: list[float] | None
    eta: float


# "quality" is the published sampler (paper section 4.1); benchmarks/samplers.py compares
PRESETS = {
    "quality": SamplerPreset("dawn", 20, eta=1.0),
    "balanced": SamplerPreset("ddim", 10, eta=0.0),
    "fast": SamplerPreset("ddim", 4, eta=0.0),
}
# A network that predicts the clean motion, such as dawn-open, says at pure noise already what it can tell from the
# conditions; one that predicts the noise says nothing there. Later calls add detail, and their own errors.
CLEAN_PRESETS = {
    "quality": SamplerPreset("ddim", 10, eta=0.0),
    "balanced": SamplerPreset("ddim", 3, eta=0.0),
    "fast": SamplerPreset("ddim", 1, eta=0.0),
}
# a network that was trained by flow matching
FLOW_PRESETS = {
    "quality": SamplerPreset("unipc", 20, eta=0.0),
    "balanced": SamplerPreset("unipc", 10, eta=0.0),
    "fast": SamplerPreset("unipc", 4, eta=0.0),
}
DEFAULT_PRESET = "balanced"
# Where diffusers' schedulers let choose their times: from pure noise, which the latents are. With "leading", which the
# config has for the published sampler, four steps begin at time 750 and take pure noise for a sample with signal
TIMESTEP_SPACING = "trailing"


def presets_of(scheduler: Any) -> dict[str, SamplerPreset]:
    """Find the presets that suit what a pipeline's denoiser predicts.

    Args:
        scheduler: The pipeline's scheduler, whose config says it.

    Returns:
        Presets by name, the same names for every pipeline.
    """
    from .prediction import FLOW_PREDICTION
    from .scheduler_training import trained_prediction

    by_prediction = {"sample": CLEAN_PRESETS, FLOW_PREDICTION: FLOW_PRESETS}
    return by_prediction.get(trained_prediction(scheduler.config), PRESETS)


def choose_sampling(
    scheduler: Any,
    preset: str | None = None,
    num_inference_steps: int | None = None,
    timesteps: list[int] | None = None,
    sigmas: list[float] | None = None,
    eta: float | None = None,
) -> Sampling:
    """Choose scheduler and steps of a call: a preset, or the pipeline's scheduler and the caller's steps.

    Args:
        scheduler: The pipeline's scheduler.
        preset: A name that `presets_of` has; None: `DEFAULT_PRESET` where no steps are given and the scheduler is the
            one that DAWN's checkpoints come with, else none.
        num_inference_steps: Number of steps; None: as the default preset has.
        timesteps: Own times.
        sigmas: Own noise levels.
        eta: Share of fresh noise; None: that of the preset; without a preset 1, as published, for DAWN's own sampler,
            and 0 for others, as in diffusers.

    Returns:
        The choice; a preset's scheduler is new and has the noise levels of the pipeline's.

    Raises:
        ValueError: There is no such preset, or steps are given beside it.
    """
    # the command lists the presets before anything slow is imported
    from .scheduler_choice import make_scheduler
    from .scheduler_training import is_published, training_config

    given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas}
    given = [name for name, value in given.items() if value is not None]
    if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
        raise ValueError(f"`preset` is {preset!r}, must be one of {', '.join(PRESETS)}")
    if preset is not None and given:
        raise ValueError(f"give either `preset`, which has its own steps, or `{given[0]}`")
    if preset is None and not given and is_published(scheduler):
        preset = DEFAULT_PRESET
    presets = presets_of(scheduler)
    if preset is None:
        steps = presets[DEFAULT_PRESET].num_inference_steps if num_inference_steps is None else num_inference_steps
        own_eta = float(is_published(scheduler))
        return Sampling(scheduler, steps, timesteps, sigmas, own_eta if eta is None else eta)
    name, steps, preset_eta = presets[preset]
    chosen = make_scheduler(name, training_config(scheduler) | {"timestep_spacing": TIMESTEP_SPACING})
    return Sampling(chosen, steps, None, None, preset_eta if eta is None else eta)
