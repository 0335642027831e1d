import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_layers import clip, randomised
from torch.nn import functional

from diffusers_dawn.models.blocks_3d import ResidualBlock
from diffusers_dawn.models.condition_attention import ConditionMixer
from diffusers_dawn.models.video_layers import (
    CHUNK_TOKENS_CPU,
    VideoGroupNorm,
    add_in_chunks,
    chunks,
    convolve_frames,
    convolve_over_input,
)

HEADS, HEAD_DIM = 2, 8
DIMS = {"audio": 6, "pose": 3, "blink": 2}


def conditions_for(batch: int, frames: int) -> dict[str, torch.Tensor]:
    return {name: clip(batch, frames, dim, seed=index) for index, (name, dim) in enumerate(DIMS.items())}


def make_mixer(channels_in: int = 5, channels_out: int = 7) -> ConditionMixer:
    torch.manual_seed(0)
    return randomised(ConditionMixer(DIMS, channels_in, channels_out, HEADS, 4))


@pytest.mark.parametrize("layer", [torch.nn.Conv2d(3, 4, 4, 2, 1), torch.nn.ConvTranspose2d(3, 4, 4, 2, 1)])
def test_frames_convolve_as_if_alone(layer):
    x = clip(2, 3, 8, 6, 3)
    together = convolve_frames(layer, x)
    for batch in range(2):
        for frame in range(3):
            alone = layer(x[batch, frame].permute(2, 0, 1)[None])[0].permute(1, 2, 0)
            # order of summation differs between memory formats
            torch.testing.assert_close(together[batch, frame], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("recorded", [False, True])
def test_convolution_over_its_input_has_the_plain_result(recorded):
    layer, x = torch.nn.Conv2d(3, 3, 3, padding=1), clip(2, 40, 9, 8, 3)  # more than one chunk
    before = x.clone()
    with torch.set_grad_enabled(recorded):
        expected = convolve_frames(layer, x)
        result = convolve_over_input(layer, x)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)  # summed in another order
    assert torch.equal(x, before) == recorded
    assert (result.data_ptr() == x.data_ptr()) != recorded


@pytest.mark.parametrize("tokens_per_index", [1, 500, CHUNK_TOKENS_CPU, 10 * CHUNK_TOKENS_CPU])
def test_adding_in_chunks_overwrites_its_input_with_the_plain_sum(tokens_per_index):
    x, other = clip(4, 11), clip(4, 11, seed=1)
    with torch.no_grad():
        expected = x + x.square() * other
        result = add_in_chunks(x, lambda part, rows: part.square() * other[:, rows], 1, tokens_per_index)
    assert result is x
    assert torch.equal(result, expected)


def test_adding_with_gradients_leaves_its_input_alone():
    x = clip(4, 11)
    before = x.clone()
    result = add_in_chunks(x, lambda part, _: part.square(), 1, 1)
    assert torch.equal(x, before)
    assert torch.equal(result, x + x.square())


@given(
    batch=st.integers(1, 2),
    frames=st.integers(1, 5),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    groups=st.integers(1, 3),
    per_group=st.integers(2, 4),
    offset=st.floats(-10, 10),
    modulated=st.booleans(),
    grad_enabled=st.booleans(),
)
def test_clip_norm_is_group_norm_over_all_frames_then_modulation_then_silu(
    batch, frames, size, groups, per_group, offset, modulated, grad_enabled
):
    channels = groups * per_group
    norm = randomised(VideoGroupNorm(groups, channels))
    x = clip(batch, frames, *size, channels) + offset
    scale_shift = clip(batch, 2 * channels, seed=1) if modulated else None
    expected = functional.group_norm(
        x.double().permute(0, 4, 1, 2, 3), groups, norm.weight.double(), norm.bias.double(), 1e-5
    )
    expected = expected.permute(0, 2, 3, 4, 1)
    if modulated:
        scale, shift = scale_shift.double()[:, None, None, None].chunk(2, dim=-1)
        expected = expected * (1 + scale) + shift
    before = x.clone()
    with torch.set_grad_enabled(grad_enabled):
        result = norm(x, scale_shift)
    assert torch.equal(x, before if grad_enabled else result)
    # float32 squares of values up to 13 keep a variance to about 1e-5; small groups may have a variance of 0.01
    torch.testing.assert_close(result.double(), functional.silu(expected), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 50.7, -123.4])
def test_clip_norm_of_a_constant_clip_is_finite(value):
    with torch.no_grad():
        assert VideoGroupNorm(2, 8)(torch.full((1, 3, 5, 5, 8), value)).isfinite().all()


@pytest.mark.parametrize("grad_enabled", [False, True])
def test_closed_form_equals_softmax_over_condition_and_null_token(grad_enabled):
    mixer = make_mixer()
    x, hidden, conditions = clip(2, 3, 4, 5, 5), clip(2, 3, 4, 5, 7, seed=1), conditions_for(2, 3)
    expected = hidden.clone()
    for name, attention in mixer.attentions.items():
        heads = (HEADS, -1)
        query = attention.to_query(attention.norm_in(x)).unflatten(-1, heads)  # (B, F, H, W, heads, D)
        keys, values = attention.to_key_value(attention.embed(functional.silu(conditions[name]))).chunk(2, dim=-1)
        null_key, null_value = attention.null_key_value
        keys, values = keys.unflatten(-1, heads), values.unflatten(-1, heads)
        keys = torch.stack((keys, null_key.expand_as(keys)), dim=2)  # (B, F, 2, heads, D)
        values = torch.stack((values, null_value.expand_as(values)), dim=2)
        query = functional.normalize(query, dim=-1) * attention.query_scale
        keys = functional.normalize(keys, dim=-1) * attention.key_scale
        weights = (8 * torch.einsum("bfyxhd,bfthd->bfyxht", query, keys)).softmax(-1)
        attended = torch.einsum("bfyxht,bfthd->bfyxhd", weights, values).flatten(-2)
        expected = expected + functional.layer_norm(
            attention.to_out[0](attended), (7,), attention.norm_out.weight, None, 1e-5
        )
    with torch.set_grad_enabled(grad_enabled):
        result = mixer(hidden, x, mixer.project(conditions))
    # the variance is a difference of sums that are about a hundred times larger
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_closed_form_keeps_the_unit_variance_of_its_norm_in_half_precision(dtype):
    mixer = make_mixer(channels_in=16, channels_out=32).to(dtype)
    for attention in mixer.attentions.values():
        torch.nn.init.ones_(attention.norm_out.weight)
    context = mixer.project({name: value.to(dtype) for name, value in conditions_for(1, 50).items()})
    x, zeros = clip(1, 50, 4, 4, 16).to(dtype), torch.zeros(1, 50, 4, 4, 32, dtype=dtype)
    precise = mixer.float().project({name: value.to(dtype).float() for name, value in conditions_for(1, 50).items()})
    expected = mixer(zeros.float(), x.float(), precise)
    # a variance computed in half precision is off by factors; rounding of shares and basis leaves a few percent
    assert (mixer(zeros, x, context).float() - expected).square().mean().sqrt() < 0.05 * expected.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_closed_form_under_autocast_is_near_that_without(dtype):
    # conditions that come out of another network under autocast have its dtype
    mixer = make_mixer(16, 32)
    conditions = {name: value.to(torch.bfloat16).float() for name, value in conditions_for(1, 20).items()}
    x, hidden = clip(1, 20, 4, 4, 16), clip(1, 20, 4, 4, 32, seed=1)
    expected = mixer(hidden, x, mixer.project(conditions))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = mixer(hidden, x, mixer.project({name: value.to(dtype) for name, value in conditions.items()}))
    # as above
    assert (result - expected).square().mean().sqrt() < 0.05 * expected.std()


@torch.no_grad()
def test_residual_block_without_gradients_equals_that_with_and_keeps_its_input():
    torch.manual_seed(0)
    for channels_out in (8, 12):
        block = randomised(ResidualBlock(8, channels_out, 4, 16, DIMS, HEADS, 4))
        # 16 x 16 pixels times 12 frames are more than one chunk
        x, time = clip(1, 12, 16, 16, 8), clip(1, 16)
        context = block.conditions.project(conditions_for(1, 12))
        before = [tensor.clone() for tensor in (x, time, *context)]
        result = block(x, time, context)
        for tensor, copy in zip((x, time, *context), before, strict=True):
            assert torch.equal(tensor, copy)
        with torch.enable_grad():
            # the same sums, split into chunks of other sizes
            torch.testing.assert_close(result, block(x, time, context).detach(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("tokens_per_index", "least", "size"), [(2048, 1, 2), (2048, 5, 5), (9000, 1, 1), (10, 4, 37)]
)
def test_chunks_stay_in_the_cache_but_hold_as_many_indices_as_are_asked_for(tokens_per_index, least, size):
    slices = chunks(torch.empty(3, 37), 1, tokens_per_index, least)
    assert [index for part in slices for index in range(part.start, part.stop)] == list(range(37))
    assert {part.stop - part.start for part in slices[:-1]} <= {size}
    assert slices[0].stop == size
