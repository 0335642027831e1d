"""Attentions of the denoiser, and what diffusers offers for them: processors, backends, caches."""

import pytest
import torch
from accelerate import disk_offload
from diffusers import FasterCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from random_layers import clip, randomised
from torch.nn import functional

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.models.attention import RelativePositionBias, RotaryEmbedding, attention_band, band_blocks
from diffusers_dawn.models.video_attention import (
    SEPARATE_PROJECTIONS,
    FrameContext,
    SpatialAttention,
    SpatialAttnProcessor,
    SpatialLinearAttention,
    TemporalAttention,
    TemporalAttnProcessor,
    add_attention,
)

HEADS, HEAD_DIM, NUM_FRAMES = 2, 8, 7


@pytest.fixture
def denoiser():
    return random_pipeline("tiny").unet.eval()


@pytest.fixture
def inputs():
    return {
        "sample": clip(1, 3, NUM_FRAMES, 16, 16),
        "timestep": 300,
        "reference_features": clip(1, 32, 16, 16),
        "face_mask": torch.ones(1, 1, 64, 64),
        "audio_features": clip(1, NUM_FRAMES, 32),
        "pose": clip(1, NUM_FRAMES, 6),
        "blink": clip(1, NUM_FRAMES, 2),
    }


def projected(attention: torch.nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values (..., heads, D), spelled out."""
    weights = (getattr(attention, name).weight for name in SEPARATE_PROJECTIONS)
    return [(tokens @ weight.t()).unflatten(-1, (HEADS, HEAD_DIM)) for weight in weights]


def attentions_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in model.modules() if isinstance(module, AttentionModuleMixin)]


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(4, 5), (2, 2)], ids=["more pixels than channels", "fewer"])
def test_linear_attention_equals_plain_einsum(height, width):
    torch.manual_seed(0)
    attention = randomised(SpatialLinearAttention(6, HEADS, HEAD_DIM))
    x = clip(2, 3, height, width, 6)
    normalised = functional.layer_norm(x, (6,), attention.norm.weight, None, 1e-5)
    query, key, value = (part.flatten(2, 3) for part in projected(attention, normalised))
    context = torch.einsum("bfphd,bfphe->bfhde", key.softmax(2), value)
    mixed = torch.einsum("bfphd,bfhde->bfphe", query.softmax(-1) * HEAD_DIM**-0.5, context).flatten(-2)
    expected = x + attention.to_out[0](mixed).unflatten(2, (height, width))
    torch.testing.assert_close(
        add_attention(x.clone(), attention), expected, atol=1e-5, rtol=1e-5
    )  # products in another order


@torch.no_grad()
def test_spatial_attention_equals_plain_softmax():
    torch.manual_seed(0)
    attention = randomised(SpatialAttention(6, HEADS, HEAD_DIM))
    x = clip(2, 3, 4, 5, 6)
    normalised = functional.layer_norm(x, (6,), attention.norm.weight, None, 1e-5)
    query, key, value = (part.flatten(2, 3) for part in projected(attention, normalised))
    weights = (torch.einsum("bfphd,bfqhd->bfhpq", query, key) * HEAD_DIM**-0.5).softmax(-1)
    mixed = torch.einsum("bfhpq,bfqhd->bfphd", weights, value).flatten(-2)
    expected = x + attention.to_out[0](mixed).unflatten(2, (4, 5))
    torch.testing.assert_close(add_attention(x, attention), expected, atol=1e-5, rtol=1e-5)  # sums in another order


@pytest.mark.parametrize("grad_enabled", [False, True])
@pytest.mark.parametrize(("num_frames", "window"), [(1, 3), (2, None), (9, 3), (10, 9), (47, 5)])
def test_temporal_attention_equals_softmax_with_rotation_bias_and_window(num_frames, window, grad_enabled):
    torch.manual_seed(0)
    attention, bias = randomised(TemporalAttention(6, HEADS, HEAD_DIM)), RelativePositionBias(8, 12, HEADS)
    rotary = RotaryEmbedding(HEAD_DIM)
    x = clip(2, num_frames, 3, 4, 6)

    normalised = functional.layer_norm(x, (6,), attention.norm.weight, None, 1e-5)
    query, key, value = projected(attention, normalised)
    turns = torch.polar(
        torch.ones(num_frames, HEAD_DIM // 2), torch.outer(torch.arange(num_frames), rotary.frequencies)
    )
    query, key = (
        torch.view_as_real(torch.view_as_complex(part.unflatten(-1, (-1, 2))) * turns[:, None, None, None]).flatten(-2)
        for part in (query, key)
    )
    offsets = torch.arange(num_frames)[None] - torch.arange(num_frames)[:, None]
    scores = torch.einsum("bfyxhd,bgyxhd->byxhfg", query, key) * HEAD_DIM**-0.5
    scores = scores + bias(num_frames)[:, offsets + num_frames]
    if window is not None:
        scores = scores.masked_fill(offsets.abs() > window, -torch.inf)
    expected = x + attention.to_out[0](torch.einsum("byxhfg,bgyxhd->bfyxhd", scores.softmax(-1), value).flatten(-2))

    cos, sin = (table[:, None] for table in rotary(num_frames))
    blocks, band = (look_up(bias, num_frames, window, x.dtype) for look_up in (band_blocks, attention_band))
    frames = FrameContext(cos, sin, blocks, band)
    with torch.set_grad_enabled(grad_enabled):
        result = add_attention(x.clone(), attention, frames)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)  # sums in another order


@torch.no_grad()
@pytest.mark.parametrize("attention_class", [SpatialLinearAttention, SpatialAttention])
def test_without_residual_only_the_attention_is_returned(attention_class):
    attention, x = randomised(attention_class(6, HEADS, HEAD_DIM)), clip(1, 40, 12, 12, 6)
    before = x.clone()
    update = attention(x)
    assert torch.equal(x, before)
    # the sum rounds once more
    torch.testing.assert_close(before + update, add_attention(x, attention), atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_processors_take_part_and_are_found_by_name(denoiser, inputs):
    class Silent:
        def __call__(self, attn, hidden_states, **context):
            return torch.zeros_like(hidden_states)

    expected = denoiser(**inputs).sample
    names = denoiser.attn_processors
    assert len(names) == len(attentions_of(denoiser)) and "middle.spatial_attention.processor" in names
    kept = dict(names)
    denoiser.set_attn_processor(Silent())
    assert not torch.allclose(denoiser(**inputs).sample, expected)
    denoiser.set_attn_processor(kept)
    assert torch.equal(denoiser(**inputs).sample, expected)


def test_processors_are_set_one_by_one_or_refused_by_number(denoiser):
    for attention in attentions_of(denoiser):
        own = AttnProcessor()
        attention.set_processor(own)
        assert attention.get_processor() is own
    with pytest.raises(ValueError, match="number of processors"):
        denoiser.set_attn_processor({next(iter(denoiser.attn_processors)): AttnProcessor()})


@torch.no_grad()
def test_projections_may_be_fused_and_unfused(denoiser, inputs):
    expected, names = denoiser(**inputs).sample, set(denoiser.state_dict())
    for _ in range(2):
        denoiser.fuse_qkv_projections()
        for attention in attentions_of(denoiser):
            assert attention.fused_projections and hasattr(attention, "to_qkv") and not hasattr(attention, "to_q")
        # one product instead of three may sum in another order
        torch.testing.assert_close(denoiser(**inputs).sample, expected, atol=1e-5, rtol=1e-5)
    for _ in range(2):
        denoiser.unfuse_qkv_projections()
        for attention in attentions_of(denoiser):
            assert not attention.fused_projections and not hasattr(attention, "to_qkv")
        assert set(denoiser.state_dict()) == names
        assert torch.equal(denoiser(**inputs).sample, expected)


@torch.no_grad()
def test_a_denoiser_with_fused_projections_is_saved_without_and_goes_on_with_them(denoiser, tmp_path):
    separate = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    denoiser.fuse_qkv_projections()
    fused = set(denoiser.state_dict())
    denoiser.save_pretrained(tmp_path)
    assert set(denoiser.state_dict()) == fused != set(separate)
    loaded = type(denoiser).from_pretrained(tmp_path).state_dict()
    assert loaded.keys() == separate.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in separate.items())


def test_fused_projections_train_as_separate_ones(denoiser, inputs):
    attention = denoiser.middle.spatial_attention
    denoiser(**inputs).sample.square().mean().backward()
    expected = torch.cat([getattr(attention, name).weight.grad for name in SEPARATE_PROJECTIONS])
    denoiser.fuse_qkv_projections()
    denoiser(**inputs).sample.square().mean().backward()
    torch.testing.assert_close(attention.to_qkv.weight.grad, expected, atol=1e-6, rtol=1e-4)


def test_frozen_projections_stay_frozen(denoiser):
    denoiser.requires_grad_(False)
    denoiser.fuse_qkv_projections()
    denoiser.unfuse_qkv_projections()
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.add_adapter(LoraConfig(r=2, target_modules=["to_q"])),
        lambda model: model.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32),
        lambda model: model.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
    ],
)
def test_projections_that_are_adapted_cast_or_offloaded_are_not_fused(denoiser, change):
    change(denoiser)
    with pytest.raises(ValueError, match="`to_q` is adapted, quantised, cast or offloaded"):
        denoiser.fuse_qkv_projections()


def test_a_projection_that_is_adapted_is_not_unfused(denoiser):
    denoiser.fuse_qkv_projections()
    denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_qkv"]))
    with pytest.raises(ValueError, match="`to_qkv` is adapted, quantised, cast or offloaded"):
        denoiser.unfuse_qkv_projections()


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_weights_on_disk_are_found_whether_projections_are_fused(denoiser, inputs, fused, tmp_path):
    expected = denoiser(**inputs).sample
    if fused:
        denoiser.fuse_qkv_projections()
    disk_offload(denoiser, str(tmp_path), execution_device=torch.device("cpu"))
    torch.testing.assert_close(denoiser(**inputs).sample, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_backend_that_is_set_computes_the_same(denoiser, inputs):
    expected = denoiser(**inputs).sample
    denoiser.set_attention_backend("_native_math")
    try:
        chosen = {module.processor._attention_backend for module in attentions_of(denoiser) if _has_backend(module)}
        assert chosen == {AttentionBackendName._NATIVE_MATH}
        # another kernel sums in another order
        torch.testing.assert_close(denoiser(**inputs).sample, expected, atol=1e-4, rtol=1e-4)
    finally:
        denoiser.reset_attention_backend()
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)
    assert torch.equal(denoiser(**inputs).sample, expected)


def _has_backend(module: torch.nn.Module) -> bool:
    return isinstance(module.processor, SpatialAttnProcessor | TemporalAttnProcessor)


def broadcast(spatial: int | None = 2, temporal: int | None = 2) -> PyramidAttentionBroadcastConfig:
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=spatial,
        temporal_attention_block_skip_range=temporal,
        current_timestep_callback=lambda: 500,
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        broadcast(),
        broadcast(temporal=None),
        broadcast(spatial=None),
        TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1, taylor_factors_dtype=torch.float32),
    ],
)
def test_caches_leave_attention_out_until_they_are_disabled(denoiser, inputs, config):
    later = inputs | {"sample": clip(1, 3, NUM_FRAMES, 16, 16, seed=1)}
    first, expected = denoiser(**inputs).sample, denoiser(**later).sample
    denoiser.enable_cache(config)
    with pytest.raises(ValueError, match="already been enabled"):
        denoiser.enable_cache(config)
    for context in ("one", "another") if isinstance(config, TaylorSeerCacheConfig) else ("one",):
        with denoiser.cache_context(context):
            # the attention is added once more, not in place
            torch.testing.assert_close(denoiser(**inputs).sample, first, atol=1e-4, rtol=1e-4)
    with denoiser.cache_context("one"):
        cached = denoiser(**later).sample
    assert cached.isfinite().all() and not torch.allclose(cached, expected, atol=1e-4)
    denoiser.disable_cache()
    assert torch.equal(denoiser(**later).sample, expected)


@torch.no_grad()
def test_lite_mode_predicts_the_results_and_leaves_out_blocks_and_attentions(denoiser, inputs):
    later = inputs | {"sample": clip(1, 3, NUM_FRAMES, 16, 16, seed=1)}
    first = denoiser(**inputs).sample
    config = TaylorSeerCacheConfig(
        cache_interval=3,
        disable_cache_before_step=1,
        max_order=0,
        taylor_factors_dtype=torch.float32,
        use_lite_mode=True,
    )
    denoiser.enable_cache(config)
    ran = []
    for name, module in denoiser.named_modules():
        if name.endswith(("attention.to_q", "block1.conv1", "head.linear")):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with denoiser.cache_context("one"):
        torch.testing.assert_close(denoiser(**inputs).sample, first, atol=1e-4, rtol=1e-4)
        assert len(set(ran)) > 10
        ran.clear()
        # of order 0, the prediction is the last result
        torch.testing.assert_close(denoiser(**later).sample, first, atol=1e-4, rtol=1e-4)
    assert not ran


def test_caches_of_transformer_blocks_are_refused(denoiser):
    with pytest.raises(ValueError, match="`config` is a FasterCacheConfig, must be a PyramidAttentionBroadcastConfig"):
        denoiser.enable_cache(FasterCacheConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TaylorSeerCacheConfig(cache_interval=0), "`config.cache_interval` is 0, must be a whole number from 1 on"),
        (TaylorSeerCacheConfig(max_order=-1), "`config.max_order` is -1, must be a whole number from 0 on"),
        (broadcast(spatial=0), "`config.spatial_attention_block_skip_range` is 0, must be a whole number from 1 on"),
        (broadcast(temporal=2.5), "`config.temporal_attention_block_skip_range` is 2.5, must be a whole number"),
        (TaylorSeerCacheConfig(cache_identifiers=["("]), r"`config.cache_identifiers` has '\(', must be patterns of"),
        (TaylorSeerCacheConfig(skip_predict_identifiers=["x"]), "`config.skip_predict_identifiers` has 'x', must be"),
    ],
)
def test_settings_of_caches_that_cannot_work_are_refused(denoiser, config, message):
    with pytest.raises(ValueError, match=message):
        denoiser.enable_cache(config)
    assert not denoiser.is_cache_enabled


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ("a", {"down": 1.0}, "`adapter_weights` has {'down': 1.0}, must be one finite number per adapter"),
        (["a"], [{"up": {"block_0": 0.5}}], "must be one finite number per adapter: weights by blocks know only"),
        ("a", float("nan"), "`adapter_weights` has nan, must be one finite number"),
        ("a", [float("inf")], "`adapter_weights` has inf, must be one finite number"),
        ("a", 1e300, "must be one finite number"),
        ("a", True, "`adapter_weights` has True, must be one finite number"),
        ("b", 1.0, "`adapter_names` is 'b', must be names of adapters: a"),
        (None, 1.0, "`adapter_names` is None, must be names of adapters: a"),
        (7, None, "`adapter_names` is 7, must be names of adapters: a"),
    ],
)
def test_adapters_that_do_not_exist_and_weights_that_are_no_number_are_refused(denoiser, names, weights, message):
    denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), "a")
    with pytest.raises(ValueError, match=message):
        denoiser.set_adapters(names, weights)
    denoiser.set_adapters("a", 0.5)
