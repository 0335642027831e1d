"""What a scheduler says about the denoiser's training, and the way that its steps take."""

import inspect
from collections.abc import Mapping

from .prediction import FLOW_PREDICTION
from .scheduling_dawn_ddim import DAWNDDIMScheduler

# of a scheduler's config, what belongs to the denoiser's training, beside `num_train_timesteps`
TRAINING_KEYS = (
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


def check_is_scheduler(scheduler: object) -> None:
    """Refuse what is no scheduler of diffusers.

    Args:
        scheduler: Anything.

    Raises:
        ValueError: It is something else, such as a scheduler's class or name.
    """
    if inspect.isclass(scheduler) or not all(hasattr(scheduler, name) for name in ("config", "set_timesteps")):
        given = scheduler.__name__ if inspect.isclass(scheduler) else repr(scheduler)
        raise ValueError(
            f"`scheduler` is {given}, must be a scheduler of diffusers, such as"
            " UniPCMultistepScheduler.from_config(pipe.scheduler.config)"
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
        scheduler: Any scheduler, or its class.

    Returns:
        Whether it is: it scales noise instead of adding it, for a model of discrete times, and leaves no choice of
        what is predicted.
    """
    made_by = scheduler if inspect.isclass(scheduler) else type(scheduler)
    has_times = hasattr(made_by, "scale_noise") and takes_option(made_by, "num_train_timesteps")
    return has_times and not takes_option(made_by, "prediction_type")


def is_edm(scheduler: object) -> bool:
    """Tell whether a scheduler has EDM's preconditioning (arXiv 2206.00364): it adds noise to motion of full size.

    Args:
        scheduler: Any scheduler.

    Returns:
        Whether it has.
    """
    return hasattr(scheduler, "precondition_outputs")


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
    return bool(scheduler.config.get("use_flow_sigmas")) and takes_option(type(scheduler), "use_flow_sigmas")


def trained_prediction(config: Mapping) -> str:
    """Tell from a scheduler's config what the denoiser predicts.

    Args:
        config: The config. One for flow matching has a shift, and names no prediction unless told, see
            `tell_training`.

    Returns:
        One of `prediction.PREDICTION_TYPES`, or whatever else the config has.
    """
    return config.get("prediction_type", FLOW_PREDICTION if "shift" in config else "epsilon")


def training_config(scheduler: object) -> dict:
    """Collect what another scheduler for the same denoiser is made from.

    Args:
        scheduler: The pipeline's scheduler.

    Returns:
        Its config, which names what the denoiser predicts.
    """
    return dict(scheduler.config) | {"prediction_type": trained_prediction(scheduler.config)}


def tell_training(scheduler: object, config: Mapping) -> None:
    """Copy the denoiser's training settings into the config of a flow-matching or EDM scheduler that lacks them.

    Args:
        scheduler: Any scheduler; the config of one that lacks the training is extended, so that it is saved with it,
            and goes from there to others that are made from it.
        config: Result of `training_config` of the scheduler that the denoiser came with.

    Raises:
        ValueError: It is no scheduler, or counts other steps of training.
    """
    check_is_scheduler(scheduler)
    told_by = "prediction_type" if is_flow_matching(scheduler) else "beta_schedule" if is_edm(scheduler) else None
    if told_by is None or told_by in scheduler.config:
        return
    given = scheduler.config.num_train_timesteps
    trained = config.get("num_train_timesteps", given)
    if given != trained:
        raise ValueError(
            f"`scheduler` {type(scheduler).__name__} has `num_train_timesteps` {given}, the denoiser learned {trained}"
        )
    told = {name: config[name] for name in TRAINING_KEYS if name in config}
    if told["prediction_type"] == FLOW_PREDICTION:
        told |= {"use_flow_sigmas": True}  # for general solvers that are made from it
    scheduler.register_to_config(**told)


def takes_option(scheduler_class: type, name: str) -> bool:
    """Tell whether a class of schedulers has an option of this name."""
    return name in inspect.signature(scheduler_class.__init__).parameters
