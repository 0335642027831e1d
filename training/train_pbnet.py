"""Train PBNet, which makes head pose and blinks from speech (paper section 3.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import torch
from diffusers import ModelMixin
from torch import nn
from torch.func import functional_call
from torch.utils.data import Dataset

from diffusers_dawn.models.pbnet import PoseBlinkNet
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.records import FPS
from training.data.clip_mixture import ClipMixture, open_clips
from training.data.clip_shards import ClipShards
from training.data.datasets import Tracks
from training.data.steady_pose import check_smoothing
from training.engine import commands
from training.engine.config import TrainingConfig
from training.engine.loop import run_script
from training.engine.networks import build_network
from training.evaluation.metrics.movement import blink_rate
from training.evaluation.validation import TruthClip, Validation, mean_of_rows, render_clips, validation_clips
from training.objectives.discriminator import TrackDiscriminator
from training.objectives.losses import (
    annealed_weight,
    discriminator_loss,
    generator_adversarial_loss,
    kl_divergence,
    masked_mse,
    smoothness_loss,
    weighted_total,
)

Batch = Mapping[str, torch.Tensor]


@dataclass(kw_only=True)
class PBNetConfig(TrainingConfig):
    """Settings of PBNet's training, besides those of every training.

    `model.networks` chooses what is trained: "separate" (a pose and a blink network), "joint", "pose" or "blink".

    Attributes:
        max_frames: Longest piece of a clip.
        pose_smoothing_s: Width, at half its height, of the Gaussian that smooths poses that were measured in pictures
            [s]; 0 as published. Heads tremble otherwise as the landmarks of a mouth that opens do.
        kl_weight: Weight of the KL term, once it is ramped up.
        kl_start_epoch: Epoch from which it rises from 0.
        kl_ramp_epochs: Epochs that it takes to rise.
        smoothness_weight: Weight of the steps of the output from frame to frame.
        pose_smoothness_weight: That of the network that makes poses, which lids need not share; None: the same.
        adversarial_weight: Weight of the discriminator's verdict; 0: there is no discriminator.
        discriminator: Arguments of the discriminator's constructor that differ from its defaults.
        validation_frames: Longest clip of a validation.
        validation_pipeline: Folder of a pipeline that renders the tracks of validation; None: they are only measured.
        validation_inference_steps: Denoising steps of that pipeline.
    """

    max_frames: int = 200
    pose_smoothing_s: float = 0.0
    kl_weight: float = 0.004
    kl_start_epoch: float = 1e4
    kl_ramp_epochs: float = 7e4
    smoothness_weight: float = 5e-4
    pose_smoothness_weight: float | None = None
    adversarial_weight: float = 1.0
    discriminator: dict[str, int] = field(default_factory=dict)
    validation_frames: int = 200
    validation_pipeline: str | None = None
    validation_inference_steps: int = 20

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        super().__post_init__()
        check_smoothing(self.pose_smoothing_s)
        for name in ("max_frames", "validation_frames"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be at least 2")
        names = ("kl_weight", "kl_start_epoch", "kl_ramp_epochs", "smoothness_weight", "adversarial_weight")
        for name in (*names, "pose_smoothness_weight"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must not be negative")


class TrackObjective(nn.Module):
    """PBNet's loss on a batch; each of its networks has its own terms.

    Args:
        pbnet: The network.
        discriminators: Discriminator of each network; empty: there is no adversarial term.
        config: The settings.
    """

    def __init__(
        self, pbnet: PoseBlinkNet, discriminators: Mapping[str, TrackDiscriminator], config: PBNetConfig
    ) -> None:
        super().__init__()
        self.pbnet, self.config = pbnet, config
        self._discriminators = (discriminators,)  # a tuple hides them from the modules: they have their own objectives

    def forward(self, batch: Batch, epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss terms of a batch of `Tracks`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far: the KL term is ramped up.

        Returns:
            The terms by network, and "loss".
        """
        config, pbnet, lengths = self.config, self.pbnet, batch["length"]
        sequence = states(pbnet, batch)
        output = pbnet(batch["audio_features"], sequence, latent_noise(pbnet, batch), lengths)
        mask = torch.arange(sequence.shape[1], device=lengths.device) < lengths[:, None]
        weights = {
            "reconstruction": 1.0,
            # per frame: a latent that many frames share is paid for once
            "kl": config.kl_weight
            * annealed_weight(epoch, config.kl_start_epoch, config.kl_ramp_epochs)
            / pbnet.config.latent_stride,
        }
        terms, loss = {}, 0.0
        parts = _by_network(pbnet, sequence, output.prediction, output.mu, output.logvar)
        for name, (truth, prediction, mu, logvar) in parts.items():
            own = {
                "reconstruction": masked_mse(prediction, truth - truth[:, :1], mask),
                "kl": kl_divergence(mu, logvar, mask),
                "smoothness": smoothness_loss(prediction, mask),
            }
            discriminator = self._discriminators[0].get(name)
            if discriminator is not None:
                # its weights are constants here: they learn from their own objective only
                constants = {key: value.detach() for key, value in discriminator.named_parameters()}
                verdict = functional_call(discriminator, constants, (truth[:, :1] + prediction, lengths))
                own["adversarial"] = generator_adversarial_loss(*verdict)
                weights["adversarial"] = config.adversarial_weight
            weights["smoothness"] = config.smoothness_weight
            if name == "pose" and config.pose_smoothness_weight is not None:
                weights["smoothness"] = config.pose_smoothness_weight
            loss = loss + weighted_total(own, weights)
            terms |= {f"{name}_{term}": value for term, value in own.items()}
        return terms | {"loss": loss}


class DiscriminatorObjective(nn.Module):
    """The loss of the discriminator of one network.

    Args:
        discriminator: What is trained.
        pbnet: The network whose tracks it judges.
        name: Which of its networks.
    """

    def __init__(self, discriminator: TrackDiscriminator, pbnet: PoseBlinkNet, name: str) -> None:
        super().__init__()
        self.discriminator, self.name = discriminator, name
        self._pbnet = (pbnet,)  # hidden from the modules: it has its own objective

    def forward(self, batch: Batch, epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss on a batch of `Tracks`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; not used.

        Returns:
            The "loss".
        """
        (pbnet,) = self._pbnet
        lengths, sequence = batch["length"], states(pbnet, batch)
        with torch.no_grad():
            output = pbnet(batch["audio_features"], sequence, latent_noise(pbnet, batch), lengths)
        truth, prediction = _by_network(pbnet, sequence, output.prediction)[self.name]
        real = self.discriminator(truth, lengths)
        fake = self.discriminator(truth[:, :1] + prediction, lengths)
        return {"loss": discriminator_loss(real.logits, fake.logits, real.mask)}


def states(pbnet: PoseBlinkNet, batch: Batch) -> torch.Tensor:
    """Join what the networks move: normalised pose, blink, or both (B, F, S)."""
    parts = []
    if pbnet.makes_pose:
        parts.append(pbnet.normalise_pose(batch["pose"]))
    if pbnet.makes_blink:
        parts.append(batch["blink"])
    return torch.cat(parts, dim=-1)


def latent_noise(pbnet: PoseBlinkNet, batch: Batch) -> torch.Tensor:
    """Draw the noise (B, F, Z) of each sample from its own seed."""
    shape = batch["pose"].shape[1], sum(pbnet.latent_dims.values())
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in batch["seed"]]
    return torch.stack(noise).to(batch["pose"].device)


def _by_network(
    pbnet: PoseBlinkNet, sequence: torch.Tensor, prediction: torch.Tensor, *latents: torch.Tensor
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Split what all networks together take and give."""
    states_of = [tensor.split(list(pbnet.state_dims.values()), dim=-1) for tensor in (sequence, prediction)]
    latents_of = [tensor.split(list(pbnet.latent_dims.values()), dim=-1) for tensor in latents]
    return dict(zip(pbnet.state_dims, zip(*states_of, *latents_of, strict=True), strict=True))


class PBNetStage:
    """PBNet in training.

    Args:
        config: The settings.

    Raises:
        ValueError: The data set is missing, has no audio features, or does not fit; PBNet has no encoder; a clip is
            too short for the discriminator; or `validation_pipeline` is given to a network that does not make both
            tracks.
    """

    title = "PBNet, pose and blinks from speech"
    result = "pbnet"
    card = MappingProxyType({"library_name": "diffusers"})
    usage = 'from diffusers_dawn import PoseBlinkNet\n\npbnet = PoseBlinkNet.from_pretrained("{repository}")'
    averaged = ("pbnet",)
    frozen = ()

    def __init__(self, config: PBNetConfig) -> None:
        if config.gradient_checkpointing:
            raise ValueError("`gradient_checkpointing` must be false: PBNet does not support it")
        self.config = config
        # tracks do not know how large the frames are
        self.clips = open_clips(config.dataset, "train", alike=("audio_dim",))
        self.pbnet = build_network(
            PoseBlinkNet,
            config.model,
            config.pretrained_model,
            "pbnet",
            config.seed,
            **({} if self.clips.info.audio_dim is None else {"audio_dim": self.clips.info.audio_dim}),
        )
        if not self.pbnet.config.with_encoder:
            raise ValueError(
                "`pretrained_model` or `model` is a PBNet without the encoder that training needs: take one that "
                "train_pbnet.py wrote, or convert published weights with `--full`"
            )
        if config.validation_pipeline is not None and not (self.pbnet.makes_pose and self.pbnet.makes_blink):
            raise ValueError("`validation_pipeline` must be null if PBNet makes only poses or only blinks")
        if config.pose_smoothness_weight is not None and "pose" not in self.pbnet.state_dims:
            raise ValueError("`pose_smoothness_weight` must be null unless a network makes poses alone")
        discriminators = {}
        if config.adversarial_weight:
            for name, state_dim in self.pbnet.state_dims.items():
                sizes = config.discriminator | {"state_dim": state_dim}
                discriminators[name] = build_network(
                    TrackDiscriminator, sizes, None, f"{name}_discriminator", config.seed
                )
            _check_lengths(self.clips, config.max_frames, next(iter(discriminators.values())).frames_per_logit)
        self.networks: dict[str, ModelMixin] = {"pbnet": self.pbnet}
        self.networks |= {f"{name}_discriminator": network for name, network in discriminators.items()}
        self.objectives: dict[str, nn.Module] = {
            f"{name}_discriminator": DiscriminatorObjective(network, self.pbnet, name)
            for name, network in discriminators.items()
        }
        self.objectives["pbnet"] = TrackObjective(self.pbnet, discriminators, config)

    def samples(self) -> Dataset:
        """Cut pieces out of the clips' tracks."""
        return Tracks(self.clips, self.config.max_frames, self.config.pose_smoothing_s)

    def validate(self) -> Validation:
        """Generate tracks for clips of the test split, measure them, and render them if a pipeline is given."""
        config = self.config
        clips = validation_clips(config.dataset, config.num_validation_clips, config.validation_frames)
        rows = [self._movement(clip) for clip in clips]
        found = Validation(mean_of_rows(rows))
        if config.validation_pipeline is None:
            return found
        pipe = DAWNPipeline.from_pretrained(config.validation_pipeline, pbnet=self.pbnet).to(self.pbnet.device)
        pipe.set_progress_bar_config(disable=True)
        rendered = render_clips(
            pipe,
            config.dataset,
            config.num_validation_clips,
            config.validation_frames,
            config.validation_inference_steps,
            config.seed,
            given_tracks=False,
        )
        return Validation(found.metrics | rendered.metrics, rendered.clips)

    def save_result(self, folder: Path) -> None:
        """Save PBNet.

        Args:
            folder: Where.
        """
        self.pbnet.save_pretrained(folder)

    def _movement(self, clip: TruthClip) -> dict[str, float]:
        """Measure speed of the head and blinks per second, generated and filmed."""
        device = next(self.pbnet.parameters()).device
        labels = {name: torch.from_numpy(clip.labels[name]).float().to(device) for name in ("pose", "blink")}
        features = torch.from_numpy(clip.labels["audio_features"]).float().to(device)
        pose, blink = self.pbnet.generate(
            features[None],
            labels["pose"][None, 0],
            labels["blink"][None, 0],
            generator=torch.Generator(device).manual_seed(self.config.seed),
        )
        metrics = {}
        if pose is not None:
            for name, track in (("generated", pose[0]), ("truth", labels["pose"])):
                metrics[f"head_speed_deg_per_s_{name}"] = float(track[:, :3].diff(dim=0).abs().mean() * FPS)
        if blink is not None:
            for name, track in (("generated", blink[0]), ("truth", labels["blink"])):
                metrics[f"blinks_per_s_{name}"] = blink_rate(track.cpu(), FPS)
        return metrics


def _check_lengths(clips: ClipShards | ClipMixture, max_frames: int, shortest: int) -> None:
    """Refuse pieces that the discriminator, which looks at `shortest` frames or more, cannot judge."""
    remedy = "lower `discriminator.num_downsamplings` or set `adversarial_weight` to 0"
    if max_frames < shortest:
        raise ValueError(f"`max_frames` is {max_frames}, the discriminator needs at least {shortest} frames; {remedy}")
    short = [entry for entry in clips.entries if entry.num_frames < shortest]
    if short:
        raise ValueError(
            f"`dataset` {clips.folder} has {len(short)} clips shorter than the {shortest} frames that the "
            f"discriminator needs, {short[0].clip_id} has {short[0].num_frames}; prepare longer clips, {remedy}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train PBNet; see `--help`.

    Args:
        arguments: Command line; None: that of the process.

    Returns:
        The exit code.
    """
    return run_script(PBNetStage, PBNetConfig, __doc__, arguments)


if __name__ == "__main__":
    commands.program(main)
