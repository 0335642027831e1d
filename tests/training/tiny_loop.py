"""The loop on the smallest of the stages, PBNet."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from training.engine.loop import train
from training.train_pbnet import PBNetConfig, PBNetStage

MODEL = {"latent_dim": 8, "state_width": 8, "audio_width": 8, "decoder_width": 8, "feed_forward_dim": 8, "head_dim": 8}


def loop_config(dataset: Path, output: Path) -> PBNetConfig:
    return PBNetConfig(
        dataset=str(dataset),
        output_dir=str(output),
        model=MODEL,
        discriminator={"base_channels": 4},
        max_frames=24,
        train_batch_size=2,
        max_train_steps=5,
        learning_rate=1e-3,
        report_to="none",
        num_validation_clips=0,
        use_ema=True,
        kl_start_epoch=0,
        kl_ramp_epochs=2,
    )


def run(config: PBNetConfig, stage_class: type[PBNetStage] = PBNetStage):
    return train(stage_class(config), config)


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted(checkpoint.rglob("*.safetensors")):
        found |= {f"{file.parent.name}/{name}": tensor for name, tensor in load_file(file).items()}
    return found


def largest_difference(first: Path, second: Path) -> float:
    one, other = weights_of(first), weights_of(second)
    assert one.keys() == other.keys() and any(name.startswith("pbnet_ema") for name in one)
    return max(float((one[name] - other[name]).abs().max()) for name in one)
