"""Train A2V-FDM, the denoiser of motion, on the motion that a trained LFG sees (paper sections 3.3 and 3.5)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

from accelerate import PartialState
from diffusers import ModelMixin, SchedulerMixin, UniPCMultistepScheduler
from torch.utils.data import Dataset

from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sampling.prediction import FLOW_PREDICTION, PREDICTION_TYPES
from diffusers_dawn.sampling.scheduler_training import trained_prediction
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from training.data.clip_mixture import open_clips
from training.data.datasets import MotionWindows, check_eyes
from training.data.known_motion import KnownMotion
from training.data.motion_cache import MotionCache
from training.data.steady_pose import check_smoothing
from training.engine import commands
from training.engine.checkpoints import write_trained
from training.engine.config import TrainingConfig, check_choice
from training.engine.loop import run_script
from training.engine.networks import add_lora, build_network, load_audio_encoder, load_network, load_pbnet
from training.evaluation.validation import Validation, render_clips
from training.objectives.denoising import MotionObjective

logger = logging.getLogger("training")

MOTIONS = ("estimated", "known")
# the published denoiser attends to 40 frames either way and learned from windows of 20
WINDOW_TO_TRAINING_FRAMES = 2
LORA_USAGE = """from diffusers_dawn import DAWNPipeline

pipe = DAWNPipeline.from_pretrained("{base}")
pipe.load_lora_weights("{repository}")
frames = pipe("portrait.png", "speech.wav").frames[0]"""


@dataclass(kw_only=True)
class A2VConfig(TrainingConfig):
    """Settings of the denoiser's training, besides those of every training.

    Attributes:
        lfg: Folder or Hub id of the trained LFG, or of a pipeline that has one.
        pbnet: The same for PBNet; None: the result makes no pose and blinks of its own.
        pbnet_blink: A PBNet that makes blinks, where `pbnet` makes only poses.
        audio_encoder: Folder or Hub id of what made the data set's features; None: as the data set says.
        min_frames: Shortest window.
        max_frames: Longest window; its length is drawn once per step.
        reference: "first": the reference is the window's first frame (stage 1); "random": any frame of the clip
            (stage 2).
        null_probability: Share of frames that lose their conditions.
        dropped_share: Share of windows that lose speech as a whole, and of those that lose pose, and blinks, so that
            each may be guided apart from the others; 0 as published.
        blink_share: Share of the windows that are drawn around a blink, if the clip has any; 0 as published. Few short
            windows hold one.
        pose_smoothing_s: Width, at half its height, of the Gaussian that smooths poses that were measured in pictures
            [s]; 0 as published. Landmarks of a mouth that opens shake the pose, and the denoiser would read lips from
            it instead of from speech. Exact poses, as those of synthetic clips, stay.
        motion_weight: Weight of the errors of flow and of occlusion.
        mouth_weight: Weight of the error inside the mouth box.
        eye_weight: Weight of the error inside the boxes of the eyes; 0 as published. For data sets with the label
            `eyes_px`, as synthetic ones are.
        flow_gradient_weight: Weight of the error of how flow changes from cell to cell, for which mouth and eyes count
            twice; 0 as published. Lips and lids move by little, and without it their flow is learned late.
        part_motion_weight: Weight of the error of how mouth and eyes move as a whole, such as how far a mouth opens;
            0 as published. Lips follow speech sooner with it.
        still_weight: Weight of the mean absolute error of flow where nothing moves, so that backgrounds stand still; 0
            as published.
        prediction_type: What the denoiser predicts: "epsilon", as published, "v_prediction", "sample", or
            "flow_prediction" (flow matching, noise - motion on the straight line between them).
        snr_gamma: Largest weight of min-SNR weighting; None: all steps count alike.
        timestep_shift: Draws steps nearer to pure noise, see `noise_levels.shifted_timestep`; 1: all alike, as
            published. More suits networks that predict the clean sample and are to sample in few steps.
        colour_jitter: Whether colours are jittered; needs motion that is estimated in the step.
        motion: "estimated": LFG estimates the targets, as published; "known": data sets say them, see `train_lfg.py`.
        crop_px: Side of a square around the face whose motion is trained, which costs less and shows more of the lips;
            a multiple of 32. None: all motion, as published, which the last steps should be of. Only where the motion
            is known and `eye_weight` is not 0.
        cached_references: Motion is estimated once, from so many reference frames per clip; 0: anew in every step.
        validation_frames: Longest clip rendered for validation.
        validation_inference_steps: Denoising steps of validation.
        lora_rank: Train an adapter of this rank (LoRA) on `pretrained_model`, instead of all weights; None: all.
        lora_alpha: Factor of the adapter, times rank; None: the rank, a factor of 1.
        lora_layers: Layers that the adapter changes.
    """

    lfg: str
    pbnet: str | None = None
    pbnet_blink: str | None = None
    audio_encoder: str | None = None
    min_frames: int = 20
    max_frames: int = 20
    reference: str = "first"
    null_probability: float = 0.1
    dropped_share: float = 0.0
    blink_share: float = 0.0
    pose_smoothing_s: float = 0.0
    motion_weight: float = 0.15
    mouth_weight: float = 0.15
    eye_weight: float = 0.0
    flow_gradient_weight: float = 0.0
    part_motion_weight: float = 0.0
    still_weight: float = 0.0
    prediction_type: str = "epsilon"
    snr_gamma: float | None = None
    timestep_shift: float = 1.0
    colour_jitter: bool = True
    motion: str = "estimated"
    crop_px: int | None = None
    cached_references: int = 0
    validation_frames: int = 100
    validation_inference_steps: int = 20
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_layers: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "to_query", "to_key_value")

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        super().__post_init__()
        check_choice("reference", self.reference, ("first", "random"))
        for name in ("eye_weight", "flow_gradient_weight", "part_motion_weight", "still_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must not be negative")
        check_smoothing(self.pose_smoothing_s)
        check_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"`min_frames` is {self.min_frames}, must be at least 1 and at most `max_frames`, {self.max_frames}"
            )
        for name in ("null_probability", "dropped_share", "blink_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be in [0, 1]")
        if self.snr_gamma is not None and self.snr_gamma <= 0:
            raise ValueError(f"`snr_gamma` is {self.snr_gamma}, must be positive")
        if not self.timestep_shift > 0:
            raise ValueError(f"`timestep_shift` is {self.timestep_shift}, must be positive")
        if self.pbnet_blink is not None and self.pbnet is None:
            raise ValueError("`pbnet_blink` is given without `pbnet`, which makes the poses")
        if self.validation_frames < 2:
            raise ValueError(f"`validation_frames` is {self.validation_frames}, must be at least 2")
        if self.lora_rank is not None:
            if self.lora_rank < 1:
                raise ValueError(f"`lora_rank` is {self.lora_rank}, must be at least 1")
            if self.pretrained_model is None:
                raise ValueError("`lora_rank` is given without `pretrained_model`, which the adapter changes")
        if self.cached_references < 0:
            raise ValueError(f"`cached_references` is {self.cached_references}, must not be negative")
        check_choice("motion", self.motion, MOTIONS)
        if self.crop_px is not None and (self.crop_px < 1 or self.crop_px % 32):
            raise ValueError(f"`crop_px` is {self.crop_px}, must be a positive multiple of 32")
        if self.crop_px is not None and (self.motion != "known" or not self.eye_weight):
            raise ValueError("`crop_px` must be null unless `motion` is 'known' and `eye_weight` is not 0")
        if self.cached_references and self.motion == "known":
            raise ValueError("`cached_references` must be 0 if `motion` is 'known': no motion is estimated")
        if self.cached_references and self.colour_jitter:
            raise ValueError(
                "`colour_jitter` must be false with `cached_references`: cached motion is that of unchanged colours"
            )


class A2VStage:
    """The denoiser in training.

    Args:
        config: The settings.

    Raises:
        ValueError: A network or the data set is missing or does not fit.
    """

    title = "A2V-FDM, the denoiser"
    result = "pipeline"
    card = MappingProxyType({"library_name": "diffusers", "pipeline_tag": "image-to-video"})
    usage = (
        "from diffusers_dawn import DAWNPipeline\n\n"
        'frames = DAWNPipeline.from_pretrained("{repository}")("portrait.png", "speech.wav").frames[0]'
    )
    averaged = ("unet",)

    def __init__(self, config: A2VConfig) -> None:
        self.config = config
        self.clips = open_clips(config.dataset, "train")
        size, audio_dim = self.clips.info.size_px, self.clips.info.audio_dim
        if config.eye_weight:
            check_eyes(self.clips, "eye_weight", config.eye_weight)
        self.lfg = load_network(LatentFlowGenerator, config.lfg, "lfg", "lfg").requires_grad_(False).eval()
        self.unet = build_network(
            A2VFlowDiffusionModel,
            config.model,
            config.pretrained_model,
            "unet",
            config.seed,
            changeable=("temporal_window",),
            sample_size=size // self.lfg.config.motion_stride,
            reference_channels=self.lfg.config.block_out_channels[-1],
            **({} if audio_dim is None else {"audio_dim": audio_dim}),
        )
        window = self.unet.config.temporal_window
        if window is None or window > WINDOW_TO_TRAINING_FRAMES * config.max_frames:
            logger.warning(
                "the denoiser will attend to %s either way, but learns from %d frames at most, so that lips become "
                "slow and small; `model.temporal_window` should be at most about as long, or `max_frames` larger",
                "all frames" if window is None else f"{window} frames",
                config.max_frames,
            )
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if config.lora_rank is not None:
            alpha = config.lora_rank if config.lora_alpha is None else config.lora_alpha
            add_lora(self.unet, config.lora_rank, alpha, config.lora_layers, config.seed)
            self.result, self.usage = (
                "lora",
                LORA_USAGE.format(base=config.pretrained_model, repository="{repository}"),
            )
        self.pbnet = None
        if config.pbnet is not None:
            self.pbnet = load_pbnet(config.pbnet, config.pbnet_blink).requires_grad_(False).eval()
        self.scheduler = _scheduler_of(config.prediction_type)
        self.networks: dict[str, ModelMixin] = {"unet": self.unet}
        terms = ("motion", "mouth", "eye", "flow_gradient", "part_motion", "still")
        weights = {f"{term}_weight": getattr(config, f"{term}_weight") for term in terms}
        self.objectives = {
            "unet": MotionObjective(self.unet, self.lfg, self.scheduler, **weights, snr_gamma=config.snr_gamma)
        }
        self.frozen = tuple(network for network in (self.lfg, self.pbnet) if network is not None)
        self.audio_encoder, self.feature_extractor = load_audio_encoder(config.audio_encoder, self.clips)
        _check_prediction_type(config)
        self._pipeline()  # parts that do not fit each other are refused before the training

    def samples(self) -> Dataset:
        """Cut windows out of the clips; with a cache, estimate their motion first, shards shared by the processes."""
        config, cache = self.config, KnownMotion(self.clips) if self.config.motion == "known" else None
        if config.cached_references:
            cache = MotionCache(self.clips, self.lfg, config.cached_references)
            state = PartialState()
            for number, shard in enumerate(cache.shards()):
                if number % state.num_processes == state.process_index:
                    cache.build(self.clips, self.lfg, shard, state.device)
            state.wait_for_everyone()
        return MotionWindows(
            self.clips,
            config.min_frames,
            config.max_frames,
            config.reference,
            config.null_probability,
            config.dropped_share,
            config.blink_share,
            config.colour_jitter,
            cache,
            eyes=bool(config.eye_weight),
            timestep_shift=config.timestep_shift,
            crop_px=config.crop_px,
            pose_smoothing_s=config.pose_smoothing_s,
            mouth=self.unet.mouth_reader is not None,
        )

    def validate(self) -> Validation:
        """Render clips of the test split with their own speech, pose and blinks, and compare."""
        return render_clips(
            self._pipeline(),
            self.config.dataset,
            self.config.num_validation_clips,
            self.config.validation_frames,
            self.config.validation_inference_steps,
            self.config.seed,
        )

    def save_result(self, folder: Path) -> None:
        """Save the whole pipeline, ready for `dawn animate --checkpoint`; or the adapter alone.

        Args:
            folder: Where.
        """
        if self.config.lora_rank is not None:
            write_trained(self.unet, folder)
        else:
            self._pipeline().save_pretrained(folder)

    def _pipeline(self) -> DAWNPipeline:
        pipe = DAWNPipeline(
            unet=self.unet,
            lfg=self.lfg,
            audio_encoder=self.audio_encoder,
            feature_extractor=self.feature_extractor,
            scheduler=self.scheduler,
            pbnet=self.pbnet,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe


def _scheduler_of(prediction_type: str) -> SchedulerMixin:
    if prediction_type == FLOW_PREDICTION:
        # which others are made from as from any: it names the prediction and the path
        return UniPCMultistepScheduler(prediction_type=FLOW_PREDICTION, use_flow_sigmas=True)
    return DAWNDDIMScheduler(
        prediction_type=prediction_type,
        # other schedulers begin at pure noise, unless the network predicts it and so says nothing there
        timestep_spacing="leading" if prediction_type == "epsilon" else "trailing",
        # bounds are for errors that count many times in the motion; clean motion itself may be larger where a head
        # turns far, and a bound would make all of it smaller
        thresholding=prediction_type != "sample",
        clip_sample=prediction_type != "sample",
    )


def _check_prediction_type(config: A2VConfig) -> None:
    """Refuse to go on from a denoiser that was trained to predict something else."""
    if config.pretrained_model is None or not Path(config.pretrained_model, "scheduler").is_dir():
        return
    saved = DAWNDDIMScheduler.load_config(config.pretrained_model, subfolder="scheduler")
    trained = trained_prediction(saved)
    if trained != config.prediction_type:
        raise ValueError(
            f"`prediction_type` is {config.prediction_type!r}, but `pretrained_model` was trained with {trained!r}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the denoiser; see `--help`.

    Args:
        arguments: Command line; None: that of the process.

    Returns:
        The exit code.
    """
    return run_script(A2VStage, A2VConfig, __doc__, arguments)


if __name__ == "__main__":
    commands.program(main)
