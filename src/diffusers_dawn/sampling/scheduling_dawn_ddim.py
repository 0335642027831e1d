"""The published DDIM sampler of DAWN as a diffusers scheduler."""

import math
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin  # noqa: F401  `from_pretrained` looks for it here
from diffusers.utils.torch_utils import randn_tensor

from .prediction import NOISE_PREDICTIONS, NoiseLevel, bound_clean, clean_from_prediction, noise_from_prediction

COSINE_OFFSET = 0.008
LARGEST_BETA = 0.9999


def _cosine_betas(num_train_timesteps: int) -> torch.Tensor:
    times = torch.linspace(0, num_train_timesteps, num_train_timesteps + 1, dtype=torch.float64)
    levels = torch.cos((times / num_train_timesteps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    levels = levels / levels[0]
    return torch.clip(1 - levels[1:] / levels[:-1], 0, LARGEST_BETA)


class DAWNDDIMScheduler(DDIMScheduler):
    """DDIM as the published DAWN samples: cosine schedule, its own grid of times, dynamic thresholding.

    It differs from `DDIMScheduler` in three ways. Times are spread evenly over [0, 1000] with one left out at each
    end (952, 904, ..., 47 for 20 steps). The noise levels of a step are those of the time before its own, while the
    clean sample is recovered with its own. The threshold has no upper bound.

    Args:
        num_train_timesteps: Diffusion steps in training.
        beta_start: Not used by the cosine schedule; kept so that other schedulers take this config.
        beta_end: As `beta_start`.
        beta_schedule: Only "squaredcos_cap_v2", the cosine schedule.
        trained_betas: Variances of the training's steps, one for each, instead of the cosine schedule's.
        clip_sample: Whether to clip the clean sample to +-clip_sample_range when `thresholding` is off.
        set_alpha_to_one: Only True: the last step ends without noise.
        steps_offset: Not used.
        prediction_type: "epsilon", "sample" or "v_prediction".
        thresholding: Whether to clip the clean sample at a quantile of its absolute values and divide by it.
        dynamic_thresholding_ratio: That quantile.
        clip_sample_range: Bound for `clip_sample`.
        sample_max_value: Upper bound of the threshold; None: no bound.
        timestep_spacing: Spacing for other schedulers made from this config; this one's grid is fixed.
        rescale_betas_zero_snr: Only False.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "squaredcos_cap_v2",
        trained_betas: np.ndarray | list[float] | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = True,
        dynamic_thresholding_ratio: float = 0.9,
        clip_sample_range: float = 1.0,
        sample_max_value: float | None = None,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        fixed = {
            "beta_schedule": (beta_schedule, "squaredcos_cap_v2"),
            "set_alpha_to_one": (set_alpha_to_one, True),
            "rescale_betas_zero_snr": (rescale_betas_zero_snr, False),
        }
        for name, (given, allowed) in fixed.items():
            if given != allowed:
                raise ValueError(
                    f"`{name}` is {given!r}, DAWNDDIMScheduler allows only {allowed!r}; see DDIMScheduler"
                )
        # in float64 and rounded once at the end, as published
        if trained_betas is None:
            betas = _cosine_betas(num_train_timesteps)
        else:
            betas = torch.as_tensor(trained_betas, dtype=torch.float64)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.betas = betas.float()
        self.alphas = (1 - betas).float()
        self.alphas_cumprod = alphas_cumprod.float()
        self._levels = NoiseLevel(alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())
        self.final_alpha_cumprod = torch.tensor(1.0)
        self.init_noise_sigma = 1.0
        self.num_inference_steps = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)
        # defaults count as set: `Other.from_config(scheduler.config)` would otherwise replace them by its own
        self.register_to_config(_use_default_values=[])

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved scheduler, see `SchedulerMixin.from_pretrained`; like others, it keeps no list of defaults."""
        loaded = super().from_pretrained(*args, **kwargs)
        scheduler = loaded[0] if isinstance(loaded, tuple) else loaded
        config = {name: value for name, value in scheduler.config.items() if name != "_use_default_values"}
        scheduler._internal_dict = FrozenDict(config)
        return loaded

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[int] | None = None,
    ) -> None:
        """Set the times of the denoising steps.

        Args:
            num_inference_steps: Number of steps, for the published grid.
            device: Where the times live.
            timesteps: Own times instead, falling, each in [1, num_train_timesteps).

        Raises:
            ValueError: Neither or both of the two are given, or they are out of range; or there are `trained_betas`,
                but not one for each step of training.
        """
        last = self.config.num_train_timesteps
        if len(self.betas) != last:
            raise ValueError(f"`trained_betas` has {len(self.betas)} values, must have `num_train_timesteps`, {last}")
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError("give either `num_inference_steps` or `timesteps`")
        if timesteps is None:
            if not 1 <= num_inference_steps < last:
                raise ValueError(f"`num_inference_steps` is {num_inference_steps}, must be in [1, {last - 1}]")
            # the grid's 0 is only ever a target
            timesteps = torch.linspace(0, last, num_inference_steps + 2)[1:-1].int().flip(0).tolist()
        ordered = all(a > b for a, b in zip(timesteps, timesteps[1:], strict=False))
        if not timesteps or not ordered or timesteps[0] >= last or timesteps[-1] < 1:
            raise ValueError(f"`timesteps` must fall from below {last} to at least 1, are {timesteps}")
        self.num_inference_steps = len(timesteps)
        self.timesteps = torch.tensor(timesteps, dtype=torch.int64, device=device)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Go from one time to the next (DDIM, equation 12 of arXiv 2010.02502, with the levels described above).

        Args:
            model_output: Prediction of the denoiser (B, ...).
            timestep: Time of the sample in [0, num_train_timesteps). The next one is the latest of `timesteps` before
                it, also where it is none of them itself, or 0.
            sample: Noisy sample (B, ...).
            eta: Share of fresh noise: 0 none, 1 all, as published.
            use_clipped_model_output: Whether the direction uses the noise implied by the clipped clean sample; the
                published sampler uses the predicted noise as it is.
            generator: Source of fresh noise.
            variance_noise: Fresh noise to use instead.
            return_dict: Whether to return a `DDIMSchedulerOutput`.

        Returns:
            The sample at the next time, and the clean sample.

        Raises:
            ValueError: `set_timesteps` was not called, the time is out of range, or there is no such prediction type.
        """
        if self.num_inference_steps is None:
            raise ValueError("call `set_timesteps` before `step`")
        prediction_type, model_output = self.config.prediction_type, model_output.to(sample.dtype)
        if prediction_type not in NOISE_PREDICTIONS:
            raise ValueError(
                f"`prediction_type` is {prediction_type!r}, must be one of {', '.join(NOISE_PREDICTIONS)}"
            )
        time, next_time = int(timestep), self._next_time(int(timestep))
        level = NoiseLevel(*(shares[time] for shares in self._levels))
        clean = bound_clean(clean_from_prediction(prediction_type, model_output, sample, level), self.config)
        if use_clipped_model_output:
            noise = noise_from_prediction("sample", clean, sample, level)
        else:
            noise = noise_from_prediction(prediction_type, model_output, sample, level)
        alpha, next_alpha = self._level_before(time), self._level_before(next_time)
        # noise ends at time 0, from where a step would divide nothing by nothing
        fresh_share = (1 - alpha / next_alpha) * (1 - next_alpha) / (1 - alpha) if next_time > 0 else 0 * alpha
        sigma = eta * fresh_share.sqrt()
        direction = (1 - next_alpha - sigma**2).sqrt()
        # of a long clip every copy counts: sums go into the first of their terms
        next_sample = (clean * next_alpha.sqrt()).add_(direction * noise)
        if eta > 0 and next_time > 0:
            if variance_noise is None:
                fresh = randn_tensor(
                    model_output.shape, generator=generator, device=model_output.device, dtype=model_output.dtype
                ).mul_(sigma)
            else:
                fresh = sigma * variance_noise
            next_sample = next_sample.add_(fresh)
        if not return_dict:
            return next_sample, clean
        return DDIMSchedulerOutput(prev_sample=next_sample, pred_original_sample=clean)

    def _next_time(self, time: int) -> int:
        last = self.config.num_train_timesteps - 1
        if not 0 <= time <= last:
            raise ValueError(f"`timestep` is {time}, must be in [0, {last}]")
        earlier = self.timesteps[self.timesteps < time]
        return int(earlier[0]) if len(earlier) else 0

    def _level_before(self, time: int) -> torch.Tensor:
        return self.alphas_cumprod[time - 1] if time > 0 else self.final_alpha_cumprod
