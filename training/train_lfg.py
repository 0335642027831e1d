"""Train LFG, the autoencoder of motion, on pairs of frames (paper section 3.2)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import numpy as np
import torch
from diffusers import ModelMixin
from torch import nn
from torch.utils.data import Dataset

from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.region_motion import Regions
from training.data.anchor_points import anchor_points, flow_points
from training.data.clip_mixture import open_clips
from training.data.datasets import FramePairs, check_eyes
from training.data.known_pairs import KnownPairs
from training.engine import commands
from training.engine.config import TrainingConfig, check_choice
from training.engine.loop import run_script
from training.engine.networks import build_network
from training.evaluation.validation import (
    RenderedClip,
    TruthClip,
    Validation,
    mean_of_rows,
    picture_metrics,
    validation_clips,
)
from training.objectives.box_masks import box_mask, mouth_box_mask
from training.objectives.known_motion import DetailDiscriminatorObjective, KnownMotionObjective
from training.objectives.losses import perceptual_pyramid_loss, pixel_gradient_loss, weighted_total
from training.objectives.picture_discriminator import PictureDiscriminator
from training.objectives.random_transform import RandomTransform
from training.objectives.region_losses import (
    closed_eye_loss,
    equivariance_losses,
    landmark_flow_loss,
    landmark_loss,
    open_mouth_loss,
)
from training.objectives.vgg import VGG19Features, load_vgg19

logger = logging.getLogger("training")

# settings that only mean something where the motion is known, and what they are elsewhere
ONLY_KNOWN_MOTION = {
    "crop_px": None,
    "hidden_weight": 1,
    "soft_motion_share": 0,
    "denoised_share": 0,
    "adversarial_weight": 0,
}

MOTIONS = ("estimated", "known")


@dataclass(kw_only=True)
class LFGConfig(TrainingConfig):
    """Settings of LFG's training, besides those of every training.

    Attributes:
        motion: "estimated": the network finds the motion between two frames itself, as published; "known": data sets
            of `make_photo_clips.py`, or of `prepare_clips.py --morphable_head`, say it, and only encoder and decoder
            are trained (the network needs no motion estimator). Terms about regions and landmarks do not apply then.
        vgg: File, folder or Hub id of VGG19's weights, for the perceptual loss; None: pixels and image gradients are
            compared instead.
        reconstruction_weight: Weight of that comparison.
        pyramid_scales: Sizes at which images are compared; with `vgg` the smallest image must have 16 px.
        mouth_weight: How much a pixel of the mouth's box counts beside another one; only without `vgg`.
        eye_weight: The same for the boxes of the eyes. Above 1 the flow is led from lids to lids, too, and four more
            regions to the lids; for data sets with the label `eyes_px`, as synthetic ones are.
        hidden_weight: The same for what the source does not show; only where the motion is known.
        crop_px: Side of a square around the face that is trained on; None: whole pictures. Only where the motion is
            known.
        soft_motion_share: Share of pairs whose motion is blurred: a denoiser's is soft where lips part, and the
            decoder learns to part them all the same. Only where the motion is known.
        denoised_share: Share of pairs drawn from a denoiser's version of their motion, which `add_denoised_motion.py`
            writes: it learns to paint closed lids where a denoiser says that the eye is hidden. Only where the motion
            is known.
        adversarial_weight: Weight of the verdict of a discriminator on mouths and eyes, which makes them crisp; 0 as
            published. Only where the motion is known.
        discriminator: Sizes of that discriminator, see `PictureDiscriminator`.
        freeze_encoder: Keep the encoder of `pretrained_model` as it is, so that denoisers that learned from its
            features still fit.
        shift_weight: Weight of the regions' positions moving with the image.
        affine_weight: Weight of the regions' shapes moving with the image.
        landmark_weight: Weight of the first six regions lying on lips and face; 0 as published.
        landmark_warmup_epochs: Epochs at the beginning in which nothing else is learned than that; 0 as published.
        landmark_flow_weight: Weight of the flow leading from lips to lips; 0 as published. In short trainings the
            three make the mouth move long before it would by itself.
        open_mouth_weight: Weight of painting anew just what lies between open lips; 0 as published.
        closed_eye_weight: Weight of painting anew eyes that open or close; 0 as published. For data sets with the
            label `eyes_px`.
        blink_share: Share of pairs whose driving frame is drawn from a blink; 0 as published.
        affine_sigma: Strength of the random affine maps.
        spline_sigma: Strength of the random splines.
        spline_points: Control points of the splines per row and column.
        colour_jitter: Strength of the colour jitter.
        flip: Whether pairs are mirrored at random.
        validation_frames: Longest clip of a validation.
    """

    motion: str = "estimated"
    vgg: str | None = None
    reconstruction_weight: float = 10.0
    pyramid_scales: tuple[float, ...] = (1, 0.5, 0.25, 0.125)
    mouth_weight: float = 1.0
    eye_weight: float = 1.0
    hidden_weight: float = 1.0
    crop_px: int | None = None
    soft_motion_share: float = 0.0
    denoised_share: float = 0.0
    adversarial_weight: float = 0.0
    discriminator: dict[str, int] = field(default_factory=dict)
    freeze_encoder: bool = False
    shift_weight: float = 10.0
    affine_weight: float = 10.0
    landmark_weight: float = 0.0
    landmark_warmup_epochs: float = 0.0
    landmark_flow_weight: float = 0.0
    open_mouth_weight: float = 0.0
    closed_eye_weight: float = 0.0
    blink_share: float = 0.0
    affine_sigma: float = 0.05
    spline_sigma: float = 0.005
    spline_points: int = 5
    colour_jitter: float = 0.1
    flip: bool = True
    validation_frames: int = 100

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        super().__post_init__()
        check_choice("motion", self.motion, MOTIONS)
        if self.motion == "known":
            if self.vgg is not None:
                raise ValueError("`vgg` must be null if `motion` is 'known': the loss then weights pixels")
        else:
            for name, value in ONLY_KNOWN_MOTION.items():
                if getattr(self, name) != value:
                    wanted = "null" if value is None else value
                    raise ValueError(f"`{name}` is {getattr(self, name)}, must be {wanted} unless `motion` is 'known'")
        if self.freeze_encoder and self.pretrained_model is None:
            raise ValueError("`freeze_encoder` is true without `pretrained_model`, which has the encoder to keep")
        weights = "reconstruction shift affine landmark landmark_flow open_mouth closed_eye adversarial"
        for name in (f"{term}_weight" for term in weights.split()):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must not be negative")
        if self.landmark_warmup_epochs < 0 or (self.landmark_warmup_epochs and not self.landmark_weight):
            raise ValueError(
                f"`landmark_warmup_epochs` is {self.landmark_warmup_epochs}, must not be negative, and 0 without "
                "`landmark_weight`"
            )
        if self.validation_frames < 2:
            raise ValueError(f"`validation_frames` is {self.validation_frames}, must be at least 2")
        for name in ("blink_share", "soft_motion_share", "denoised_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be in [0, 1]")
        for name in ("mouth_weight", "eye_weight", "hidden_weight"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be at least 1")
            if getattr(self, name) != 1 and self.vgg is not None:
                raise ValueError(f"`{name}` must be 1 with `vgg`: VGG features have no pixels to weight")


class ReconstructionObjective(nn.Module):
    """LFG's loss on a batch: the driving frame from the source, and regions that move with the image.

    Args:
        lfg: The network.
        vgg: Features of the perceptual loss; None: pixels and gradients.
        config: The settings.
    """

    def __init__(self, lfg: LatentFlowGenerator, vgg: VGG19Features | None, config: LFGConfig) -> None:
        super().__init__()
        self.lfg, self.config = lfg, config
        self._vgg = (vgg,)  # a tuple hides it from the modules: it is not trained
        self.weights = {
            "reconstruction": config.reconstruction_weight,
            "shift": config.shift_weight,
            "affine": config.affine_weight,
            "landmark": config.landmark_weight,
            "landmark_flow": config.landmark_flow_weight,
            "open_mouth": config.open_mouth_weight,
            "closed_eye": config.closed_eye_weight,
        }

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss terms of a batch of `FramePairs`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far: the first ones may be for the landmarks alone.

        Returns:
            The terms, and "loss".
        """
        config, driving = self.config, batch["driving"]
        if epoch < config.landmark_warmup_epochs:
            regions = (self.lfg.estimate_regions(batch[name]) for name in ("source", "driving"))
            landmark = self._landmark_term(regions, batch)
            # every process expects a gradient for every weight
            untouched = sum(parameter.sum() for parameter in self.lfg.parameters() if parameter.requires_grad)
            return {"landmark": landmark, "loss": config.landmark_weight * landmark + 0 * untouched}
        output = self.lfg(batch["source"], driving)
        transform = RandomTransform.draw(
            batch["seed"].tolist(), config.affine_sigma, config.spline_sigma, config.spline_points, driving.device
        )
        moved = self.lfg.estimate_regions(transform.warp_image(driving))
        size, motion = driving.shape[-2:], output.motion
        shift, affine = equivariance_losses(motion.driving_regions, moved, transform)
        terms = {
            "reconstruction": self.compare(output.prediction, batch),
            "shift": shift,
            "affine": affine,
            "landmark_flow": landmark_flow_loss(motion.flow, *flow_points(batch).unbind(1), size),
        }
        if config.open_mouth_weight:
            terms["open_mouth"] = open_mouth_loss(motion.occlusion, batch["mouth_px"][:, 1], size)
        if config.closed_eye_weight:
            terms["closed_eye"] = closed_eye_loss(motion.occlusion, batch["eyes_px"], size)
        if config.landmark_weight:
            terms["landmark"] = self._landmark_term((motion.source_regions, motion.driving_regions), batch)
        return terms | {"loss": weighted_total(terms, {name: self.weights[name] for name in terms})}

    def _landmark_term(self, regions: Iterable[Regions], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        points_px = anchor_points(batch).unbind(1)
        size = batch["driving"].shape[-2:]
        return sum(landmark_loss(*pair, size) / 2 for pair in zip(regions, points_px, strict=True))

    def compare(self, prediction: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compare drawn frames (B, 3, H, W) with the driving ones; a scalar."""
        (vgg,) = self._vgg
        scales = self.config.pyramid_scales
        if vgg is not None:
            return perceptual_pyramid_loss(prediction, batch["driving"], vgg, scales)
        size = prediction.shape[-2:]
        weight_map = None
        if self.config.mouth_weight != 1:
            mouth = mouth_box_mask(batch["mouth_px"][:, 1:], size, *size)[:, :, 0]
            weight_map = 1 + (self.config.mouth_weight - 1) * mouth
        if self.config.eye_weight != 1:
            eyes = box_mask(batch["eyes_px"][:, 1], *size).amax(dim=1, keepdim=True)
            weight_map = (1 if weight_map is None else weight_map) + (self.config.eye_weight - 1) * eyes
        return pixel_gradient_loss(prediction, batch["driving"], scales, weight_map)


class LFGStage:
    """LFG in training.

    Args:
        config: The settings.

    Raises:
        ValueError: The data set or the VGG weights are missing, or a setting does not fit.
    """

    title = "LFG, the autoencoder of motion"
    result = "lfg"
    card = MappingProxyType({"library_name": "diffusers"})
    usage = (
        'from diffusers_dawn import LatentFlowGenerator\n\nlfg = LatentFlowGenerator.from_pretrained("{repository}")'
    )
    averaged = ("lfg",)

    def __init__(self, config: LFGConfig) -> None:
        if config.gradient_checkpointing:
            raise ValueError(
                "`gradient_checkpointing` must be false: it would update LFG's batch norms twice per step"
            )
        self.config = config
        self.clips = open_clips(config.dataset, "train")
        for name, usual in (("eye_weight", 1), ("closed_eye_weight", 0)):
            if getattr(config, name) != usual and config.motion == "estimated":
                check_eyes(self.clips, name, getattr(config, name))
        size = self.clips.info.size_px
        self.lfg = build_network(
            LatentFlowGenerator,
            config.model,
            config.pretrained_model,
            "lfg",
            config.seed,
            changeable=("image_sampling", "image_border", "still_background", "image_size"),
            image_size=size,
        )
        if config.freeze_encoder:
            self.lfg.encoder.requires_grad_(False)
        vgg = None if config.vgg is None else load_vgg19(config.vgg)
        logger.info("comparing %s", "pixels and image gradients (no `vgg`)" if vgg is None else "VGG19 features")
        self.networks: dict[str, ModelMixin] = {"lfg": self.lfg}
        if config.motion == "known":
            self.objectives = self._known_motion_objectives()
        else:
            self.objectives = {"lfg": ReconstructionObjective(self.lfg, vgg, config)}
        self.frozen = () if vgg is None else (vgg,)

    def _known_motion_objectives(self) -> dict[str, nn.Module]:
        config = self.config
        settings = (config.mouth_weight, config.eye_weight, config.hidden_weight, config.pyramid_scales)
        if not config.adversarial_weight:
            return {"lfg": KnownMotionObjective(self.lfg, *settings)}
        name = "detail_discriminator"
        discriminator = build_network(PictureDiscriminator, config.discriminator, None, name, config.seed)
        self.networks[name] = discriminator
        return {
            name: DetailDiscriminatorObjective(discriminator, self.lfg),
            "lfg": KnownMotionObjective(self.lfg, *settings, discriminator, config.adversarial_weight),
        }

    def samples(self) -> Dataset:
        """Draw pairs of frames out of the clips."""
        config = self.config
        if config.motion == "known":
            return KnownPairs(
                self.clips,
                config.crop_px,
                config.colour_jitter,
                config.flip,
                config.soft_motion_share,
                config.blink_share,
                config.denoised_share,
            )
        eyes = config.eye_weight != 1 or config.closed_eye_weight != 0
        return FramePairs(self.clips, config.colour_jitter, config.flip, eyes, config.blink_share)

    def validate(self) -> Validation:
        """Draw clips of the test split from their first frame, and compare; the first frame itself is the baseline."""
        rows, rendered = [], {}
        for clip in validation_clips(
            self.config.dataset, self.config.num_validation_clips, self.config.validation_frames
        ):
            drawn = self._redraw(clip)
            copied = np.broadcast_to(clip.frames[:1], clip.frames.shape)
            baseline = picture_metrics(copied.astype(np.float32) / 255, clip)
            rows.append(picture_metrics(drawn, clip) | {f"{name}_of_source": baseline[name] for name in baseline})
            shown = np.concatenate((copied, clip.frames, (drawn * 255).round().astype(np.uint8)), axis=2)
            rendered[clip.clip_id] = RenderedClip(shown, clip.samples)
        return Validation(mean_of_rows(rows), rendered)

    def save_result(self, folder: Path) -> None:
        """Save LFG.

        Args:
            folder: Where.
        """
        self.lfg.save_pretrained(folder)

    def _redraw(self, clip: TruthClip) -> np.ndarray:
        # float frames (F, H, W, 3)
        device = next(self.lfg.parameters()).device
        images = torch.from_numpy(clip.frames).to(device).permute(0, 3, 1, 2).float() / 255
        if self.config.motion == "known":
            motion = torch.from_numpy(clip.labels["motion"][:, 0].astype(np.float32)).to(device)
            flow, occlusion = motion[:, :2].permute(0, 2, 3, 1)[None], motion[None, :, 2:]
            parts = [
                frames[0] for frames in self.lfg.decode_chunks(self.lfg.encode_image(images[:1]), flow, occlusion)
            ]
        else:
            parts = [self.lfg(images[:1].expand_as(part), part).prediction for part in images.split(8)]
        return torch.cat(parts).permute(0, 2, 3, 1).float().clamp(0, 1).cpu().numpy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train LFG; see `--help`.

    Args:
        arguments: Command line; None: that of the process.

    Returns:
        The exit code.
    """
    return run_script(LFGStage, LFGConfig, __doc__, arguments)


if __name__ == "__main__":
    commands.program(main)
