"""Adapters of the denoiser by the names that diffusers' pipelines have for it."""

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from pipeline_calls import run


@pytest.fixture
def folder(tmp_path):
    """Two adapters, saved as training scripts save them."""
    for seed, name in enumerate(("first", "second")):
        denoiser = random_pipeline("tiny").unet
        torch.manual_seed(seed)
        # as diffusers' training scripts name them
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        denoiser.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False))
        DAWNPipeline.save_lora_weights(
            tmp_path / name,
            get_peft_model_state_dict(denoiser),
            safe_serialization=True,
            unet_lora_adapter_metadata=denoiser.peft_config["default"].to_dict(),
        )
    return tmp_path


@pytest.fixture
def adapted(pipe, folder):
    for name in ("first", "second"):
        pipe.load_lora_weights(folder / name, adapter_name=name)
    yield pipe
    pipe.unload_lora_weights()


def test_adapters_are_listed_weighed_and_turned_off(adapted):
    assert adapted.get_list_adapters() == {"unet": ["first", "second"]}
    frames = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        adapted.set_adapters(["first", "second"], list(weights))
        assert adapted.get_active_adapters() == ["first", "second"]
        frames[weights] = run(adapted).frames
    adapted.disable_lora()
    torch.testing.assert_close(run(adapted).frames, frames[0.0, 0.0], atol=1e-5, rtol=0)
    adapted.enable_lora()
    assert not torch.equal(frames[1.0, 0.0], frames[0.0, 1.0])
    assert not torch.equal(frames[1.0, 0.0], frames[0.0, 0.0])


def test_deleted_adapter_is_gone_and_the_other_stays(adapted):
    adapted.set_adapters(["first", "second"], [0.0, 1.0])
    expected = run(adapted).frames
    adapted.delete_adapters("first")
    assert adapted.get_list_adapters() == {"unet": ["second"]}
    adapted.set_adapters("second")
    torch.testing.assert_close(run(adapted).frames, expected, atol=1e-5, rtol=0)


def test_unloaded_adapters_leave_nothing(pipe, folder):
    before, names = run(pipe).frames, set(pipe.unet.state_dict())
    pipe.load_lora_weights(folder / "first", adapter_name="first")
    assert not torch.equal(run(pipe).frames, before)
    pipe.unload_lora_weights()
    assert set(pipe.unet.state_dict()) == names
    assert torch.equal(run(pipe).frames, before)


def test_fused_adapter_makes_the_same_frames_and_can_be_taken_out(adapted):
    adapted.disable_lora()
    plain = run(adapted).frames
    adapted.enable_lora()
    adapted.set_adapters(["first", "second"], [1.0, 0.0])
    expected = run(adapted).frames
    adapted.fuse_lora(adapter_names=["first"])
    torch.testing.assert_close(run(adapted).frames, expected, atol=1e-4, rtol=0)
    adapted.disable_lora()
    adapted.unfuse_lora()
    torch.testing.assert_close(run(adapted).frames, plain, atol=1e-4, rtol=0)


def test_scale_of_the_adapter_is_saved_with_it(adapted):
    assert adapted.unet.peft_config["first"].lora_alpha == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unet_lora_layers": {}}, "`unet_lora_layers` is empty"),
        ({"save_directory": __file__}, "`save_directory` .* is a file"),
        ({"safe_serialization": False}, "`safe_serialization` is False, must be True"),
    ],
)
def test_adapters_that_cannot_be_saved_are_refused(tmp_path, arguments, message):
    layers = {"conv.lora_A.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=message):
        DAWNPipeline.save_lora_weights(**{"save_directory": tmp_path, "unet_lora_layers": layers} | arguments)


def test_adapters_are_read_from_folder_file_and_tensors_with_and_without_the_components_name(pipe, folder):
    file = folder / "first" / "pytorch_lora_weights.safetensors"
    tensors, settings = DAWNPipeline.lora_state_dict(folder / "first", return_lora_metadata=True)
    assert settings["unet.lora_alpha"] == 4
    assert all(name.startswith("unet.") for name in tensors)
    before, frames = run(pipe).frames, []
    for source in (folder / "first", file, tensors):
        pipe.load_lora_weights(source, adapter_name="it")
        frames.append(run(pipe).frames)
        pipe.unload_lora_weights()
    assert torch.equal(frames[0], frames[1])
    # tensors alone do not tell the scale
    assert not torch.equal(frames[2], before) and not torch.equal(frames[2], frames[0])

    pipe.load_lora_weights(folder / "first", adapter_name="it")
    pipe.unet.save_lora_adapter(folder / "alone", adapter_name="it")
    pipe.unload_lora_weights()
    assert not any(name.startswith("unet.") for name in DAWNPipeline.lora_state_dict(folder / "alone"))
    pipe.load_lora_weights(folder / "alone")
    assert torch.equal(run(pipe).frames, frames[0])
    pipe.unload_lora_weights()


def test_tensors_for_other_parts_change_nothing(pipe):
    before = run(pipe).frames
    pipe.load_lora_weights({"text_encoder.lora_A.weight": torch.ones(1), "lora_more": torch.ones(1)})
    assert pipe.get_list_adapters() == {}
    assert torch.equal(run(pipe).frames, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_name": "adapter.bin"}, r"`weight_name` is 'adapter.bin', must end in .safetensors"),
        ({"branch": "main"}, "`branch` is not known, may be one of cache_dir"),
    ],
)
def test_adapters_that_cannot_be_read_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        DAWNPipeline.lora_state_dict(tmp_path, **arguments)


def test_adapters_loaded_after_offloading_are_offloaded_too(folder):
    offloaded, plain = random_pipeline("tiny"), random_pipeline("tiny")
    for pipe in (offloaded, plain):
        pipe.set_progress_bar_config(disable=True)
    device = torch.device("cpu")
    offloaded.enable_group_offload(device, device, offload_type="leaf_level")
    for pipe in (offloaded, plain):
        pipe.load_lora_weights(folder / "first")
    layers = [module for name, module in offloaded.unet.named_modules() if name.endswith("lora_A.default_0")]
    assert layers and all(hasattr(layer, "_diffusers_hook") for layer in layers)
    torch.testing.assert_close(run(offloaded).frames, run(plain).frames, atol=1e-4, rtol=0)
