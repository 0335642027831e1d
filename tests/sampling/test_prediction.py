"""Conversions between noise, v, clean motion and flow, and the dynamic threshold."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.sampling import prediction
from diffusers_dawn.sampling.prediction import (
    FLOW_PREDICTION,
    NOISE_PREDICTIONS,
    PREDICTION_TYPES,
    NoiseLevel,
    add_noise,
    bound_clean,
    clean_from_prediction,
    dynamic_threshold,
    magnitudes_at_rank,
    noise_from_prediction,
    prediction_from_clean,
    prediction_target,
)
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

SHAPE = (2, 3, 4, 8, 8)


def noise(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def level_of(prediction_type: str, sigma: float) -> NoiseLevel:
    """Shares on the path that a denoiser of this type learns: a straight line, or of variance 1."""
    return NoiseLevel(1 - sigma if prediction_type == FLOW_PREDICTION else (1 - sigma**2) ** 0.5, sigma)


@given(
    prediction_type=st.sampled_from(PREDICTION_TYPES),
    sigmas=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    per_sample=st.booleans(),
)
def test_motion_and_noise_are_recovered_from_a_perfect_prediction(prediction_type, sigmas, per_sample):
    levels = [level_of(prediction_type, sigma) for sigma in sigmas]
    level = NoiseLevel(*map(torch.tensor, zip(*levels, strict=True))) if per_sample else levels[0]
    clean, added = noise(), noise(1)
    noisy, target = add_noise(clean, added, level), prediction_target(prediction_type, clean, added, level)
    # float32, errors are divided by shares down to 0.05
    tolerance = {"atol": 5e-5, "rtol": 0}
    torch.testing.assert_close(clean_from_prediction(prediction_type, target, noisy, level), clean, **tolerance)
    torch.testing.assert_close(noise_from_prediction(prediction_type, target, noisy, level), added, **tolerance)
    torch.testing.assert_close(prediction_from_clean(prediction_type, clean, noisy, level), target, **tolerance)


@given(
    prediction_type=st.sampled_from(PREDICTION_TYPES),
    signal=st.floats(0.1, 1),
    sigma=st.floats(0.1, 20),
    seed=st.integers(0, 1000),
)
def test_an_answer_found_for_a_motion_leads_back_to_it_at_any_shares(prediction_type, signal, sigma, seed):
    clean, noisy, level = noise(seed), noise(seed + 1), NoiseLevel(signal, sigma)
    answer = prediction_from_clean(prediction_type, clean, noisy, level)
    found = clean_from_prediction(prediction_type, answer, noisy, level)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=0)  # float32, one division by at least 0.1


def test_noise_is_added_as_by_the_schedulers_of_diffusers():
    clean, added, timesteps = noise(), noise(1), torch.tensor([20, 800])
    scheduler = DAWNDDIMScheduler()
    alphas = scheduler.alphas_cumprod[timesteps]
    found = add_noise(clean, added, NoiseLevel(alphas.sqrt(), (1 - alphas).sqrt()))
    torch.testing.assert_close(found, scheduler.add_noise(clean, added, timesteps))
    times = torch.tensor([21.0, 801.0])
    found = add_noise(clean, added, NoiseLevel(1 - times / 1000, times / 1000))
    torch.testing.assert_close(found, FlowMatchEulerDiscreteScheduler().scale_noise(clean, times, added))


def test_velocity_target_is_that_of_diffusers():
    scheduler, timesteps = DAWNDDIMScheduler(), torch.tensor([20, 800])
    alphas = scheduler.alphas_cumprod[timesteps]
    found = prediction_target("v_prediction", noise(), noise(1), NoiseLevel(alphas.sqrt(), (1 - alphas).sqrt()))
    torch.testing.assert_close(found, scheduler.get_velocity(noise(), noise(1), timesteps))


@pytest.mark.parametrize("prediction_type", NOISE_PREDICTIONS)
def test_recovered_and_bounded_motion_is_that_of_the_sampler(prediction_type):
    scheduler = DAWNDDIMScheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(20)
    step = scheduler.timesteps[5]
    alpha = scheduler.alphas_cumprod[step]
    level = NoiseLevel(alpha.sqrt(), (1 - alpha).sqrt())
    found = dynamic_threshold(clean_from_prediction(prediction_type, noise(), noise(1), level))
    expected = scheduler.step(noise(), step, noise(1)).pred_original_sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_inputs_stay_as_they_are():
    for prediction_type in PREDICTION_TYPES:
        given_, level = (noise(), noise(1)), level_of(prediction_type, 0.6)
        for convert in (prediction_target, clean_from_prediction, noise_from_prediction, prediction_from_clean):
            convert(prediction_type, *given_, level)
        assert torch.equal(given_[0], noise()) and torch.equal(given_[1], noise(1))


def test_small_motion_is_not_bounded_and_large_is_scaled_to_one():
    small = noise().tanh()
    assert torch.equal(dynamic_threshold(small), small)
    large = torch.stack([small[0], 1000 * small[1]])
    bounded = dynamic_threshold(large)
    assert torch.equal(bounded[0], small[0]) and bounded.abs().max() == 1
    assert (bounded[1].abs() == 1).float().mean() == pytest.approx(0.1, abs=0.02)


def test_threshold_with_gradients_equals_that_without_and_passes_them_through_the_bound():
    sample = (5 * noise()).requires_grad_()
    bounded = dynamic_threshold(sample)
    assert torch.equal(bounded.detach(), dynamic_threshold(sample.detach()))
    bounded.sum().backward()
    values = sample.detach().flatten(1).abs()
    beyond = values > torch.quantile(values, 0.9, dim=1, keepdim=True)
    # what is clipped counts by its sign only, but each bound depends on the two values next to its rank
    assert (sample.grad.flatten(1)[beyond] != 0).sum() <= 2 and sample.grad.isfinite().all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"thresholding": False, "clip_sample": True, "clip_sample_range": 2.0}, lambda clean: clean.clamp(-2, 2)),
        ({"thresholding": False, "clip_sample": False}, lambda clean: clean),
        (
            {"thresholding": True, "dynamic_thresholding_ratio": 0.5, "sample_max_value": 1.0},
            lambda clean: clean.clamp(-1, 1),
        ),
    ],
)
def test_recovered_motion_is_bounded_as_the_config_says(config, expected):
    clean = 3 * noise()
    assert torch.equal(bound_clean(clean, config), expected(clean))


def test_unknown_prediction_types_are_refused():
    for convert in (prediction_target, clean_from_prediction, noise_from_prediction, prediction_from_clean):
        with pytest.raises(ValueError, match="`prediction_type` is 'flow', must be one of 'epsilon', 'v_prediction'"):
            convert("flow", noise(), noise(), NoiseLevel(0.8, 0.6))


def test_shapes_that_do_not_fit_are_refused():
    motion, level = noise(), NoiseLevel(torch.tensor([0.8, 0.8]), torch.tensor([0.6, 0.6]))
    conversions = (prediction_target, clean_from_prediction, noise_from_prediction, prediction_from_clean)
    for convert in (*conversions, lambda _, *inputs: add_noise(*inputs)):
        with pytest.raises(ValueError, match="`level`"):
            convert("epsilon", motion[:1], motion[:1], level)
        with pytest.raises(ValueError, match="must be equal"):
            convert("epsilon", motion, motion[:1], level)


@given(
    seed=st.integers(0, 1000),
    size=st.one_of(st.integers(1, 5), st.integers(6, 3000)),
    ratio=st.floats(0, 1),
    scale=st.floats(0.1, 20),
    ties=st.booleans(),
    bound=st.one_of(st.none(), st.floats(1, 5)),
)
def test_threshold_is_the_quantile_of_each_sample(seed, size, ratio, scale, ties, bound):
    sample = scale * noise(seed, (2, 1, size))
    sample = sample.round() if ties else sample
    limit = sample.abs().flatten(1).quantile(ratio, dim=1).clamp(min=1, max=bound)[:, None, None]
    result = dynamic_threshold(sample, ratio, bound)
    # the rank is rounded to float32: up to 2e-4 of the distance between neighbours, which a tail makes large
    torch.testing.assert_close(result, sample.clamp(-limit, limit) / limit, atol=1e-3, rtol=1e-3)


@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 3000),
    ratio=st.sampled_from([0.0, 0.5, 0.9, 0.995, 1.0]),
    ties=st.booleans(),
    at_once=st.sampled_from([1, 100, 2**20]),
)
def test_magnitudes_at_a_rank_are_those_of_a_sorted_copy(seed, size, ratio, ties, at_once):
    values = 10 * noise(seed, (1, size))
    values = values.round() if ties else values
    rank = int(ratio * (size - 1))
    expected = values.abs().flatten().sort().values[[rank, min(rank + 1, size - 1)]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "VALUES_AT_ONCE", at_once)
        assert torch.equal(magnitudes_at_rank(values, rank), expected)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.995])
@pytest.mark.parametrize("shape", [(2, 3, 40, 16, 16), (1, 3, 1, 8, 8)])
def test_threshold_equals_that_of_torch_quantile_to_the_bit(ratio, shape):
    sample = 5 * noise(4, shape)
    limit = sample.abs().flatten(1).quantile(ratio, dim=1).clamp(min=1).view(-1, 1, 1, 1, 1)
    assert torch.equal(dynamic_threshold(sample, ratio), sample.clamp(-limit, limit) / limit)


def test_threshold_of_a_transposed_sample_is_that_of_its_copy():
    sample = 5 * noise().transpose(2, 4)
    assert torch.equal(dynamic_threshold(sample), dynamic_threshold(sample.contiguous()))


def test_threshold_has_no_upper_bound():
    sample = 50 * noise()
    assert dynamic_threshold(sample).abs().max() == 1
    limit = sample.abs().flatten(1).quantile(0.9, dim=1).view(-1, 1, 1, 1, 1)
    assert limit.min() > 50
    inside = sample.abs() < limit
    # quantiles by two routes, float32
    torch.testing.assert_close(dynamic_threshold(sample)[inside], (sample / limit)[inside], atol=1e-5, rtol=1e-5)
