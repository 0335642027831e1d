"""Losses of pictures and of tracks, and what all losses share: pure functions of tensors.

Each is computed in float32 whatever it is given, per sample first and then averaged over the samples. Two processes
with half a batch each therefore get, on average, the loss of one process with the whole batch, also where clips have
padded frames. None is weighted; `weighted_total` joins the terms of a step.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional

from diffusers_dawn.geometry.flow import antialiased_downsample

PYRAMID_SCALES = (1, 0.5, 0.25, 0.125)


def weighted_total(terms: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Add up the terms of a loss.

    Args:
        terms: Scalars by name.
        weights: Factor of each, by the same names.

    Returns:
        The sum, a scalar.

    Raises:
        ValueError: A term has no weight, or a weight no term.
    """
    if not terms or terms.keys() != weights.keys():
        raise ValueError(f"`weights` is for {_names(weights)}, must be for exactly the terms {_names(terms)}")
    return sum(weights[name] * term for name, term in terms.items())


def perceptual_pyramid_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    features: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    scales: Sequence[float] = PYRAMID_SCALES,
    weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Compare the features of two images at several sizes (paper section 3.2; first order motion model, section 3.3).

    Args:
        prediction: Images (B, 3, H, W) in [0, 1].
        target: Images (B, 3, H, W) in [0, 1].
        features: Maps images to feature maps (B, C, h, w), such as `VGG19Features`.
        scales: Sizes of the images, 1 over a whole number each.
        weights: Factor of each feature map; None: 1, and the published 10 is the weight of the whole term.

    Returns:
        Mean absolute difference of each feature map, summed over maps and scales; a scalar.

    Raises:
        ValueError: The shapes differ, a scale is not 1 over a whole number, or `weights` does not fit the maps.
    """
    check_same_shape(prediction, target, "(B, 3, H, W)", 4)
    total = prediction.new_zeros(len(prediction), dtype=torch.float32)
    for scale in scales:
        predicted_maps = features(_downsample(prediction, scale))
        with torch.no_grad():
            target_maps = features(_downsample(target.detach(), scale))
        factors = [1.0] * len(target_maps) if weights is None else weights
        if len(factors) != len(target_maps):
            raise ValueError(f"`weights` has {len(factors)} values, must have {len(target_maps)}, one per feature map")
        for factor, predicted_map, target_map in zip(factors, predicted_maps, target_maps, strict=True):
            total = total + factor * mean_per_sample((predicted_map.float() - target_map.float()).abs())
    return total.mean()


def pixel_gradient_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    scales: Sequence[float] = PYRAMID_SCALES,
    weight_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compare pixels and image gradients at several sizes; replaces the perceptual loss when there is no VGG.

    Args:
        prediction: Images (B, C, H, W) in [0, 1].
        target: Images (B, C, H, W) in [0, 1].
        scales: Sizes of the images, 1 over a whole number each.
        weight_map: Non-negative weight of every pixel (B, 1, H, W), such as more on mouth and eyes; only ratios count.

    Returns:
        Mean absolute difference of pixels plus that of horizontal and of vertical neighbours' differences, summed over
        the scales; a scalar.

    Raises:
        ValueError: The shapes do not fit, or a scale is not 1 over a whole number.
    """
    check_same_shape(prediction, target, "(B, C, H, W)", 4)
    if weight_map is not None and weight_map.shape != (prediction.shape[0], 1, *prediction.shape[2:]):
        wanted = (prediction.shape[0], 1, *prediction.shape[2:])
        raise ValueError(f"`weight_map` is {tuple(weight_map.shape)}, must be {wanted}")
    # all that follows is linear up to the absolute value
    difference = prediction.float() - target.float()
    total = difference.new_zeros(len(difference))
    for scale in scales:
        smaller = _downsample(difference, scale)
        weight = weight_map
        if weight is not None:
            # area keeps a constant map constant up to the border
            weight = functional.interpolate(weight.float(), smaller.shape[-2:], mode="area")
        total = total + mean_per_sample(smaller.abs(), weight)
        for dim in (2, 3):
            step = smaller.diff(dim=dim).abs()
            between = None if weight is None else _neighbour_mean(weight, dim)
            total = total + mean_per_sample(step, between)
    return total.mean()


def masked_mse(prediction: torch.Tensor, target: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the mean squared error over the frames that count (paper section 3.4: reconstruction).

    Args:
        prediction: Tensor (B, F, S).
        target: Tensor (B, F, S).
        frame_mask: Bool tensor (B, F), True where a frame belongs to its clip; None: all do.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_same_shape(prediction, target, "(B, F, S)", 3)
    prediction, target = _without_padding(prediction, frame_mask), _without_padding(target, frame_mask)
    return _mean_over_frames((prediction - target).square(), frame_mask)


def kl_divergence(mu: torch.Tensor, logvar: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Compute how far the latents' distribution is from the standard normal one (paper section 3.4).

    As released, it is the mean over the latent's elements, which the published weight 0.004 belongs to, not the sum.

    Args:
        mu: Means (B, F, Z).
        logvar: Log-variances (B, F, Z).
        frame_mask: Bool tensor (B, F), True where a frame belongs to its clip; None: all do.

    Returns:
        A scalar, 0 for mean 0 and variance 1.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_same_shape(mu, logvar, "(B, F, Z)", 3)
    mu, logvar = _without_padding(mu, frame_mask), _without_padding(logvar, frame_mask)
    # expm1: exp(x) - 1 - x loses all digits near 0
    return _mean_over_frames((mu.square() + logvar.expm1() - logvar) / 2, frame_mask)


def smoothness_loss(sequence: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the mean squared step from frame to frame of the OUTPUT (paper section 3.4: regularisation).

    The released term takes the steps of the target, which have no gradient; it trains nothing.

    Args:
        sequence: Predicted tracks (B, F, S), F at least 2.
        frame_mask: Bool tensor (B, F), True where a frame belongs to its clip; None: all do.

    Returns:
        A scalar; a clip of one frame counts as 0.

    Raises:
        ValueError: The shapes do not fit, or there is only one frame.
    """
    if sequence.ndim != 3 or sequence.shape[1] < 2:
        raise ValueError(f"`sequence` is {tuple(sequence.shape)}, must be (B, F, S) with F at least 2")
    steps = _without_padding(sequence, frame_mask).diff(dim=1)
    return _mean_over_frames(steps.square(), None if frame_mask is None else frame_mask[:, 1:] & frame_mask[:, :-1])


def annealed_weight(epoch: float, start: float = 1e4, ramp: float = 7e4) -> float:
    """Say how much of the KL term's weight holds (paper section 3.4): 0 up to `start`, then rising to 1.

    The released code multiplies by max(epoch - 1e4, 7e4) / 7e4 from epoch 1e4 on, a step to 1 that keeps growing
    after epoch 8e4. This is the ramp that it means: min(epoch - start, ramp) / ramp.

    Args:
        epoch: Epochs so far; fractions count.
        start: Epoch from which the weight rises.
        ramp: Epochs that it takes; 0: a step.

    Returns:
        Factor in [0, 1].

    Raises:
        ValueError: `ramp` is negative.
    """
    if ramp < 0:
        raise ValueError(f"`ramp` is {ramp}, must not be negative")
    if epoch <= start:
        return 0.0
    return min((epoch - start) / ramp, 1.0) if ramp else 1.0


def discriminator_loss(
    real_logits: torch.Tensor, fake_logits: torch.Tensor, logit_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the discriminator's loss (paper section 3.4): binary cross-entropy, real as 1 plus generated as 0.

    Args:
        real_logits: Logits (B, F') of real tracks.
        fake_logits: Logits (B, F') of generated tracks that carry no gradient to their generator.
        logit_mask: Bool tensor (B, F'), True where a logit counts; None: all do.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_same_shape(real_logits, fake_logits, "(B, F')", 2)
    return _cross_entropy(real_logits, 1.0, logit_mask) + _cross_entropy(fake_logits, 0.0, logit_mask)


def generator_adversarial_loss(fake_logits: torch.Tensor, logit_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the generator's loss (paper section 3.4): binary cross-entropy, generated as 1.

    Args:
        fake_logits: Logits (B, F') of generated tracks.
        logit_mask: Bool tensor (B, F'), True where a logit counts; None: all do.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not fit.
    """
    return _cross_entropy(fake_logits, 1.0, logit_mask)


def _cross_entropy(logits: torch.Tensor, label: float, mask: torch.Tensor | None) -> torch.Tensor:
    logits = _without_padding(logits[..., None], mask)
    values = functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
    return _mean_over_frames(values, mask)


def _mean_over_frames(values: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
    # (B, F, D) and (B, F) -> scalar
    return mean_per_sample(values, None if frame_mask is None else frame_mask[..., None]).mean()


def _without_padding(values: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
    """Set padded frames of (B, F, D) to 0, so that neither they nor their gradients can be infinite; float32."""
    if frame_mask is None:
        return values.float()
    if frame_mask.shape != values.shape[:2] or frame_mask.dtype != torch.bool:
        raise ValueError(
            f"the mask is {frame_mask.dtype} {tuple(frame_mask.shape)}, must be torch.bool {tuple(values.shape[:2])}"
        )
    return values.float().masked_fill(~frame_mask[..., None], 0)


def mean_per_sample(values: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Average everything but the first axis.

    Args:
        values: Tensor (B, ...).
        weight: Non-negative weights that broadcast to it; None: all count alike. A sample without weight gives 0.

    Returns:
        Tensor (B,).
    """
    if weight is None:
        return values.flatten(1).mean(dim=1)
    # where, not a product: what is masked out may be infinite
    weight = weight.expand_as(values).flatten(1).float()
    weighted = torch.where(weight > 0, weight * values.flatten(1), 0.0)
    total = weight.sum(dim=1)
    return weighted.sum(dim=1) / torch.where(total > 0, total, 1.0)


def _neighbour_mean(weight: torch.Tensor, dim: int) -> torch.Tensor:
    count = weight.shape[dim] - 1
    return (weight.narrow(dim, 0, count) + weight.narrow(dim, 1, count)) / 2


def _downsample(image: torch.Tensor, scale: float) -> torch.Tensor:
    stride = round(1 / scale) if scale > 0 else 0
    if stride < 1 or abs(stride * scale - 1) > 1e-6:
        raise ValueError(f"`scales` has {scale}, must be 1 over a whole number")
    with torch.autocast(image.device.type, enabled=False):
        return antialiased_downsample(image.float(), stride)


def check_same_shape(first: torch.Tensor, second: torch.Tensor, axes: str, num_axes: int) -> None:
    """Refuse tensors of different shapes.

    Args:
        first: A tensor.
        second: Another one.
        axes: What their axes are, for the message.
        num_axes: How many there are.

    Raises:
        ValueError: The shapes differ, or have another number of axes.
    """
    if first.shape != second.shape or first.ndim != num_axes:
        raise ValueError(f"{tuple(first.shape)} and {tuple(second.shape)} must both be {axes}")


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(named) or "nothing"
