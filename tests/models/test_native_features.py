"""What diffusers offers for any model, on the denoiser: offloading, casts, adapters."""

import pytest
import torch
from diffusers.hooks import HookRegistry
from peft import LoraConfig
from torch import nn

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.models.video_layers import PartialConv2d, matrix_of

CPU, NUM_FRAMES = torch.device("cpu"), 7
# layers that are called, and layers whose matrices are asked for
ADAPTED = ["to_q", "to_k", "to_v", "to_out.0", "to_query", "to_key_value", "linear1", "conv1"]


@pytest.fixture
def denoiser():
    return random_pipeline("tiny").unet.eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator)

    return {
        "sample": noise(3, NUM_FRAMES, 16, 16),
        "timestep": 300,
        "reference_features": noise(32, 16, 16),
        "face_mask": torch.ones(1, 1, 64, 64),
        "audio_features": noise(NUM_FRAMES, 32),
        "pose": noise(NUM_FRAMES, 6),
        "blink": noise(NUM_FRAMES, 2),
    }


def denoise_in_stages(denoiser, inputs):
    """As the pipeline calls the denoiser: location, context, prediction."""
    location = denoiser.encode_face_location(inputs["face_mask"])
    names = ("audio_features", "pose", "blink")
    context = denoiser.prepare_context(inputs["reference_features"], location, *(inputs[name] for name in names))
    return denoiser(inputs["sample"], inputs["timestep"], context=context).sample


def denoise_on_deep_features(denoiser, inputs):
    deep_features = denoiser(**inputs, return_deep_features=True).deep_features
    return denoiser(**inputs, deep_features=deep_features).sample


@torch.no_grad()
@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
@pytest.mark.parametrize("to_disk", [False, True])
@pytest.mark.parametrize(
    "call", [denoise_in_stages, lambda denoiser, inputs: denoiser(**inputs).sample, denoise_on_deep_features]
)
def test_group_offloading_changes_nothing(denoiser, inputs, offload_type, to_disk, call, tmp_path):
    expected = call(denoiser, inputs)
    disk = {"offload_to_disk_path": str(tmp_path)} if to_disk else {}
    denoiser.enable_group_offload(CPU, CPU, offload_type=offload_type, num_blocks_per_group=1, **disk)
    assert any(isinstance(getattr(module, "_diffusers_hook", None), HookRegistry) for module in denoiser.modules())
    # weights read from disk lie elsewhere in memory, and products may sum in another order
    torch.testing.assert_close(call(denoiser, inputs), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_weights_may_be_stored_in_eight_bits(denoiser, inputs):
    expected = denoise_in_stages(denoiser, inputs)
    denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert torch.float8_e4m3fn in {parameter.dtype for parameter in denoiser.parameters()}
    found = denoise_in_stages(denoiser, inputs)
    # three bits of mantissa
    assert 0 < (found - expected).std() < 0.5 * expected.std()


@pytest.mark.parametrize("target", ADAPTED)
def test_adapters_take_part_wherever_they_sit(denoiser, inputs, target, tmp_path):
    with torch.no_grad():
        expected = denoise_in_stages(denoiser, inputs)
    denoiser.add_adapter(LoraConfig(r=4, target_modules=[target], init_lora_weights=False))
    denoise_in_stages(denoiser, inputs).square().mean().backward()
    trained = {name: parameter for name, parameter in denoiser.named_parameters() if parameter.requires_grad}
    assert trained and all("lora" in name for name in trained)
    assert all(parameter.grad.abs().max() > 0 for parameter in trained.values())
    with torch.no_grad():
        adapted = denoise_in_stages(denoiser, inputs)
        assert not torch.allclose(adapted, expected, atol=1e-3)
        denoiser.disable_adapters()
        torch.testing.assert_close(denoise_in_stages(denoiser, inputs), expected)
        denoiser.enable_adapters()

        denoiser.save_lora_adapter(str(tmp_path))
        other = random_pipeline("tiny").unet.eval()
        other.load_lora_adapter(str(tmp_path), prefix=None, use_safetensors=True)
        torch.testing.assert_close(denoise_in_stages(other, inputs), adapted)
        other.fuse_lora()
        other.unload_lora()
        torch.testing.assert_close(denoise_in_stages(other, inputs), adapted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_the_matrix_asked_for_is_the_layers_weight(dtype, bias):
    layer = nn.Linear(6, 9, bias=bias).to(dtype)
    matrix, found_bias = matrix_of(layer, torch.empty(1, dtype=dtype))
    # one rounding of the weight, none of the bias
    torch.testing.assert_close(matrix, layer.weight.t(), rtol=2 * torch.finfo(dtype).eps, atol=1e-4)
    assert torch.equal(found_bias, layer.bias if bias else torch.zeros(9, dtype=dtype))


@torch.no_grad()
def test_shares_of_a_convolution_add_up_to_it():
    layer, x = PartialConv2d(5, 4, 3, padding=1), torch.randn(2, 5, 6, 6)
    shares = layer(x[:, :2], slice(2), with_bias=False) + layer(x[:, 2:], slice(2, None))
    torch.testing.assert_close(shares, layer(x))
