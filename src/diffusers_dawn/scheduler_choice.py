"""Which schedulers of diffusers can sample DAWN, and why the others cannot."""

import inspect
from collections.abc import Mapping
from types import MethodType
from typing import NoReturn

import diffusers
import torch

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

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# noise - clean, of denoisers that are trained by flow matching (arXiv 2210.02747)
FLOW_PREDICTION = "flow_prediction"
_FLOW_MATCHING = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
# diffusers ends their flow at the noise of the last step
_UNFINISHED_FLOW = ("DEISMultistepScheduler", "SASolverScheduler")
# of a scheduler's config, what belongs to the denoiser's training, beside `num_train_timesteps`
_TRAINING_KEYS = (
    "prediction_type",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "clip_sample",
    "clip_sample_range",
)

_EDM = "it expects a model trained with EDM's preconditioning"
_INVERSE = "it runs from sample to noise"
_SHIFTED = "it shifts the noise levels away from those DAWN was trained with"
_REFUSED = {
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "CosineDPMSolverMultistepScheduler": _EDM,
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


# they raise only in their first step, when speech and pose are already done
_NO_SAMPLE_PREDICTION = (
    "EulerAncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "PNDMScheduler",
)


def is_published(scheduler: object) -> bool:
    """Tell whether a scheduler is the one that DAWN's checkpoints come with.

    By name: pipelines that are loaded without this package bring the class twice, in two modules of their own.

    Args:
        scheduler: Any scheduler.

    Returns:
        Whether it is `DAWNDDIMScheduler` or derived from it.
    """
    return any(base.__name__ == DAWNDDIMScheduler.__name__ for base in type(scheduler).__mro__)


def is_flow_matching(scheduler: object) -> bool:
    """Tell whether a scheduler is made for flow matching and takes nothing but the flow, noise - motion.

    Args:
        scheduler: Any scheduler.

    Returns:
        Whether it is.
    """
    return type(scheduler).__name__ in _FLOW_MATCHING


def follows_flow(scheduler: object) -> bool:
    """Tell whether a scheduler goes from noise to motion in a straight line, (1 - sigma)·motion + sigma·noise.

    Args:
        scheduler: Any scheduler.

    Returns:
        Whether it is made for flow matching, or told to do so by `use_flow_sigmas`.
    """
    if is_flow_matching(scheduler):
        return True
    # configs keep what other schedulers were told
    return bool(scheduler.config.get("use_flow_sigmas")) and _takes(type(scheduler), "use_flow_sigmas")


def trained_prediction(class_name: str, config: Mapping) -> str:
    """Tell from a scheduler what the denoiser predicts.

    Args:
        class_name: The scheduler's class.
        config: Its config. One for flow matching names no prediction, unless it was made from another's.

    Returns:
        One of `PREDICTION_TYPES`, `FLOW_PREDICTION`, or whatever else the config has.
    """
    return config.get("prediction_type", FLOW_PREDICTION if class_name in _FLOW_MATCHING else "epsilon")


def training_config(scheduler: object) -> dict:
    """Collect what another scheduler for the same denoiser is made from.

    Args:
        scheduler: The pipeline's scheduler.

    Returns:
        Its config, which names what the denoiser predicts.
    """
    return dict(scheduler.config) | {"prediction_type": trained_prediction(type(scheduler).__name__, scheduler.config)}


def tell_training(scheduler: object, config: Mapping) -> None:
    """Tell a scheduler for flow matching that knows of no training how the denoiser was trained.

    Args:
        scheduler: Any scheduler; of one for flow matching whose config lacks it, the config is extended, so that it
            is saved with it.
        config: Result of `training_config` of the scheduler that the denoiser came with.
    """
    silent = is_flow_matching(scheduler) and "prediction_type" not in scheduler.config
    if silent and config["prediction_type"] != FLOW_PREDICTION:
        scheduler.register_to_config(**{name: config[name] for name in _TRAINING_KEYS if name in config})


def check_scheduler(scheduler: object) -> None:
    """Refuse a scheduler that cannot sample a model of noise or flow.

    Args:
        scheduler: Any scheduler of diffusers.

    Raises:
        ValueError: It cannot; the message names it and the reason.
    """
    name = type(scheduler).__name__
    prediction_type = trained_prediction(name, scheduler.config)
    allowed = PREDICTION_TYPES[:2] if name in _NO_SAMPLE_PREDICTION else PREDICTION_TYPES
    _check_class(type(scheduler))
    if follows_flow(scheduler):
        allowed = (*allowed, FLOW_PREDICTION)
        if name in _UNFINISHED_FLOW:
            _refuse(name, "with `use_flow_sigmas` it stops before the noise is gone")
        if scheduler.config.get("invert_sigmas"):
            _refuse(name, "`invert_sigmas` makes it run from motion to noise")
    elif not hasattr(scheduler, "alphas_cumprod"):
        _refuse(name, "it has no variance-preserving noise schedule")
    if prediction_type == FLOW_PREDICTION and prediction_type not in allowed:
        _refuse(name, "the denoiser predicts flow, which needs a scheduler for flow matching or `use_flow_sigmas`")
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
    if class_name in _FLOW_MATCHING:
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
        ValueError: Both lists are given, or the scheduler does not take what is given.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give only one of `timesteps` and `sigmas`")
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    for name, values in (("timesteps", timesteps), ("sigmas", sigmas)):
        if values is None:
            continue
        if name not in accepted:
            raise ValueError(f"`{name}` cannot be given to {type(scheduler).__name__}: its times are its own")
        return _set_timesteps(scheduler, name, {name: values}, device)
    return _set_timesteps(scheduler, "num_inference_steps", {"num_inference_steps": num_inference_steps}, device)


def allow_long_clips(scheduler: object) -> None:
    """Let a scheduler that thresholds do so on clips of any length.

    `torch.quantile`, which diffusers' own method calls, refuses more than 2^24 values per sample.

    Args:
        scheduler: The scheduler; its method is replaced by one of equal results.
    """
    if scheduler.config.get("thresholding") and not is_published(scheduler):
        scheduler._threshold_sample = MethodType(DAWNDDIMScheduler._threshold_sample, scheduler)


def _set_timesteps(scheduler: object, name: str, arguments: dict, device: torch.device) -> torch.Tensor:
    try:
        scheduler.set_timesteps(**arguments, device=device)
    except (ValueError, RuntimeError, IndexError, TypeError, AssertionError) as error:
        class_name = type(scheduler).__name__
        raise ValueError(f"`{name}` {arguments[name]} does not suit {class_name}: {error}") from error
    return scheduler.timesteps


def _check_class(scheduler_class: type) -> None:
    # before one is made, because some cannot be made from another's config
    name = scheduler_class.__name__
    if name in _REFUSED:
        _refuse(name, _REFUSED[name])
    if name not in _FLOW_MATCHING and not hasattr(scheduler_class, "scale_model_input"):
        _refuse(name, "it has no `scale_model_input`: it is made for another model, or for discrete codes")


def _make_flow_matching(scheduler_class: type, config: Mapping) -> object:
    # from its own entries only: diffusers warns of all others
    own = {name: value for name, value in config.items() if _takes(scheduler_class, name)}
    if "flow_shift" in config and config["prediction_type"] == FLOW_PREDICTION:
        own.setdefault("shift", config["flow_shift"])
    scheduler = scheduler_class.from_config(own)
    tell_training(scheduler, config)
    return scheduler


def _for_solver(scheduler_class: type, config: Mapping) -> Mapping:
    # a general solver is told where the denoiser was trained by flow matching
    if config.get("prediction_type") != FLOW_PREDICTION or not _takes(scheduler_class, "use_flow_sigmas"):
        return config
    own = {name: value for name, value in config.items() if _takes(scheduler_class, name)}
    shift = config.get("flow_shift", config.get("shift", 1.0))
    return own | {"use_flow_sigmas": True, "flow_shift": shift}


def _takes(scheduler_class: type, name: str) -> bool:
    return name in inspect.signature(scheduler_class.__init__).parameters


def _refuse(name: str, reason: str) -> NoReturn:
    raise ValueError(
        f"`scheduler` {name} cannot sample DAWN: {reason}. "
        "DAWNDDIMScheduler, DDIMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler can."
    )
