import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.sampling.scheduler_training import FLOW_PREDICTION
from diffusers_dawn.sampling.scheduler_training import PREDICTION_TYPES as NOISE_PREDICTION_TYPES
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from training.objectives.diffusion_targets import (
    PREDICTION_TYPES,
    NoiseLevels,
    add_noise,
    bound_motion,
    clean_from_prediction,
    noise_levels,
    prediction_target,
    shifted_timestep,
    snr_weights,
)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scheduler_of(prediction_type: str) -> object:
    return FlowMatchEulerDiscreteScheduler() if prediction_type == FLOW_PREDICTION else DAWNDDIMScheduler()


def levels_of(signal: float, sigma: float) -> NoiseLevels:
    """Levels of two samples alike."""
    return NoiseLevels(*(torch.tensor([value, value]) for value in (signal, sigma, 500.0)))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("timestep", [0, 300, 700, 960])
def test_motion_is_recovered_from_a_perfect_prediction(prediction_type, timestep):
    clean, noise = randn(2, 3, 4, 8, 8), randn(2, 3, 4, 8, 8, seed=1)
    levels = noise_levels(prediction_type, scheduler_of(prediction_type), torch.tensor([timestep, 500]))
    target = prediction_target(prediction_type, clean, noise, levels)
    found = clean_from_prediction(prediction_type, target, add_noise(clean, noise, levels), levels)
    torch.testing.assert_close(found, clean, atol=5e-5, rtol=0)  # at step 960 the signal is 0.06 of the noise


def test_noise_is_added_as_by_the_schedulers_of_diffusers():
    clean, noise, timesteps = randn(2, 3, 4), randn(2, 3, 4, seed=1), torch.tensor([20, 800])
    scheduler = DAWNDDIMScheduler()
    found = add_noise(clean, noise, noise_levels("epsilon", scheduler, timesteps))
    torch.testing.assert_close(found, scheduler.add_noise(clean, noise, timesteps))
    scheduler = FlowMatchEulerDiscreteScheduler()  # whose own times fall
    levels = noise_levels(FLOW_PREDICTION, scheduler, timesteps)
    assert levels.time.tolist() == [21, 801]
    torch.testing.assert_close(add_noise(clean, noise, levels), scheduler.scale_noise(clean, levels.time, noise))


@pytest.mark.parametrize("prediction_type", NOISE_PREDICTION_TYPES)
def test_recovered_motion_is_that_of_the_sampler(prediction_type):
    scheduler = DAWNDDIMScheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(20)
    prediction, noisy, step = randn(1, 3, 4, 8, 8), randn(1, 3, 4, 8, 8, seed=1), scheduler.timesteps[5]
    levels = noise_levels(prediction_type, scheduler, step.view(1))
    found = bound_motion(clean_from_prediction(prediction_type, prediction, noisy, levels))
    expected = scheduler.step(prediction, step, noisy).pred_original_sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_velocity_target_is_that_of_diffusers():
    scheduler, clean, noise = DAWNDDIMScheduler(), randn(2, 3, 4), randn(2, 3, 4, seed=1)
    timesteps = torch.tensor([20, 800])
    found = prediction_target("v_prediction", clean, noise, noise_levels("v_prediction", scheduler, timesteps))
    torch.testing.assert_close(found, scheduler.get_velocity(clean, noise, timesteps))


def test_flow_target_leads_from_motion_to_noise():
    clean, noise = randn(2, 3, 4), randn(2, 3, 4, seed=1)
    levels = noise_levels(FLOW_PREDICTION, FlowMatchEulerDiscreteScheduler(), torch.tensor([249, 999]))
    flow = prediction_target(FLOW_PREDICTION, clean, noise, levels)
    noisy = add_noise(clean, noise, levels)
    torch.testing.assert_close(noisy[0] + 0.75 * flow[0], noise[0])
    torch.testing.assert_close(noisy[1], noise[1])


def test_targets_are_float32_whatever_they_come_from():
    motion, levels = randn(2, 3, 4).bfloat16(), levels_of(0.8, 0.6)
    for prediction_type in PREDICTION_TYPES:
        assert prediction_target(prediction_type, motion, motion, levels).dtype == torch.float32
        assert clean_from_prediction(prediction_type, motion, motion, levels).dtype == torch.float32


def test_small_motion_is_not_bounded_and_large_is_scaled_to_one():
    small = randn(2, 3, 40).tanh()
    assert torch.equal(bound_motion(small), small)
    large = torch.stack([small[0], 1000 * small[1]])
    bounded = bound_motion(large)
    assert torch.equal(bounded[0], small[0]) and bounded.abs().max() == 1
    assert (bounded[1].abs() == 1).float().mean() == pytest.approx(0.1, abs=0.02)


@given(timestep=st.integers(0, 999), gamma=st.floats(0.1, 100))
@settings(max_examples=50, deadline=None)
def test_snr_weights_equal_the_published_formula(timestep, gamma):
    scheduler, steps = DAWNDDIMScheduler(), torch.tensor([timestep])
    alpha = float(scheduler.alphas_cumprod[timestep].double())
    snr = alpha / (1 - alpha)
    expected = {
        "epsilon": min(snr, gamma) / snr,
        "v_prediction": min(snr, gamma) / (snr + 1),
        "sample": min(snr, gamma),
    }
    for prediction_type, weight in expected.items():
        found = snr_weights(noise_levels(prediction_type, scheduler, steps), prediction_type, gamma)
        # 1 - alpha has few digits left where there is hardly any noise
        assert found.item() == pytest.approx(weight, rel=1e-3), prediction_type


def test_snr_weights_weigh_the_same_error_of_the_motion_alike():
    clean, noise, error = randn(1, 3, 4, 8, 8, seed=1), randn(1, 3, 4, 8, 8, seed=2), randn(1, 3, 4, 8, 8)
    wrong = clean + error
    for prediction_type in PREDICTION_TYPES:
        levels = noise_levels(prediction_type, scheduler_of(prediction_type), torch.tensor([400]))
        # the noise that would explain the noisy motion if the motion were the wrong one
        implied = (add_noise(clean, noise, levels) - levels.signal * wrong) / levels.sigma
        difference = prediction_target(prediction_type, wrong, implied, levels) - prediction_target(
            prediction_type, clean, noise, levels
        )
        found = snr_weights(levels, prediction_type, 5.0) * difference.square().mean()
        snr = (levels.signal / levels.sigma).square().clamp(max=5)
        torch.testing.assert_close(found, snr * error.square().mean(), rtol=1e-4, atol=0)


@given(timestep=st.integers(0, 999), shift=st.floats(0.1, 20))
def test_shifted_timestep_is_one_of_the_steps_and_1_moves_none(timestep, shift):
    assert shifted_timestep(timestep, 1.0, 1000) == timestep
    shifted = shifted_timestep(timestep, shift, 1000)
    assert 0 <= shifted < 1000
    assert shifted >= timestep if shift >= 1 else shifted <= timestep


def test_shifted_timesteps_median_is_the_documented_one():
    shifted = [shifted_timestep(timestep, 4.0, 1000) for timestep in range(1000)]
    assert sorted(shifted)[500] == pytest.approx(800, abs=1)


def test_snr_weights_are_finite_without_signal_and_without_noise():
    for prediction_type in PREDICTION_TYPES:
        levels = NoiseLevels(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0, 999]))
        weights = snr_weights(levels, prediction_type, 5.0)
        assert weights.isfinite().all() and (weights >= 0).all()


def test_unknown_prediction_types_are_refused():
    motion, levels = randn(2, 3), levels_of(0.8, 0.6)
    for call in (
        lambda: noise_levels("flow", DAWNDDIMScheduler(), torch.tensor([0])),
        lambda: prediction_target("flow", motion, motion, levels),
        lambda: clean_from_prediction("flow", motion, motion, levels),
        lambda: snr_weights(levels, "flow", 5.0),
    ):
        with pytest.raises(ValueError, match="`prediction_type` is 'flow', must be one of 'epsilon', 'v_prediction'"):
            call()


def test_shapes_that_do_not_fit_are_refused():
    motion = randn(2, 3)
    for function in (prediction_target, clean_from_prediction, lambda _, *inputs: add_noise(*inputs)):
        with pytest.raises(ValueError, match="`levels`"):
            function("epsilon", motion[:1], motion[:1], levels_of(0.8, 0.6))
        with pytest.raises(ValueError, match="must be equal"):
            function("epsilon", motion, motion[:1], levels_of(0.8, 0.6))
    with pytest.raises(ValueError, match="`gamma` is 0, must be positive"):
        snr_weights(levels_of(0.8, 0.6), "epsilon", 0)
