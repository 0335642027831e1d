"""Where the pipeline's weights come from and lie: saving, loading, offloading; a tiny network."""

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
)

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from pipeline_calls import BATCH_TOLERANCE, run, seeded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="accelerate's sequential offload needs a GPU")
def test_sequential_offload_renders_the_same():
    generator, expected = seeded(), run(random_pipeline("tiny").to("cuda"), generator=seeded()).frames
    offloaded = random_pipeline("tiny")
    offloaded.enable_sequential_cpu_offload()
    torch.testing.assert_close(run(offloaded, generator=generator).frames, expected, **BATCH_TOLERANCE)


def test_sequential_offload_keeps_on_the_device_what_its_hooks_do_not_suit(monkeypatch):
    pipe, kept = random_pipeline("tiny"), []
    monkeypatch.setattr(
        DiffusionPipeline, "enable_sequential_cpu_offload", lambda self: kept.append(self._exclude_from_cpu_offload)
    )
    pipe.enable_sequential_cpu_offload()
    assert kept == [["lfg", "pbnet"]]


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
@pytest.mark.parametrize("exclude", [None, "audio_encoder", ["audio_encoder"]])
def test_group_offload_renders_the_same(pipe, offload_type, exclude):
    offloaded = random_pipeline("tiny")
    offloaded.set_progress_bar_config(disable=True)
    offloaded.enable_group_offload(
        torch.device("cpu"),
        torch.device("cpu"),
        offload_type=offload_type,
        num_blocks_per_group=1,
        exclude_modules=exclude,
    )
    torch.testing.assert_close(run(offloaded).frames, run(pipe).frames, **BATCH_TOLERANCE)


def test_model_offload_renders_the_same(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    offloaded = DAWNPipeline.from_pretrained(tmp_path)
    offloaded.set_progress_bar_config(disable=True)
    expected = run(offloaded).frames
    offloaded.enable_model_cpu_offload(device="cpu:0")
    torch.testing.assert_close(run(offloaded).frames, expected, **BATCH_TOLERANCE)


def test_saved_pipeline_loads_and_renders_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    # transformers may choose another attention kernel for a loaded audio encoder
    torch.testing.assert_close(run(loaded).frames, run(pipe).frames, atol=1e-3, rtol=0)


@pytest.mark.parametrize("device_map", ["cpu", "balanced"])
def test_pipeline_loads_onto_devices_by_a_map(pipe, tmp_path, device_map):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path, device_map=device_map)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(run(loaded).frames, run(pipe).frames, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pipeline_loads_onto_the_gpu_by_a_map(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path, device_map="cuda")
    assert {part.device.type for part in (loaded.unet, loaded.lfg, loaded.pbnet, loaded.audio_encoder)} == {"cuda"}
    assert run(loaded).frames.isfinite().all()


def test_every_model_is_saved_in_shards_of_a_variant(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="200KB")
    for name in ("unet", "lfg", "pbnet"):
        names = sorted(path.name for path in (tmp_path / name).glob("*.safetensors"))
        assert len(names) > 1 and all(".fp16-000" in name for name in names), name
    loaded = DAWNPipeline.from_pretrained(tmp_path, variant="fp16")
    torch.testing.assert_close(run(loaded).frames, run(pipe).frames, **BATCH_TOLERANCE)


def test_incomplete_checkpoint_is_an_error(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises((OSError, ValueError), match="diffusion_pytorch_model"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_checkpoint_with_missing_tensors_is_an_error_that_names_them(pipe, tmp_path):
    from safetensors.torch import load_file, save_file

    pipe.save_pretrained(tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_in.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="conv_in.bias"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_missing_tensors_of_the_audio_encoder_are_an_error(pipe, tmp_path):
    from safetensors.torch import load_file, save_file

    pipe.save_pretrained(tmp_path)
    path = tmp_path / "audio_encoder" / "model.safetensors"
    tensors = {key: tensor for key, tensor in load_file(path).items() if "layers.0" not in key}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights of `audio_encoder` lack \d+ tensors: .*layers.0"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_pipeline_loads_by_id_from_the_hubs_cache(pipe, tmp_path):
    repository = tmp_path / "models--someone--dawn"
    pipe.save_pretrained(repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    loaded = DAWNPipeline.from_pretrained("someone/dawn", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_half_precision_renders_nearly_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    half = DAWNPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 3, 6, 16, 16, generator=seeded())
    expected, found = (run(part, latents=noise, eta=0.0).frames for part in (pipe, half))
    # bfloat16 has 8 bits: a few hundredths on average, more at the edges of what moves
    # processors with products of bfloat16 round once more: .08 was measured on one
    assert (found - expected).abs().mean() < 0.1


def test_parts_may_be_loaded_in_precisions_of_their_own(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    dtypes = {"unet": torch.bfloat16, "default": torch.float32}
    mixed = DAWNPipeline.from_pretrained(tmp_path, dtype=dtypes)
    assert {name: part.dtype for name, part in mixed.components.items() if isinstance(part, torch.nn.Module)} == {
        "unet": torch.bfloat16,
        "lfg": torch.float32,
        "pbnet": torch.float32,
        "audio_encoder": torch.float32,
    }
    mixed.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 3, 6, 16, 16, generator=seeded())
    expected, found = (run(part, latents=noise, eta=0.0).frames for part in (pipe, mixed))
    # as in half precision altogether
    assert (found - expected).abs().mean() < 0.05


def test_audio_encoder_of_another_width_is_refused(pipe):
    from transformers import HubertConfig, HubertModel

    other = HubertModel(HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, conv_dim=(8,) * 7))
    with pytest.raises(ValueError, match="width 16, `unet` expects 32"):
        DAWNPipeline(**pipe.components | {"audio_encoder": other})
