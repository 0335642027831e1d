"""The times of the denoising steps, set on any scheduler."""

import inspect
from typing import Any

import numpy as np
import torch

from .scheduler_training import follows_flow, is_edm

# A step of second order looks ahead to a slope, whose errors grow with the noise over that of the next step. The
# cosine schedule ends at noise of 20,000 times the motion
LARGEST_NOISE_AHEAD = 100.0


def set_timesteps(
    scheduler: Any,
    device: torch.device | str,
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
        ValueError: Both lists are given, one holds no finite numbers, the scheduler does not take what is given, or it
            diverges from there.
    """
    if timesteps is not None and sigmas is not None:
        raise ValueError("give only one of `timesteps` and `sigmas`")
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    for name, values in (("timesteps", timesteps), ("sigmas", sigmas)):
        if values is None:
            continue
        _check_numbers(name, values)
        is_ramp = name == "sigmas" and is_edm(scheduler)  # numbers from 0 to 1, not noise levels
        if name not in accepted or is_ramp:
            raise ValueError(f"`{name}` cannot be given to {type(scheduler).__name__}: its times are its own")
        # times are compared one by one, noise levels are reckoned with
        given = np.asarray(values)
        given = given if name == "sigmas" else given.tolist()
        return _set_by(scheduler, name, {name: given}, device)
    return _set_by(scheduler, "num_inference_steps", {"num_inference_steps": num_inference_steps}, device)


def _check_numbers(name: str, values: Any) -> None:
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError, RuntimeError):  # text, several lengths, tensors on other devices or with gradients
        numbers = np.zeros(0)
    if numbers.ndim != 1 or len(numbers) == 0 or not np.isfinite(numbers).all():
        raise ValueError(f"`{name}` is {values!r}, must be a list of finite numbers")


def _set_by(scheduler: Any, name: str, arguments: dict, device: torch.device | str) -> torch.Tensor:
    given = arguments[name].tolist() if isinstance(arguments[name], np.ndarray) else arguments[name]
    does_not_suit = f"`{name}` {given} does not suit {type(scheduler).__name__}"
    try:
        scheduler.set_timesteps(**arguments, device=device)
    except (ValueError, RuntimeError, IndexError, TypeError, AssertionError) as error:
        raise ValueError(f"{does_not_suit}: {error}") from error
    if follows_flow(scheduler) and not _falls_within_flow(scheduler.sigmas[: len(scheduler.timesteps)]):
        raise ValueError(f"{does_not_suit}: noise must fall from at most 1 and stay above 0")
    if getattr(scheduler, "order", 1) > 1 and scheduler.sigmas[0] > LARGEST_NOISE_AHEAD:
        raise ValueError(
            f"{does_not_suit}: its second order diverges from pure noise, where its times begin;"
            ' with `timestep_spacing="leading"` they begin later'
        )
    return scheduler.timesteps


def _falls_within_flow(sigmas: torch.Tensor) -> bool:
    return bool(0 < sigmas.min() <= sigmas.max() <= 1 and (sigmas.diff() <= 0).all())
