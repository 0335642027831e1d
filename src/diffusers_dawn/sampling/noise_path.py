"""The steps of a scheduler as the denoiser knows them: how noisy its input is, and what its answer means."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler

from .prediction import FLOW_PREDICTION, NoiseLevel, bound_clean, clean_from_prediction, prediction_from_clean
from .scheduler_training import follows_flow, is_edm, is_flow_matching, takes_option, trained_prediction


class NoisePath:
    """Translates between a scheduler and the denoiser at every step.

    Most schedulers mix motion and noise as the denoiser learned it, so that nothing is left to do. Those for flow
    matching go in a straight line, (1 - sigma)·motion + sigma·noise, and EDM's add noise, motion + sigma·noise. A
    denoiser that was trained by flow matching is told sigma, as a share of the steps of training. Any other is shown
    the same mixture at the variance that it knows, with the time at which it learned that share of noise; of its
    answer, the scheduler gets what it expects for the same motion.

    Args:
        scheduler: A scheduler that `scheduler_choice.check_scheduler` allows, whose times are set.
        timesteps: The times that are gone through: all of the scheduler's, or its last ones.

    Raises:
        ValueError: They are others.
    """

    def __init__(self, scheduler: Any, timesteps: torch.Tensor) -> None:
        self._scheduler = scheduler
        self._is_edm = is_edm(scheduler)
        self._differs = self._is_edm or follows_flow(scheduler)
        self._prediction = trained_prediction(scheduler.config)
        self._expected = FLOW_PREDICTION if is_flow_matching(scheduler) else self._prediction
        first = len(scheduler.timesteps) - len(timesteps)
        are_its_own = first >= 0 and torch.equal(timesteps.cpu(), scheduler.timesteps[first:].cpu())
        if are_its_own and hasattr(scheduler, "set_begin_index"):
            # whole-number times may be equal, and the scheduler would take the second of them for the first
            scheduler.set_begin_index(first)
        if not self._differs:
            return
        if not are_its_own:
            raise ValueError("`timesteps` must be those of the scheduler, or its last ones")
        self._sigmas = scheduler.sigmas[first:].tolist()
        if self._prediction != FLOW_PREDICTION:
            self._trained = scheduler_of_training(scheduler.config)
            # of zero terminal SNR, nothing is left of the motion
            alphas = self._trained.alphas_cumprod.cpu().double().clamp(min=1e-12).numpy()
            self._signal_range = math.sqrt(alphas[-1]), math.sqrt(alphas[0])
            # of increasing noise, for interpolation
            self._log_noise = np.log((1 - alphas) / alphas) / 2

    def to_denoiser(
        self, index: int, timestep: torch.Tensor, latents: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the denoiser's input.

        Args:
            index: Number of the step.
            timestep: The scheduler's time of the step.
            latents: The scheduler's noisy motion (B, 3, F, h, w).

        Returns:
            Noisy motion (B, 3, F, h, w) and time, both as in the denoiser's training.
        """
        if not self._differs:
            return self._scheduler.scale_model_input(latents, timestep), timestep
        sigma = self._sigmas[index]
        if self._prediction == FLOW_PREDICTION:
            return latents, latents.new_tensor(sigma * self._scheduler.config.num_train_timesteps)
        if self._is_edm:
            self._scheduler.is_scale_input_called = True  # else the step warns
        signal, noise = self._trained_level(sigma)
        time = np.interp(math.log(noise / signal), self._log_noise, np.arange(len(self._log_noise)))
        return latents / math.hypot(self._motion_share(sigma), sigma), latents.new_tensor(time)

    def to_scheduler(self, index: int, latents: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Turn the denoiser's answer into what the scheduler's step takes.

        Args:
            index: Number of the step.
            latents: The scheduler's noisy motion (B, 3, F, h, w).
            prediction: The answer (B, 3, F, h, w).

        Returns:
            Tensor (B, 3, F, h, w).
        """
        if not self._differs or self._prediction == FLOW_PREDICTION:
            return prediction
        sigma = self._sigmas[index]
        clean = self._clean(latents, prediction, sigma)
        # inverse of how the scheduler will recover the motion
        if self._is_edm:
            kept, taken = (self._scheduler.precondition_outputs(*pair, sigma) for pair in ((1.0, 0.0), (0.0, 1.0)))
            return clean.sub(latents, alpha=kept).div_(taken)
        return prediction_from_clean(self._expected, clean, latents, NoiseLevel(1 - sigma, sigma))

    def _clean(self, latents: torch.Tensor, prediction: torch.Tensor, sigma: float) -> torch.Tensor:
        noisy = latents / math.hypot(self._motion_share(sigma), sigma)
        clean = clean_from_prediction(self._prediction, prediction, noisy, self._trained_level(sigma))
        # as the trained scheduler does to what it recovers from the answer
        return bound_clean(clean, self._trained.config)

    def _motion_share(self, sigma: float) -> float:
        return 1.0 if self._is_edm else 1 - sigma

    def _trained_level(self, sigma: float) -> NoiseLevel:
        # shares of motion and noise at unit variance, no further than those of the training
        least, most = self._signal_range
        motion = self._motion_share(sigma)
        signal = min(max(motion / math.hypot(motion, sigma), least), most)
        return NoiseLevel(signal, math.sqrt(1 - signal**2))


def scheduler_of_training(config: Mapping) -> DDIMScheduler:
    """Make the scheduler whose noise levels are those of the denoiser's training.

    Args:
        config: Config of any scheduler for it.

    Returns:
        Scheduler with `alphas_cumprod` (num_train_timesteps,) and the bounds of recovered motion.
    """
    known = {name: value for name, value in config.items() if takes_option(DDIMScheduler, name)}
    return DDIMScheduler.from_config({"beta_schedule": "squaredcos_cap_v2"} | known)
