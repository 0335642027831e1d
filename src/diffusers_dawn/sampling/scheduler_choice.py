"""Samplers by name, and whether a scheduler of diffusers can sample DAWN."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import diffusers

from .prediction import FLOW_PREDICTION, dynamic_threshold
from .scheduler_training import (
    check_is_scheduler,
    is_flow_matching,
    is_published,
    takes_option,
    tell_training,
    trained_prediction,
)
from .scheduler_trial import find_fault
from .scheduling_dawn_ddim import DAWNDDIMScheduler

# short names of those that differ; all others go by the name of their class
SCHEDULERS = {
    "dawn": DAWNDDIMScheduler.__name__,
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
}
# how else than by a flow general solvers may be told to space their noise
_OTHER_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# class and settings -> result of the trial
_FAULTS: dict[tuple[type, str], str | None] = {}


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler that cannot sample DAWN; each is tried once per class and settings.

    Args:
        scheduler: Any scheduler of diffusers, whose config says what the denoiser predicts.

    Raises:
        ValueError: It cannot, or is no scheduler; the message names it and the reason.
    """
    check_is_scheduler(scheduler)
    key = type(scheduler), scheduler.to_json_string()
    if key not in _FAULTS:
        _FAULTS[key] = find_fault(scheduler)
    if _FAULTS[key] is not None:
        raise _refusal(type(scheduler).__name__, _FAULTS[key], scheduler.config)


def make_scheduler(name: str, config: Mapping) -> Any:
    """Make a scheduler by short name or class name, with the noise schedule of another one's config.

    Args:
        name: A key of `SCHEDULERS`, or the name of a scheduler class of diffusers.
        config: Config of the checkpoint's scheduler, or `training_config` of it where it is one for flow matching.

    Returns:
        The scheduler.

    Raises:
        ValueError: There is no such scheduler, or it cannot sample DAWN.
    """
    class_name = SCHEDULERS.get(name, name)
    if class_name == DAWNDDIMScheduler.__name__:
        scheduler_class = DAWNDDIMScheduler
    else:
        scheduler_class = getattr(diffusers, class_name, None) if "Scheduler" in class_name else None
    if not inspect.isclass(scheduler_class) or not hasattr(scheduler_class, "from_config"):
        raise ValueError(f"`scheduler` is {name!r}, must be one of {', '.join(SCHEDULERS)} or a class of diffusers")
    try:
        if is_flow_matching(scheduler_class):
            scheduler = _make_flow_matching(scheduler_class, config)
        else:
            scheduler = scheduler_class.from_config(_for_solver(scheduler_class, config))
    except (ImportError, TypeError) as error:  # a package is missing, or settings of other models are
        raise _refusal(class_name, f"it cannot be made: {' '.join(str(error).split()).rstrip('.')}", config) from error
    check_scheduler(scheduler)
    return scheduler


def allow_long_clips(scheduler: Any) -> None:
    """Let a scheduler that thresholds do so on clips of any length.

    `torch.quantile`, which diffusers' own method calls, refuses more than 2^24 values per sample.

    Args:
        scheduler: The scheduler; its method is replaced by one of equal results.
    """
    if scheduler.config.get("thresholding") and not is_published(scheduler):
        config = scheduler.config
        scheduler._threshold_sample = partial(
            dynamic_threshold, quantile=config.dynamic_thresholding_ratio, most=config.sample_max_value
        )


def _make_flow_matching(scheduler_class: type, config: Mapping) -> Any:
    # from its own entries only: diffusers warns of all others
    own = {name: value for name, value in config.items() if takes_option(scheduler_class, name)}
    if "flow_shift" in config and config.get("prediction_type") == FLOW_PREDICTION:
        own.setdefault("shift", config["flow_shift"])
    scheduler = scheduler_class.from_config(own)
    # only those for flow matching have a config without
    tell_training(scheduler, {"prediction_type": FLOW_PREDICTION, **config})
    return scheduler


def _for_solver(scheduler_class: type, config: Mapping) -> Mapping:
    # a general solver is told where the denoiser was trained by flow matching
    if config.get("prediction_type") != FLOW_PREDICTION or not takes_option(scheduler_class, "use_flow_sigmas"):
        return config
    own = {name: value for name, value in config.items() if takes_option(scheduler_class, name)}
    own |= dict.fromkeys(_OTHER_SIGMAS, False)
    shift = config.get("flow_shift", config.get("shift", 1.0))
    return own | {"use_flow_sigmas": True, "flow_shift": shift}


def _refusal(name: str, reason: str, config: Mapping) -> ValueError:
    if trained_prediction(config) == FLOW_PREDICTION:
        others = "flow-euler, and dpm++ and unipc with `use_flow_sigmas`, can, as the denoiser predicts flow"
    else:
        others = "dawn, ddim, dpm++ and unipc can"
    return ValueError(f"`scheduler` {name} cannot sample DAWN: {reason}. {others}.")
