"""The terms of the denoiser's loss: pure functions of motion, see `losses`."""

from collections.abc import Mapping

import torch

from training.objectives.losses import check_same_shape, mean_per_sample


def denoising_losses(
    prediction: torch.Tensor,
    target: torch.Tensor,
    clean_prediction: torch.Tensor,
    clean: torch.Tensor,
    masks: Mapping[str, torch.Tensor],
    sample_weights: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Compute the terms of the denoiser's loss (paper section 3.3; published weights 1, 0.15, 0.15, 0.15).

    The released code adds up the three channels in the mouth box instead of averaging them: its 0.15 is 0.45 here.

    Args:
        prediction: Output of the denoiser (B, 3, F, h, w).
        target: What it should be, see `prediction_target`; with epsilon prediction the noise.
        clean_prediction: The motion recovered from the prediction (B, 3, F, h, w): `clean_from_prediction`, and then
            `dynamic_threshold` where noise is predicted: without it, the steps of highest noise outweigh all others by
            far.
        clean: The motion itself (B, 3, F, h, w): flow x, flow y, 2·occlusion - 1.
        masks: Parts of the face that count for themselves, by name ("mouth", "eyes"), each (B, 1, F, h, w): see
            `mouth_box_mask` and `eye_box_mask`.
        sample_weights: Factor (B,) of the terms that compare with `target`, see `snr_weights`; None: 1.

    Returns:
        Scalars: "denoising", the mean squared error of the prediction; "flow" and "occlusion", those of the motion,
        occlusion in [0, 1]; "flow_gradient", see `flow_gradient_loss`; "part_motion", see `part_motion_loss`; and by
        each mask's name the one of the prediction inside of it.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_same_shape(prediction, target, "(B, 3, F, h, w)", 5)
    check_same_shape(clean_prediction, clean, "(B, 3, F, h, w)", 5)
    wanted = (len(prediction), 1, *prediction.shape[2:])
    for name, mask in masks.items():
        if mask.shape != wanted:
            raise ValueError(f"`masks` has {tuple(mask.shape)} for {name!r}, must be {wanted}")
    if sample_weights is None:
        sample_weights = prediction.new_ones(len(prediction), dtype=torch.float32)
    elif sample_weights.shape != prediction.shape[:1]:
        raise ValueError(f"`sample_weights` is {tuple(sample_weights.shape)}, must be ({len(prediction)},)")
    error = (prediction.float() - target.float()).square()
    motion_error = (clean_prediction.float() - clean.float()).square()
    return {
        "denoising": (sample_weights * mean_per_sample(error)).mean(),
        "flow": mean_per_sample(motion_error[:, :-1]).mean(),
        "occlusion": mean_per_sample(motion_error[:, -1:] / 4).mean(),
        "flow_gradient": flow_gradient_loss(clean_prediction[:, :-1], clean[:, :-1], masks),
        "part_motion": part_motion_loss(clean_prediction[:, :-1], clean[:, :-1], masks),
    } | {name: (sample_weights * mean_per_sample(error, mask)).mean() for name, mask in masks.items()}


def flow_gradient_loss(
    prediction: torch.Tensor, target: torch.Tensor, masks: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Compare how flow changes from cell to cell: it jumps where lips part and lids meet, and is smooth elsewhere.

    Beside the error of occlusion, which jumps from -1 to 1, that of flow hardly counts where a face moves by little.

    Args:
        prediction: Flow (B, 2, F, h, w).
        target: Flow (B, 2, F, h, w).
        masks: Parts of the face that count once more, by name, each (B, 1, F, h, w).

    Returns:
        Mean squared error of the steps to the next column and to the next row, over the whole and inside of each
        mask, added up; a scalar.
    """
    error = prediction.float() - target.float()
    total = error.new_zeros(len(error))
    for dim in (-2, -1):
        step = error.diff(dim=dim).square()
        total = total + mean_per_sample(step)
        for mask in masks.values():
            total = total + mean_per_sample(step, mask.narrow(dim, 0, mask.shape[dim] - 1))
    return total.mean()


def part_motion_loss(
    prediction: torch.Tensor, target: torch.Tensor, masks: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Compare how parts of the face move as a whole: how far each is shifted, stretched, turned and sheared.

    How far a mouth opens is the stretch of its box from top to bottom. Speech decides this one number of a frame, and
    among the errors of thousands of cells it hardly counts.

    Args:
        prediction: Flow (B, 2, F, h, w).
        target: Flow (B, 2, F, h, w).
        masks: The parts, by name, each (B, 1, F, h, w).

    Returns:
        Sum over the parts and over six numbers of a frame: the squares of the flow's mean error inside the part, and
        of the error's covariance with columns and with rows, both scaled to a standard deviation of 1 there; a
        scalar, 0 without parts.
    """
    error = prediction.float() - target.float()
    height, width = error.shape[-2:]
    columns = torch.arange(width, device=error.device, dtype=torch.float32).expand(height, width)
    rows = torch.arange(height, device=error.device, dtype=torch.float32)[:, None].expand(height, width)
    total = error.new_zeros(())
    for mask in masks.values():
        share = mask.float() / mask.sum(dim=(-2, -1), keepdim=True).clamp(min=1)
        for place in (None, columns, rows):
            weight = share if place is None else share * _standardised(place, share)
            moment = (weight * error).sum(dim=(-2, -1))  # (B, 2, F)
            total = total + moment.square().sum(dim=1).mean()
    return total


def still_loss(prediction: torch.Tensor, target: torch.Tensor, stands_still: torch.Tensor) -> torch.Tensor:
    """Compare flow where nothing moves, by its absolute error, which asks for none at all instead of for little.

    Args:
        prediction: Flow (B, 2, F, h, w).
        target: Flow (B, 2, F, h, w).
        stands_still: Where nothing moves, bool (B, 1, F, h, w).

    Returns:
        The mean; a scalar, 0 where everything moves.
    """
    return mean_per_sample((prediction.float() - target.float()).abs(), stands_still).mean()


def _standardised(place: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    # of mean 0 and variance 1 where the shares are; 0 in a part of a single row or column
    centred = place - (share * place).sum(dim=(-2, -1), keepdim=True)
    variance = (share * centred.square()).sum(dim=(-2, -1), keepdim=True)
    return torch.where(variance > 0, centred * variance.clamp(min=torch.finfo(torch.float32).tiny).rsqrt(), 0.0)
