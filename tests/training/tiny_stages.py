"""Stages of training at their smallest."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from training.data.draw import Draw
from training.engine.config import TrainingConfig
from training.engine.loop import train
from training.train_a2v import A2VStage
from training.train_lfg import LFGStage
from training.train_pbnet import PBNetStage

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


def run(config: TrainingConfig):
    stage = STAGES[type(config).__name__.removesuffix("Config").lower()](config)
    return stage, train(stage, config)


def result(config: TrainingConfig, name: str = "") -> dict[str, torch.Tensor]:
    return load_file(next(Path(config.output_dir).glob(f"{name}/diffusion_pytorch_model.safetensors")))


def first_batch(stage) -> dict[str, torch.Tensor]:
    samples = stage.samples()
    parts = [samples[Draw(index, (0, index), 5)] for index in range(2)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
