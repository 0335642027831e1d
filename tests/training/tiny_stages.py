"""Stages of training at their smallest."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from training.data.draw import Draw
from training.engine.config import TrainingConfig
from training.engine.loop import train
from training.train_a2v import A2VConfig, A2VStage
from training.train_lfg import LFGConfig, LFGStage
from training.train_pbnet import PBNetConfig, PBNetStage

LFG_MODEL = {
    "num_regions": 3,
    "block_out_channels": [4, 8, 32],
    "num_bottleneck_blocks": 1,
    "flow_channels": [8, 16],
    "region_channels": [8, 16],
    "background_channels": [8, 16],
}
A2V_MODEL = {
    "block_out_channels": [16, 32],
    "face_location_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
}
PBNET_MODEL = {"latent_dim": 8, "state_width": 8, "audio_width": 8, "decoder_width": 16, "feed_forward_dim": 16}
STAGES = {"lfg": LFGStage, "pbnet": PBNetStage, "a2v": A2VStage}


def stage_configs(data_set: Path, pipeline_folder: Path, output: Path) -> dict[str, TrainingConfig]:
    """Set each stage up to train its network for three steps."""
    common = {
        "dataset": str(data_set),
        "output_dir": str(output),
        "train_batch_size": 2,
        "max_train_steps": 3,
        "checkpointing_steps": 1,
        "report_to": "none",
        "num_validation_clips": 0,
        "use_ema": True,
    }
    lfg = str(pipeline_folder)
    return {
        "lfg": LFGConfig(**common, model=LFG_MODEL),
        "pbnet": PBNetConfig(**common, model=PBNET_MODEL, max_frames=24, discriminator={"base_channels": 4}),
        "a2v": A2VConfig(**common, model=A2V_MODEL, lfg=lfg, pbnet=lfg, min_frames=3, max_frames=5),
    }


def run(config: TrainingConfig):
    stage = STAGES[type(config).__name__.removesuffix("Config").lower()](config)
    return stage, train(stage, config)


def result(config: TrainingConfig, name: str = "") -> dict[str, torch.Tensor]:
    return load_file(next(Path(config.output_dir).glob(f"{name}/diffusion_pytorch_model.safetensors")))


def first_batch(stage) -> dict[str, torch.Tensor]:
    samples = stage.samples()
    parts = [samples[Draw(index, (0, index), 5)] for index in range(2)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
