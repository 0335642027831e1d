"""What the denoiser is asked for: noise levels, its target, the motion behind its answer, how much a step counts."""

from typing import Any, NamedTuple

import torch

from diffusers_dawn.sampling.scheduler_training import FLOW_PREDICTION
from diffusers_dawn.sampling.scheduler_training import PREDICTION_TYPES as NOISE_PREDICTION_TYPES

PREDICTION_TYPES = (*NOISE_PREDICTION_TYPES, FLOW_PREDICTION)


class NoiseLevels(NamedTuple):
    """How noisy the denoiser's input is, signal·motion + sigma·noise, and the time that it is told.

    Attributes:
        signal: Share of the motion (B,).
        sigma: Share of the noise (B,).
        time: Time (B,), from 0 to the number of steps.
    """

    signal: torch.Tensor
    sigma: torch.Tensor
    time: torch.Tensor


def noise_levels(prediction_type: str, scheduler: Any, timesteps: torch.Tensor) -> NoiseLevels:
    """Find the noise levels of steps: the scheduler's, or those of flow matching (arXiv 2210.02747, section 4.1).

    Args:
        prediction_type: One of `PREDICTION_TYPES`; "flow_prediction" goes from motion to noise in a straight line.
        scheduler: The scheduler that the denoiser is saved with.
        timesteps: Steps (B,), in [0, num_train_timesteps).

    Returns:
        The levels.

    Raises:
        ValueError: There is no such prediction type.
    """
    _check_type(prediction_type)
    if prediction_type == FLOW_PREDICTION:
        time = timesteps.float() + 1  # of the last step nothing but noise is left
        sigma = time / scheduler.config.num_train_timesteps
        return NoiseLevels(1 - sigma, sigma, time)
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()
    return NoiseLevels(alphas.sqrt(), (1 - alphas).sqrt(), timesteps)


def add_noise(clean: torch.Tensor, noise: torch.Tensor, levels: NoiseLevels) -> torch.Tensor:
    """Mix motion and noise (B, ...)."""
    signal, sigma = _shares(levels, clean, noise)
    return signal.to(clean) * clean + sigma.to(clean) * noise


def prediction_target(
    prediction_type: str, clean: torch.Tensor, noise: torch.Tensor, levels: NoiseLevels
) -> torch.Tensor:
    """Compute what the denoiser should answer (arXiv 2202.00512, section 2.4, for v; 2210.02747 for flow).

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        clean: Motion without noise (B, ...).
        noise: Noise that was added (B, ...).
        levels: Noise level of each sample.

    Returns:
        Float32 tensor (B, ...): the noise, signal·noise - sigma·motion, the motion, or noise - motion.

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    _check_type(prediction_type)
    signal, sigma = _shares(levels, clean, noise)
    if prediction_type == "epsilon":
        return noise.float()
    if prediction_type == "sample":
        return clean.float()
    if prediction_type == FLOW_PREDICTION:
        return noise.float() - clean.float()
    return signal * noise.float() - sigma * clean.float()


def clean_from_prediction(
    prediction_type: str, prediction: torch.Tensor, noisy: torch.Tensor, levels: NoiseLevels
) -> torch.Tensor:
    """Recover the motion from the denoiser's answer; undoes `prediction_target`.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        prediction: The answer (B, ...).
        noisy: What the denoiser was given (B, ...), see `add_noise`.
        levels: Noise level of each sample; the signal above 0 for epsilon.

    Returns:
        Float32 tensor (B, ...).

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    _check_type(prediction_type)
    signal, sigma = _shares(levels, prediction, noisy)
    if prediction_type == "epsilon":
        return (noisy.float() - sigma * prediction.float()) / signal
    if prediction_type == "sample":
        return prediction.float()
    if prediction_type == FLOW_PREDICTION:
        return noisy.float() - sigma * prediction.float()
    return signal * noisy.float() - sigma * prediction.float()


def bound_motion(motion: torch.Tensor, quantile: float = 0.9) -> torch.Tensor:
    """Clip each motion at a quantile of its absolute values, at least 1, and divide by it (arXiv 2205.11487, 2.3).

    The sampler does so to what it recovers from the prediction, and so does the released training before it compares
    flow and occlusion: at high noise an error of the prediction counts up to 20,000-fold in the motion.

    Args:
        motion: Motion (B, ...).
        quantile: The quantile, in [0, 1].

    Returns:
        Float32 motion (B, ...) in [-1, 1].
    """
    motion = motion.float()
    bound = torch.quantile(motion.flatten(1).abs(), quantile, dim=1).clamp(min=1)
    bound = _per_sample_axes(bound, motion)
    return motion.clamp(-bound, bound) / bound


def snr_weights(levels: NoiseLevels, prediction_type: str, gamma: float) -> torch.Tensor:
    """Compute min-SNR weights (Hang et al. 2023, arXiv 2303.09556, section 3.4): min(SNR, gamma) in the clean sample.

    An error of the noise counts SNR times, one of v (SNR + 1) times, one of the flow 1 / sigma^2 times as in the clean
    sample; that is divided out.

    Args:
        levels: Noise level of each sample.
        prediction_type: One of `PREDICTION_TYPES`.
        gamma: Largest weight; the paper recommends 5.

    Returns:
        Float32 weights (B,).

    Raises:
        ValueError: There is no such prediction type, or `gamma` is not positive.
    """
    _check_type(prediction_type)
    if not gamma > 0:
        raise ValueError(f"`gamma` is {gamma}, must be positive")
    snr = levels.signal.square() / levels.sigma.square()
    if prediction_type == "epsilon":
        return gamma / snr.clamp(min=gamma)  # min(snr, gamma) / snr, also where the signal vanishes
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    if prediction_type == FLOW_PREDICTION:
        return snr.clamp(max=gamma) * levels.sigma.square()
    return snr.clamp(max=gamma)


def shifted_timestep(timestep: int, shift: float, num_train_timesteps: int) -> int:
    """Move a step towards pure noise (Esser et al. 2024, arXiv 2403.03206, equation 23).

    Args:
        timestep: Step, in [0, num_train_timesteps).
        shift: 1 moves none; above 1, half of all steps come to lie beyond the share shift / (shift + 1) of them.
        num_train_timesteps: Number of steps.

    Returns:
        Step, in [0, num_train_timesteps).
    """
    time = (timestep + 0.5) / num_train_timesteps
    return int(num_train_timesteps * (shift * time / (1 + (shift - 1) * time)))


def _check_type(prediction_type: str) -> None:
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"`prediction_type` is {prediction_type!r}, must be one of {', '.join(map(repr, PREDICTION_TYPES))}"
        )


def _shares(levels: NoiseLevels, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # signal and noise level of each sample, to be multiplied with (B, ...)
    if first.shape != second.shape or levels.signal.shape != first.shape[:1]:
        raise ValueError(
            f"{tuple(first.shape)} and {tuple(second.shape)} must be equal, and `levels`, "
            f"{tuple(levels.signal.shape)}, must have one value per sample"
        )
    return _per_sample_axes(levels.signal.float(), first), _per_sample_axes(levels.sigma.float(), first)


def _per_sample_axes(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
