"""The denoiser's loss: error of its prediction, of flow and occlusion, inside mouth and eyes, and their weights."""

from collections.abc import Mapping

import torch
from diffusers import SchedulerMixin
from torch import nn

from diffusers_dawn.geometry.flow import cell_centres, face_box_mask
from diffusers_dawn.geometry.motion_latents import latents_from_motion, motion_from_latents
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.sampling.conditions import null_conditions, relative_conditions
from diffusers_dawn.sampling.prediction import (
    add_noise,
    clean_from_prediction,
    dynamic_threshold,
    prediction_target,
)
from diffusers_dawn.sampling.scheduler_training import trained_prediction
from training.objectives.box_masks import eye_box_mask, mouth_box_mask
from training.objectives.estimated_motion import estimate_motion
from training.objectives.losses import weighted_total
from training.objectives.motion_losses import denoising_losses, still_loss
from training.objectives.noise_levels import noise_levels, snr_weights

# a feature sees so many cells of the picture around its own, rounded up
CELLS_AROUND = 4
# displacements that count as none: a twentieth of a pixel of 256, or what half precision rounds positions by
STANDING_STILL = 5e-4


class MotionObjective(nn.Module):
    """The denoiser's loss on a batch (paper sections 3.3 and 3.5).

    Args:
        unet: The denoiser.
        lfg: The frozen latent flow generator.
        scheduler: The scheduler that it is saved with, which has its noise levels.
        motion_weight: Weight of the errors of flow and of occlusion.
        mouth_weight: Weight of the error inside the mouth box.
        eye_weight: Weight of the error inside the boxes of the eyes; 0: batches need not say where they are.
        flow_gradient_weight: Weight of the error of how flow changes from cell to cell.
        part_motion_weight: Weight of the error of how mouth and eyes move as a whole.
        still_weight: Weight of the mean absolute error of flow where nothing moves.
        snr_gamma: Largest weight of min-SNR weighting; None: all steps count alike.
    """

    def __init__(
        self,
        unet: A2VFlowDiffusionModel,
        lfg: LatentFlowGenerator,
        scheduler: SchedulerMixin,
        motion_weight: float,
        mouth_weight: float,
        eye_weight: float = 0.0,
        flow_gradient_weight: float = 0.0,
        part_motion_weight: float = 0.0,
        still_weight: float = 0.0,
        snr_gamma: float | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self._lfg = (lfg,)  # a tuple hides it from the modules: it is not trained, and not wrapped with the denoiser
        self.scheduler = scheduler
        self.prediction_type, self.snr_gamma = trained_prediction(scheduler.config), snr_gamma
        self.flow_scale = unet.config.flow_scale
        self.weights = {
            "denoising": 1.0,
            "flow": motion_weight,
            "occlusion": motion_weight,
            "mouth": mouth_weight,
            "flow_gradient": flow_gradient_weight,
            "part_motion": part_motion_weight,
        }
        if eye_weight:
            self.weights["eyes"] = eye_weight
        if still_weight:
            self.weights["still"] = still_weight
        if unet.mouth_reader is not None:
            self.weights["mouth_reader"] = 1.0

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss terms of a batch of `MotionWindows`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; not used.

        Returns:
            The terms, and "loss".
        """
        (lfg,) = self._lfg
        reference = batch["reference"]
        motion = batch["motion"] if "motion" in batch else estimate_motion(lfg, reference, batch["frames"])
        flow, occlusion = motion_from_latents(motion)
        stands_still = (flow - cell_centres(*flow.shape[2:4], device=flow.device)).abs().amax(dim=-1) < STANDING_STILL
        if self.flow_scale is not None:
            motion = latents_from_motion(flow, occlusion, self.flow_scale)
        if "corner" in batch:
            side = batch["noise"].shape[-1]
            motion, stands_still = (_cut_out(maps, batch["corner"], side) for maps in (motion, stands_still))
        with torch.no_grad():
            if "corner" in batch:
                features = encode_around(lfg, reference, batch["corner"], motion.shape[-1])
            else:
                features = lfg.encode_image(reference).features
        features = features.to(motion.dtype)
        noise, timestep = batch["noise"], batch["timestep"]
        level, time = noise_levels(self.prediction_type, self.scheduler, timestep)
        noisy = add_noise(motion, noise, level)
        conditions = null_conditions(
            relative_conditions(
                *(batch[name] for name in ("audio_features", "pose", "blink", "reference_pose", "reference_blink"))
            ),
            batch["null_mask"],
        )
        size, stride = reference.shape[-2:], lfg.config.motion_stride
        cells = tuple(side // stride for side in size)
        image_sizes = torch.tensor([size], device=reference.device).float().expand(len(reference), 2)
        face_mask = face_box_mask(batch["reference_box_px"], image_sizes, *size)
        masks = {"mouth": mouth_box_mask(batch["mouth_px"], size, *cells)}
        if "eyes" in self.weights:
            masks["eyes"] = eye_box_mask(batch["eyes_px"], size, *cells)
        if "corner" in batch:
            side = motion.shape[-1]
            face_mask = _cut_out(face_mask, batch["corner"] * stride, side * stride)
            masks = {name: _cut_out(mask, batch["corner"], side) for name, mask in masks.items()}
        # the denoiser learns from the mouth that is seen, its reader what speech says about it
        mouth = batch["mouth"] if "mouth_reader" in self.weights else None
        prediction = self.unet(noisy, time, features, face_mask, *conditions, mouth).sample

        clean = clean_from_prediction(self.prediction_type, prediction.float(), noisy, level)
        weights = None
        if self.snr_gamma is not None:
            weights = snr_weights(level, self.prediction_type, self.snr_gamma)
        terms = denoising_losses(
            prediction,
            prediction_target(self.prediction_type, motion, noise, level),
            dynamic_threshold(clean) if self.scheduler.config.thresholding else clean,
            motion,
            masks,
            weights,
        )
        if "still" in self.weights:
            terms["still"] = still_loss(clean[:, :-1], motion[:, :-1], stands_still[:, None])
        if "mouth_reader" in self.weights:
            terms["mouth_reader"] = mouth_reader_loss(self.unet, batch["spoken"], batch["spoken_mouth"])
        return terms | {"loss": weighted_total(terms, self.weights)}


def mouth_reader_loss(unet: A2VFlowDiffusionModel, spoken: torch.Tensor, spoken_mouth: torch.Tensor) -> torch.Tensor:
    """Compare the mouth that a denoiser reads from speech with the one that was seen.

    Args:
        unet: A denoiser with a `MouthReader`.
        spoken: Speech features (B, T, D); frames of zeros do not count.
        spoken_mouth: Opening and width (B, T, 2), see `mouth_track`.

    Returns:
        Mean squared error; a scalar.
    """
    error = (unet.mouth_reader(spoken).float() - spoken_mouth).square().mean(dim=-1)
    counts = (spoken != 0).any(dim=-1)
    return (error * counts).sum() / counts.sum().clamp(min=1)


def encode_around(lfg: LatentFlowGenerator, images: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
    """Encode no more of pictures than a square of their features needs.

    Args:
        lfg: Whose encoder.
        images: Pictures (B, 3, H, W).
        corners: Left and top sides of the squares (B, 2), in cells.
        side: Width of the squares, in cells.

    Returns:
        Features (B, C, side, side), as cut out of those of whole pictures.
    """
    stride, (height, width) = lfg.config.motion_stride, images.shape[-2:]
    around_px = (side + 2 * CELLS_AROUND) * stride
    last = torch.tensor([width - around_px, height - around_px], device=corners.device).clamp(min=0) // stride
    starts = torch.minimum((corners - CELLS_AROUND).clamp(min=0), last)
    squares = _cut_out(images, starts * stride, around_px)
    return _cut_out(lfg.encode_image(squares).features, corners - starts, side)


def _cut_out(maps: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
    """Cut a square out of each sample's maps (B, ..., H, W), given the left and top sides (B, 2)."""
    squares = (
        one[..., top : top + side, left : left + side] for one, (left, top) in zip(maps, corners.tolist(), strict=True)
    )
    return torch.stack(list(squares))
