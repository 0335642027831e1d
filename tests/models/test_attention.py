import math

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from diffusers_dawn.models.attention import (
    RelativePositionBias,
    RotaryEmbedding,
    _backend_for_bias,
    attend_by_products,
    attend_in_band,
    attend_in_blocks,
    attention_band,
    band_blocks,
    rotate_pairs,
)

NUM_HEADS = 2


def make_bias(seed: int, num_buckets: int = 8, max_distance: int = 12) -> RelativePositionBias:
    torch.manual_seed(seed)
    return RelativePositionBias(num_buckets, max_distance, NUM_HEADS)


def make_inputs(seed: int, num_frames: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, NUM_HEADS, num_frames, 4, generator=generator) for _ in range(3))


def masked_softmax(query, key, value, position_bias, window, scale):
    num_frames = query.shape[2]
    offsets = torch.arange(num_frames)[None] - torch.arange(num_frames)[:, None]
    scores = query @ key.transpose(-1, -2) * scale + position_bias(num_frames)[:, offsets + num_frames]
    if window is not None:
        scores = scores.masked_fill(offsets.abs() > window, -torch.inf)
    return scores.softmax(dim=-1) @ value


@given(
    seed=st.integers(0, 1000),
    num_frames=st.one_of(st.just(1), st.integers(2, 70)),
    window=st.one_of(st.none(), st.integers(0, 80)),
    block_size=st.integers(1, 20),
    attend=st.sampled_from([attend_in_blocks, attend_by_products]),
)
def test_blocks_equal_one_masked_softmax(seed, num_frames, window, block_size, attend):
    query, key, value = make_inputs(seed, num_frames)
    bias = make_bias(seed)
    blocks = band_blocks(bias, num_frames, window, query.dtype, block_size)
    result = attend(query, key, value, blocks, 0.5)
    expected = masked_softmax(query, key, value, bias, window, 0.5)
    # float32 sums of at most 70 values of order 1 in another order
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@given(
    seed=st.integers(0, 1000),
    num_frames=st.one_of(st.just(1), st.integers(2, 140)),
    window=st.one_of(st.none(), st.integers(0, 80)),
)
def test_band_for_compiled_code_equals_one_masked_softmax_and_has_gradients(seed, num_frames, window):
    inputs = [part.requires_grad_() for part in make_inputs(seed, num_frames)]
    bias = make_bias(seed)
    result = attend_in_band(*inputs, attention_band(bias, num_frames, window, torch.float32), 0.5)
    expected = masked_softmax(*inputs, bias, window, 0.5)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(seed))
    grads, wanted = (torch.autograd.grad((part * weights).sum(), inputs) for part in (result, expected))
    torch.testing.assert_close(grads, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("num_frames", "window"), [(1, 0), (1, None), (7, 0), (40, 39), (300, 20), (301, 200)])
def test_blocks_cover_every_query_once_and_stay_within_the_band(num_frames, window):
    blocks = band_blocks(make_bias(0), num_frames, window, torch.float32, block_size=16)
    assert [frame for block in blocks for frame in range(block.queries.start, block.queries.stop)] == list(
        range(num_frames)
    )
    for block in blocks:
        queries, keys = (len(range(part.start, part.stop)) for part in (block.queries, block.keys))
        assert block.bias.shape == (1, NUM_HEADS, queries, keys)
        if window is not None and window < num_frames - 1:
            assert queries <= 16
            assert keys <= 16 + 2 * window


def test_bias_is_masked_exactly_outside_the_window():
    (block, *_) = band_blocks(make_bias(0), 50, 5, torch.float32, block_size=10)
    offsets = torch.arange(block.keys.start, block.keys.stop)[None] - torch.arange(10)[:, None]
    assert torch.equal(block.bias[0, 0].isinf(), offsets.abs() > 5)


@pytest.mark.parametrize("attend", [attend_in_blocks, attend_by_products])
def test_frames_beyond_the_window_do_not_change_the_result(attend):
    query, key, value = make_inputs(3, 60)
    blocks = band_blocks(make_bias(3), 60, 8, query.dtype, block_size=7)
    before = attend(query, key, value, blocks, 0.5)
    key[:, :, 40:], value[:, :, 40:] = 100.0, -100.0
    after = attend(query, key, value, blocks, 0.5)
    assert torch.equal(before[:, :, :32], after[:, :, :32])
    assert not torch.equal(before[:, :, 32], after[:, :, 32])


class ScoreSizes(TorchFunctionMode):
    """Collects queries x keys of every attention that runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is functional.scaled_dot_product_attention:
            query, key = args[:2] if args else (kwargs["query"], kwargs["key"])
            self.sizes.append(query.shape[2] * key.shape[2])
        if function is torch.Tensor.softmax:
            self.sizes.append(args[0].shape[-2] * args[0].shape[-1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("attend", [attend_in_blocks, attend_by_products])
def test_no_score_tensor_is_larger_than_a_block_of_the_band(attend):
    query, key, value = make_inputs(0, 400)
    blocks = band_blocks(make_bias(0), 400, 10, query.dtype, block_size=20)
    with ScoreSizes() as scores:
        attend(query, key, value, blocks, 0.5)
    assert len(scores.sizes) == 20
    assert max(scores.sizes) == 20 * (20 + 2 * 10)


@given(seed=st.integers(0, 1000), rotary_dim=st.sampled_from([2, 4, 8]), num_frames=st.integers(1, 50))
def test_rotation_preserves_norms_and_the_channels_beyond(seed, rotary_dim, num_frames):
    x = torch.randn(num_frames, 8, generator=torch.Generator().manual_seed(seed))
    rotated = rotate_pairs(x, *RotaryEmbedding(rotary_dim)(num_frames))
    # float32 rounding of one rotation
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1), atol=1e-5, rtol=1e-5)
    assert torch.equal(rotated[:, rotary_dim:], x[:, rotary_dim:])


@given(seed=st.integers(0, 1000), offset=st.integers(0, 20), shift=st.integers(0, 70))
def test_rotated_product_depends_only_on_the_offset(seed, offset, shift):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    cos, sin = RotaryEmbedding(8)(100)

    def product(first: int, second: int) -> torch.Tensor:
        return rotate_pairs(query, cos[first], sin[first]) @ rotate_pairs(key, cos[second], sin[second])

    # angles up to 100 rad are rounded to about 4e-6 rad, times products of order 10
    torch.testing.assert_close(product(offset, 0), product(offset + shift, shift), atol=2e-4, rtol=0)


def test_rotation_keeps_half_precision():
    rotated = rotate_pairs(torch.ones(5, 8, dtype=torch.float16), *RotaryEmbedding(4)(5))
    assert rotated.dtype == torch.float16


def test_rotary_angles_grow_linearly_with_theta_10000():
    cos, sin = RotaryEmbedding(4)(30)
    angles = torch.arange(30.0)[:, None] * torch.tensor([1.0, 0.01])
    torch.testing.assert_close(torch.stack((cos, sin)), torch.stack((angles.cos(), angles.sin())), atol=1e-5, rtol=0)


def test_rotary_frequencies_are_part_of_the_state_dict():
    rotary = RotaryEmbedding(4)
    rotary.load_state_dict({"frequencies": torch.tensor([0.5, 0.0])})
    torch.testing.assert_close(rotary(3)[0], torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]).cos())


def t5_bucket(offset: int, num_buckets: int, max_distance: int) -> int:
    """Bucket of key - query as T5 (arXiv 1910.10683) describes it, one offset at a time."""
    half = num_buckets // 2
    first = half if offset > 0 else 0
    distance = abs(offset)
    exact = half // 2
    if distance < exact:
        return first + distance
    wide = exact + math.log(distance / exact) / math.log(max_distance / exact) * (half - exact)
    return first + min(int(wide), half - 1)


# max_distance / exact is no power here for which the logarithm hits an integer up to rounding
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 33), (128, 129), (8, 13), (64, 201)])
def test_bias_equals_the_t5_buckets(num_buckets, max_distance):
    reach = 300
    bias = make_bias(1, num_buckets, max_distance)
    buckets = torch.tensor([t5_bucket(offset, num_buckets, max_distance) for offset in range(-reach, reach + 1)])
    assert torch.equal(bias(reach), bias.table.weight[buckets].t())


@pytest.mark.parametrize("backend", ["flash", "_flash_3_hub", "sage", "_native_flash", "native", "flex"])
def test_a_backend_that_takes_no_bias_leaves_attention_over_frames_to_torch(backend):
    name = AttentionBackendName(backend)
    chosen = _backend_for_bias(name)
    assert chosen == (name if backend in ("native", "flex") else AttentionBackendName.NATIVE)
    assert _backend_for_bias(None) is None  # torch's own is active
