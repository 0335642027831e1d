"""Whether a scheduler can sample DAWN, found out by letting it sample a motion that is known."""

import copy
import inspect
import math
from typing import Any

import numpy as np
import torch

from .noise_path import NoisePath, scheduler_of_training
from .prediction import FLOW_PREDICTION, NoiseLevel, prediction_target
from .scheduler_times import set_timesteps
from .scheduler_training import follows_flow, is_edm, trained_prediction

TRIAL_SHAPE = (1, 3, 4, 8, 8)
MOST_TRIAL_STEPS = 10
# About as much as a denoiser errs. Measured on all of diffusers' schedulers and most of their options, those that are
# right end up to 0.36 away from the motion and show noise of up to 0.34 too much; those that diverge 0.51 or more.
PREDICTION_ERROR = 0.02
LARGEST_ERROR, LARGEST_NOISE_DIFFERENCE = 0.45, 0.45
# Without any error, those that are right end within 0.03, and those that leave the noise of their last step 0.3 away.
LARGEST_REST = 0.1
# the last level depends on the largest beta, 0.999 or 0.9999
LEVEL_TOLERANCE = {"rtol": 1e-3, "atol": 1e-6}


def find_fault(scheduler: Any) -> str | None:
    """Let a scheduler sample one motion in ten steps, with predictions that are right but for small errors.

    It cannot tell how a scheduler does with other steps: too few, or own times. Where the scheduler can choose, times
    are spaced as "leading", for at pure noise the schedule of DAWN makes large errors of motion out of small ones of
    noise, which only some schedulers bound. Spaced as the scheduler says, it only has to arrive.

    Args:
        scheduler: Any scheduler, which stays as it is.

    Returns:
        What is wrong with it; None: it arrives at the motion, past the noise levels that the denoiser has learned.
    """
    if not (follows_flow(scheduler) or is_edm(scheduler)):
        levels = getattr(scheduler, "alphas_cumprod", None)
        if levels is None:
            return "it has neither the noise levels of a diffusion, nor of flow matching, nor of EDM"
        trained = scheduler_of_training(scheduler.config).alphas_cumprod
        if levels.shape != trained.shape or not torch.allclose(levels.float().cpu(), trained.cpu(), **LEVEL_TOLERANCE):
            return "its noise levels are not those that the denoiser was trained with"
    try:
        # wherever the caller makes its tensors
        with torch.device("cpu"), torch.no_grad():
            (found, differences), again = (_sample_known(scheduler, PREDICTION_ERROR) for _ in range(2))
            rest = _distance(_sample_known(scheduler, 0.0)[0])
    except Exception as error:  # any: schedulers of other models ask for anything
        return f"its steps fail with {type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
    if found.isfinite().all() and not (torch.equal(found, again[0]) and differences == again[1]):
        return "it draws noise without the generator"
    if not max(differences) <= LARGEST_NOISE_DIFFERENCE:
        return "its steps show the denoiser other noise than it was trained with at their times"
    if not rest <= LARGEST_REST:
        return f"its steps leave {rest:.1f} of noise in a motion in [-1, 1] that is exactly predicted"
    if not _distance(found) <= LARGEST_ERROR:
        return f"its steps end {_distance(found):.1f} away from a motion in [-1, 1]"
    return _fault_of_spacing(scheduler)


def _fault_of_spacing(scheduler: Any) -> str | None:
    """Say whether its own times lead a scheduler astray that arrives by times spaced as "leading"."""
    spacing = scheduler.config.get("timestep_spacing", "leading")
    if spacing == "leading":
        return None
    try:
        with torch.device("cpu"), torch.no_grad():
            distance = _distance(_sample_known(scheduler, PREDICTION_ERROR, spacing)[0])
    except ValueError:  # so many steps do not suit it, which is refused when they are asked for
        return None
    if distance <= LARGEST_ERROR:
        return None
    return (
        f"with `timestep_spacing` {spacing!r} its steps end {distance:.3g} away from a motion in [-1, 1],"
        " with 'leading' they arrive there"
    )


def _known_motion() -> torch.Tensor:
    return torch.rand(TRIAL_SHAPE, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def _distance(found: torch.Tensor) -> float:
    return (found - _known_motion()).abs().max().item()


def _sample_known(
    scheduler: Any, prediction_error: float, timestep_spacing: str = "leading"
) -> tuple[torch.Tensor, list[float]]:
    """Sample; returns the motion, and for each step how far its noise is from that of the training at its time."""
    scheduler, motion, random = copy.deepcopy(scheduler), _known_motion(), torch.Generator().manual_seed(1)
    if "timestep_spacing" in scheduler.config:
        scheduler.register_to_config(timestep_spacing=timestep_spacing)
    num_trained = scheduler.config.num_train_timesteps
    timesteps = set_timesteps(scheduler, "cpu", max(1, min(MOST_TRIAL_STEPS, num_trained - 1)))
    prediction_type = trained_prediction(scheduler.config)
    accepted = inspect.signature(scheduler.step).parameters
    arguments = {name: value for name, value in (("generator", random), ("eta", 1.0)) if name in accepted}
    path = NoisePath(scheduler, timesteps)
    alphas = scheduler_of_training(scheduler.config).alphas_cumprod.double().numpy()
    latents = torch.randn(TRIAL_SHAPE, generator=random) * getattr(scheduler, "init_noise_sigma", 1.0)
    differences = []
    for index, timestep in enumerate(timesteps):
        shown, time = path.to_denoiser(index, timestep, latents)
        level = _learned_level(prediction_type, float(time), alphas)
        noise = shown - level.signal * motion
        differences.append(abs(noise.std().item() - level.sigma))
        target = prediction_target(prediction_type, motion, noise / max(level.sigma, 1e-6), level)
        answer = target + prediction_error * torch.randn(TRIAL_SHAPE, generator=random)
        answer = path.to_scheduler(index, latents, answer)
        latents = scheduler.step(answer, timestep, latents, **arguments, return_dict=False)[0]
    return latents, differences


def _learned_level(prediction_type: str, time: float, alphas: np.ndarray) -> NoiseLevel:
    """Say how noisy the denoiser expects its input to be at a time, which need not be whole."""
    if prediction_type == FLOW_PREDICTION:
        share = time / len(alphas)
        return NoiseLevel(1 - share, share)
    alpha = float(np.interp(time, np.arange(len(alphas)), alphas))
    return NoiseLevel(math.sqrt(alpha), math.sqrt(1 - alpha))
