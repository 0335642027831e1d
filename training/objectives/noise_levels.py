"""Noise levels and weights of the denoiser's training samples."""

from typing import Any

import torch

from diffusers_dawn.sampling.prediction import FLOW_PREDICTION, NoiseLevel, check_prediction_type


def noise_levels(prediction_type: str, scheduler: Any, timesteps: torch.Tensor) -> tuple[NoiseLevel, torch.Tensor]:
    """Find the noise levels of steps: the scheduler's, or those of flow matching (arXiv 2210.02747, section 4.1).

    Args:
        prediction_type: One of `PREDICTION_TYPES`; "flow_prediction" goes from motion to noise in a straight line.
        scheduler: The scheduler that the denoiser is saved with.
        timesteps: Steps (B,), in [0, num_train_timesteps).

    Returns:
        Shares of motion and noise (B,), and the time that the denoiser is told (B,), from 0 to the number of steps.

    Raises:
        ValueError: There is no such prediction type.
    """
    check_prediction_type(prediction_type)
    if prediction_type == FLOW_PREDICTION:
        time = timesteps.float() + 1  # of the last step nothing but noise is left
        sigma = time / scheduler.config.num_train_timesteps
        return NoiseLevel(1 - sigma, sigma), time
    alphas = scheduler.alphas_cumprod.to(timesteps.device)[timesteps].float()
    return NoiseLevel(alphas.sqrt(), (1 - alphas).sqrt()), timesteps


def snr_weights(level: NoiseLevel, prediction_type: str, gamma: float) -> torch.Tensor:
    """Compute min-SNR weights (Hang et al. 2023, arXiv 2303.09556, section 3.4): min(SNR, gamma) in the clean sample.

    An error of the noise counts SNR times, one of v (SNR + 1) times, one of the flow 1 / sigma^2 times as in the clean
    sample; that is divided out.

    Args:
        level: Noise level of each sample (B,).
        prediction_type: One of `PREDICTION_TYPES`.
        gamma: Largest weight; the paper recommends 5.

    Returns:
        Float32 weights (B,).

    Raises:
        ValueError: There is no such prediction type, or `gamma` is not positive.
    """
    check_prediction_type(prediction_type)
    if not gamma > 0:
        raise ValueError(f"`gamma` is {gamma}, must be positive")
    snr = level.signal.square() / level.sigma.square()
    if prediction_type == "epsilon":
        return gamma / snr.clamp(min=gamma)  # min(snr, gamma) / snr, also where the signal vanishes
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    if prediction_type == FLOW_PREDICTION:
        return snr.clamp(max=gamma) * level.sigma.square()
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
