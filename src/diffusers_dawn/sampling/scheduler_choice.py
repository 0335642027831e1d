"""Which schedulers of diffusers can sample DAWN, and why the others cannot."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

import diffusers
import numpy as np
import torch

from .prediction import FLOW_PREDICTION, NOISE_PREDICTIONS, dynamic_threshold
from .scheduler_training import (
    EDM,
    FLOW_MATCHING,
    follows_flow,
    is_edm,
    is_flow_matching,
    is_published,
    takes_option,
    tell_training,
    trained_prediction,
)
from .scheduling_dawn_ddim import DAWNDDIMScheduler

# short names for the command line; each is made from the checkpoint's own scheduler config
SCHEDULERS = {
    "dawn": DAWNDDIMScheduler.__name__,
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "pndm": "PNDMScheduler",
    "sa": "SASolverScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
    "flow-heun": "FlowMatchHeunDiscreteScheduler",
}

# diffusers ends their flow at the noise of the last step
_UNFINISHED_FLOW = ("DEISMultistepScheduler", "SASolverScheduler")
_INVERSE = "it runs from sample to noise"
_SHIFTED = "it shifts the noise levels away from those DAWN was trained with"
_REFUSED = {
    "CosineDPMSolverMultistepScheduler": "it expects a model trained with EDM's preconditioning",
    "UnCLIPScheduler": "its steps follow unCLIP's own schedule, not the config's",
    "IPNDMScheduler": "its noise levels are fixed and not those DAWN was trained with",
    "CMStochasticIterativeScheduler": "it expects a consistency model",
    "DDIMInverseScheduler": _INVERSE,
    "DPMSolverMultistepInverseScheduler": _INVERSE,
    "RePaintScheduler": "it needs a mask and an image to paint into",
    "VQDiffusionScheduler": "it samples discrete codes",
    "AmusedScheduler": "it samples discrete codes",
    "DDPMWuerstchenScheduler": "its times are continuous in [0, 1]",
    "ScoreSdeVeScheduler": "it expects a variance-exploding model",
    "KarrasVeScheduler": "it expects a variance-exploding model",
    "CogVideoXDDIMScheduler": _SHIFTED,
    "CogVideoXDPMScheduler": _SHIFTED,
}

# they look ahead within a step, to a slope whose errors grow with the noise over that of the next step; the cosine
# schedule ends at noise of 20,000 times the motion
_LOOKS_AHEAD = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")
LARGEST_NOISE_AHEAD = 100.0
# of schedulers for flow matching
_REFUSED_OPTIONS = {
    "invert_sigmas": "makes it run from motion to noise",
    "use_dynamic_shifting": "asks for the length of a sequence of tokens",
    "stochastic_sampling": "draws noise without the generator",
}
_OTHER_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# looks ahead to noise of a thousandth, by which errors of clean motion would be divided
_LOOKS_AT_THE_END = "FlowMatchHeunDiscreteScheduler"

# they raise only in their first step, when speech and pose are already done
_NO_SAMPLE_PREDICTION = (
    "EulerAncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "PNDMScheduler",
    *EDM,
)


def check_scheduler(scheduler: object) -> None:
    """Refuse a scheduler that cannot sample a model of noise or flow.

    Args:
        scheduler: Any scheduler of diffusers.

    Raises:
        ValueError: It cannot; the message names it and the reason.
    """
    name = type(scheduler).__name__
    prediction_type = trained_prediction(name, scheduler.config)
    allowed = NOISE_PREDICTIONS[:2] if name in _NO_SAMPLE_PREDICTION else NOISE_PREDICTIONS
    _check_class(type(scheduler))
    if follows_flow(scheduler):
        allowed = (*allowed, FLOW_PREDICTION)
        if name in _UNFINISHED_FLOW:
            _refuse(name, "with `use_flow_sigmas` it stops before the noise is gone")
        for option, reason in _REFUSED_OPTIONS.items():
            if scheduler.config.get(option) and takes_option(type(scheduler), option):
                _refuse(name, f"`{option}` {reason}")
        spacing = [option for option in _OTHER_SIGMAS if scheduler.config.get(option)]
        if spacing and not is_flow_matching(scheduler):
            _refuse(name, f"`{spacing[0]}` and `use_flow_sigmas` exclude each other")
        if name == _LOOKS_AT_THE_END and prediction_type == "sample":
            _refuse(name, "its second order diverges where the denoiser predicts clean motion")
    elif not is_edm(scheduler) and not hasattr(scheduler, "alphas_cumprod"):
        _refuse(name, "it has no variance-preserving noise schedule")
    if prediction_type == FLOW_PREDICTION and prediction_type not in allowed:
        reason = "the denoiser predicts flow, which needs a scheduler for flow matching, or `use_flow_sigmas`"
        _refuse(
            name, reason, "FlowMatchEulerDiscreteScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler"
        )
    if prediction_type not in allowed:
        _refuse(name, f"its prediction type {prediction_type!r} is none of {', '.join(allowed)}")


def make_scheduler(name: str, config: dict) -> object:
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
    _check_class(scheduler_class)
    if class_name in FLOW_MATCHING:
        scheduler = _make_flow_matching(scheduler_class, config)
    else:
        scheduler = scheduler_class.from_config(_for_solver(scheduler_class, config))
    check_scheduler(scheduler)
    return scheduler


def set_timesteps(
    scheduler: object,
    device: torch.device,
    num_inference_steps: int,
    timesteps: list[int] | None = None,
    sigmas: list[float] | None = None,
) -> torch.Tensor:
    """Set the times of the denoising steps of any scheduler.

    Args:
        scheduler: The scheduler.
        device: Where the times live.
        num_inference_steps: Number of steps, unless one of the next is given.
        timesteps: Own times, for schedulers that take them.
        sigmas: Own noise levels, for schedulers that take them.

    Returns:
        The times, one per denoising call.

    Raises:
        ValueError: Both lists are given, or the scheduler does not take what is given, or it diverges from there.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give only one of `timesteps` and `sigmas`")
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    for name, values in (("timesteps", timesteps), ("sigmas", sigmas)):
        if values is None:
            continue
        is_ramp = name == "sigmas" and type(scheduler).__name__ == "EDMEulerScheduler"  # not of noise levels
        if name not in accepted or is_ramp:
            raise ValueError(f"`{name}` cannot be given to {type(scheduler).__name__}: its times are its own")
        return _set_timesteps(scheduler, name, {name: values if name == "timesteps" else np.array(values)}, device)
    return _set_timesteps(scheduler, "num_inference_steps", {"num_inference_steps": num_inference_steps}, device)


def allow_long_clips(scheduler: object) -> None:
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


def _set_timesteps(scheduler: object, name: str, arguments: dict, device: torch.device) -> torch.Tensor:
    try:
        scheduler.set_timesteps(**arguments, device=device)
    except (ValueError, RuntimeError, IndexError, TypeError, AssertionError) as error:
        class_name = type(scheduler).__name__
        raise ValueError(f"`{name}` {_shown(arguments[name])} does not suit {class_name}: {error}") from error
    if follows_flow(scheduler) and not _falls_within_flow(scheduler.sigmas[: len(scheduler.timesteps)]):
        shown, class_name = _shown(arguments[name]), type(scheduler).__name__
        reason = "noise must fall from at most 1 and stay above 0"
        raise ValueError(f"`{name}` {shown} does not suit {class_name}: {reason}")
    if type(scheduler).__name__ in _LOOKS_AHEAD and scheduler.sigmas[0] > LARGEST_NOISE_AHEAD:
        _refuse(type(scheduler).__name__, "its second order diverges from pure noise, where its times begin")
    return scheduler.timesteps


def _falls_within_flow(sigmas: torch.Tensor) -> bool:
    return bool(0 < sigmas.min() <= sigmas.max() <= 1 and (sigmas.diff() <= 0).all())


def _shown(values: Any) -> Any:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _check_class(scheduler_class: type) -> None:
    # before one is made, because some cannot be made from another's config
    name = scheduler_class.__name__
    if name in _REFUSED:
        _refuse(name, _REFUSED[name])
    if name not in FLOW_MATCHING and not hasattr(scheduler_class, "scale_model_input"):
        _refuse(name, "it has no `scale_model_input`: it is made for another model, or for discrete codes")


def _make_flow_matching(scheduler_class: type, config: Mapping) -> object:
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


def _refuse(
    name: str,
    reason: str,
    others: str = "DAWNDDIMScheduler, DDIMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler",
) -> NoReturn:
    raise ValueError(f"`scheduler` {name} cannot sample DAWN: {reason}. {others} can.")
