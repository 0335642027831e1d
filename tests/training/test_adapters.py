"""Adapters (LoRA) of the denoiser: trained, saved, resumed, refused."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_stages import run

from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.engine.checkpoints import list_checkpoints
from training.engine.loop import train
from training.train_a2v import A2VConfig, A2VStage


@pytest.fixture
def lora_config(configs, tmp_path) -> A2VConfig:
    """The settings of an adapter on a denoiser of random weights."""
    config = replace(configs["a2v"], output_dir=str(tmp_path / "base"), max_train_steps=1, use_ema=False)
    run(config)
    base = str(tmp_path / "base" / "pipeline")
    return replace(
        configs["a2v"], pretrained_model=base, model={}, lora_rank=2, lora_layers=(*A2VConfig.lora_layers, "conv1")
    )


def test_an_adapter_alone_is_trained_and_saved_and_loads_on_its_base(lora_config):
    stage = A2VStage(lora_config)
    starts = {key: value.clone() for key, value in stage.unet.named_parameters()}
    train(stage, lora_config)
    moved = {key for key, value in stage.unet.named_parameters() if not torch.equal(value, starts[key])}
    assert moved == {key for key in starts if ".lora_" in key}
    output = Path(lora_config.output_dir)
    assert [path.name for path in (output / "lora").iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert 'pipe.load_lora_weights("out/lora")' in (output / "README.md").read_text()

    base = DAWNPipeline.from_pretrained(lora_config.pretrained_model)
    plain = {key: value.clone() for key, value in base.unet.state_dict().items()}
    base.load_lora_weights(output / "lora", "mine")
    loaded = dict(base.unet.named_parameters())
    saved = load_file(output / "checkpoint-3" / "unet_ema" / "pytorch_lora_weights.safetensors")
    assert len(saved) == len(moved)
    for key, value in saved.items():
        assert torch.equal(loaded[key.replace(".weight", ".mine.weight")], value)
    base.unload_lora_weights()
    assert plain.keys() == base.unet.state_dict().keys()


def test_a_resumed_adapter_equals_the_uninterrupted_run(lora_config, tmp_path):
    run(lora_config)
    for checkpoint in list_checkpoints(Path(lora_config.output_dir))[1:]:
        checkpoint.rename(tmp_path / checkpoint.name)
    run(replace(lora_config, resume_from_checkpoint="latest"))
    for name in ("unet", "unet_ema"):
        file = Path(name, "pytorch_lora_weights.safetensors")
        first, second = (load_file(folder / "checkpoint-3" / file) for folder in (tmp_path, tmp_path / "out"))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_adapters_without_peft_name_the_extra(lora_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"`lora_rank` needs peft: pip install 'diffusers_dawn\[lora\]'"):
        A2VStage(lora_config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 0}, "`lora_rank` is 0"),
        ({"pretrained_model": None}, "`lora_rank` is given without `pretrained_model`"),
        ({"lora_layers": ("to_nothing",)}, r"`lora_layers` is \['to_nothing'\], must be some of .*to_q"),
        ({"lora_layers": ()}, r"`lora_layers` is \[\], must be some of"),
    ],
)
def test_adapters_that_cannot_be_are_refused(lora_config, changes, message):
    with pytest.raises(ValueError, match=message):
        A2VStage(replace(lora_config, **changes))
