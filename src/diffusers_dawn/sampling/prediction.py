"""What a denoiser may predict of noisy motion, and every conversion from one to another.

Noisy motion is signal·motion + sigma·noise. A denoiser predicts the noise, v (arXiv 2202.00512, section 2.4), the
clean motion, or the flow, noise - motion (arXiv 2210.02747). Shares are numbers, or tensors (B,) of one per sample.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

NOISE_PREDICTIONS = ("epsilon", "v_prediction", "sample")
FLOW_PREDICTION = "flow_prediction"
PREDICTION_TYPES = (*NOISE_PREDICTIONS, FLOW_PREDICTION)
# share of the values that the dynamic threshold lets through as they are
THRESHOLD_QUANTILE = 0.9
# what torch.quantile takes at most
LARGEST_QUANTILE = 2**24
# the quantile's search looks at this many at a time; all it makes beside them is of this size
VALUES_AT_ONCE = 2**20


class NoiseLevel(NamedTuple):
    """How noisy motion is.

    Attributes:
        signal: Share of the motion, a number or (B,).
        sigma: Share of the noise, a number or (B,).
    """

    signal: float | torch.Tensor
    sigma: float | torch.Tensor


def add_noise(clean: torch.Tensor, noise: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
    """Mix motion and noise.

    Args:
        clean: Motion (B, ...).
        noise: Noise (B, ...).
        level: Their shares.

    Returns:
        Noisy motion (B, ...).

    Raises:
        ValueError: The shapes do not fit.
    """
    signal, sigma = _shares(level, clean, noise)
    return signal * clean + sigma * noise


def prediction_target(
    prediction_type: str, clean: torch.Tensor, noise: torch.Tensor, level: NoiseLevel
) -> torch.Tensor:
    """Compute what the denoiser should answer.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        clean: Motion without noise (B, ...).
        noise: Noise that was added (B, ...).
        level: Their shares.

    Returns:
        Tensor (B, ...): the noise, signal·noise - sigma·motion, the motion, or noise - motion.

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    check_prediction_type(prediction_type)
    signal, sigma = _shares(level, clean, noise)
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return clean
    if prediction_type == FLOW_PREDICTION:
        return noise - clean
    return signal * noise - sigma * clean


def clean_from_prediction(
    prediction_type: str, prediction: torch.Tensor, noisy: torch.Tensor, level: NoiseLevel
) -> torch.Tensor:
    """Recover the motion from the denoiser's answer; undoes `prediction_target`.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        prediction: The answer (B, ...).
        noisy: What the denoiser was given (B, ...).
        level: Its shares; the signal above 0 for epsilon, both together 1 for flow.

    Returns:
        Motion (B, ...).

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    check_prediction_type(prediction_type)
    signal, sigma = _shares(level, prediction, noisy)
    if prediction_type == "epsilon":
        return (noisy * (1 / signal)).sub_(prediction * (sigma / signal))
    if prediction_type == "sample":
        return prediction
    if prediction_type == FLOW_PREDICTION:
        return noisy - sigma * prediction
    return (signal * noisy).sub_(sigma * prediction)


def noise_from_prediction(
    prediction_type: str, prediction: torch.Tensor, noisy: torch.Tensor, level: NoiseLevel
) -> torch.Tensor:
    """Recover the noise from the denoiser's answer.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        prediction: The answer (B, ...).
        noisy: What the denoiser was given (B, ...).
        level: Its shares; the noise above 0 for sample, both together 1 for flow.

    Returns:
        Noise (B, ...).

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    check_prediction_type(prediction_type)
    signal, sigma = _shares(level, prediction, noisy)
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "sample":
        return (noisy - signal * prediction).div_(sigma)
    if prediction_type == FLOW_PREDICTION:
        return noisy + signal * prediction
    return signal * prediction + sigma * noisy


def prediction_from_clean(
    prediction_type: str, clean: torch.Tensor, noisy: torch.Tensor, level: NoiseLevel
) -> torch.Tensor:
    """Find the answer from which `clean_from_prediction` recovers a motion.

    Args:
        prediction_type: One of `PREDICTION_TYPES`.
        clean: The motion (B, ...).
        noisy: What the denoiser was given (B, ...).
        level: Its shares; the noise above 0 but for sample.

    Returns:
        Tensor (B, ...).

    Raises:
        ValueError: There is no such prediction type, or the shapes do not fit.
    """
    check_prediction_type(prediction_type)
    signal, sigma = _shares(level, clean, noisy)
    if prediction_type == "epsilon":
        return (noisy - signal * clean).div_(sigma)
    if prediction_type == "sample":
        return clean
    if prediction_type == FLOW_PREDICTION:
        return (noisy - clean).div_(sigma)
    return (signal * noisy).sub_(clean).div_(sigma)


def bound_clean(clean: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    """Bound recovered motion as a scheduler's config says.

    Args:
        clean: Motion (B, ...).
        config: `thresholding` with `dynamic_thresholding_ratio` and `sample_max_value`, else `clip_sample` with
            `clip_sample_range`.

    Returns:
        Motion (B, ...).
    """
    if config["thresholding"]:
        return dynamic_threshold(clean, config["dynamic_thresholding_ratio"], config["sample_max_value"])
    if config["clip_sample"]:
        return clean.clamp(-config["clip_sample_range"], config["clip_sample_range"])
    return clean


def dynamic_threshold(
    sample: torch.Tensor, quantile: float = THRESHOLD_QUANTILE, most: float | None = None
) -> torch.Tensor:
    """Clip each sample at a quantile of its absolute values, at least 1, and divide by it (arXiv 2205.11487, 2.3).

    At high noise, an error of the predicted noise counts up to 20,000-fold in the motion.

    Args:
        sample: Motion (B, ...), of any length.
        quantile: The quantile, in [0, 1].
        most: Upper bound of the threshold, from 1; None: no bound.

    Returns:
        Motion (B, ...) in [-1, 1], where the threshold has no upper bound.
    """
    if sample.requires_grad and torch.is_grad_enabled():
        threshold = torch.quantile(sample.flatten(1).abs(), quantile, dim=1)
    else:
        threshold = _quantile_of_magnitudes(sample, quantile)
    threshold = threshold.clamp(min=1.0, max=most).view(-1, *[1] * (sample.ndim - 1)).to(sample.dtype)
    return sample.clamp(-threshold, threshold) / threshold


def check_prediction_type(prediction_type: str) -> None:
    """Refuse what is none of `PREDICTION_TYPES`.

    Args:
        prediction_type: The name.

    Raises:
        ValueError: It is none of them.
    """
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(
            f"`prediction_type` is {prediction_type!r}, must be one of {', '.join(map(repr, PREDICTION_TYPES))}"
        )


def _shares(level: NoiseLevel, first: torch.Tensor, second: torch.Tensor) -> NoiseLevel:
    """Check shapes, and let shares of single samples be multiplied with (B, ...)."""
    per_sample = [share for share in level if torch.is_tensor(share) and share.ndim]
    if first.shape != second.shape or any(share.shape != first.shape[:1] for share in per_sample):
        shapes = ", ".join(str(tuple(share.shape)) for share in per_sample)
        raise ValueError(
            f"{tuple(first.shape)} and {tuple(second.shape)} must be equal, and `level`, {shapes}, must have one value"
            " per sample"
        )
    if not per_sample:
        return level
    return NoiseLevel(*(share.view(-1, *[1] * (first.ndim - 1)) for share in level))


def _quantile_of_magnitudes(sample: torch.Tensor, quantile: float) -> torch.Tensor:
    """Find the quantile of each sample's absolute values (B,), as `torch.quantile` does, of any number of values."""
    size = sample[0].numel()
    # as torch.quantile rounds the rank; of more values, which it refuses, float32 has not the digits for it
    precision = torch.float32 if size <= LARGEST_QUANTILE else torch.float64
    rank = torch.tensor(quantile, dtype=precision) * (size - 1)
    lower = int(rank)
    low, high = torch.stack([magnitudes_at_rank(values, lower) for values in sample]).unbind(1)
    return torch.lerp(low, high, (rank - lower).to(low))


def magnitudes_at_rank(values: torch.Tensor, rank: int) -> torch.Tensor:
    """Find the absolute value of given rank and its successor, exactly and without a sorted copy.

    Floats that are not negative are ordered like their bits. Counting the upper halves of the bits finds the upper
    half of the one that is looked for, counting the lower halves of those that share it the rest.

    Args:
        values: Values, at least one.
        rank: Rank counted from 0, of the smallest.

    Returns:
        Float32 tensor (2,): the value, and the one after it, which for the largest is itself.
    """
    upper_counts = _count_bits(values, lambda bits: bits >> 16)
    found: dict[int, torch.Tensor] = {}
    results = []
    for wanted in (rank, min(rank + 1, values.numel() - 1)):
        upper, before = _bin_of_rank(upper_counts, wanted)
        if upper not in found:
            found[upper] = _count_bits(values, lambda bits, upper=upper: (bits & 0xFFFF)[bits >> 16 == upper])
        lower, _ = _bin_of_rank(found[upper], wanted - before)
        results.append((upper << 16) + lower)
    return torch.tensor(results, dtype=torch.int32, device=values.device).view(torch.float32)


def _count_bits(values: torch.Tensor, select: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    # a few at a time, so that nothing as large as the values is made; their order does not matter
    longest = max(range(values.ndim), key=values.shape.__getitem__)
    step = max(1, VALUES_AT_ONCE * values.shape[longest] // values.numel())
    counts = torch.zeros(2**16, dtype=torch.int64, device=values.device)
    for part in values.split(step, dim=longest):
        counts += torch.bincount(select(part.abs().float().flatten().view(torch.int32)), minlength=2**16)
    return counts


def _bin_of_rank(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    # the bin that holds the value of this rank, and how many values lie in the bins before it
    ends = counts.cumsum(0)
    index = int(torch.searchsorted(ends, rank, right=True))
    return index, int(ends[index] - counts[index])
