import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.sampling.prediction import (
    FLOW_PREDICTION,
    NOISE_PREDICTIONS,
    PREDICTION_TYPES,
    NoiseLevel,
    add_noise,
    prediction_target,
)
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from training.objectives.noise_levels import noise_levels, shifted_timestep, snr_weights


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scheduler_of(prediction_type: str) -> object:
    return FlowMatchEulerDiscreteScheduler() if prediction_type == FLOW_PREDICTION else DAWNDDIMScheduler()


def test_flow_is_at_pure_noise_in_the_last_step_and_others_follow_their_scheduler():
    timesteps = torch.tensor([249, 999])
    level, time = noise_levels(FLOW_PREDICTION, FlowMatchEulerDiscreteScheduler(), timesteps)  # whose own times fall
    torch.testing.assert_close(level.sigma, torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(level.signal, torch.tensor([0.75, 0.0]))
    assert time.tolist() == [250, 1000]
    for prediction_type in NOISE_PREDICTIONS:
        scheduler = DAWNDDIMScheduler()
        level, time = noise_levels(prediction_type, scheduler, timesteps)
        torch.testing.assert_close(level.signal.square(), scheduler.alphas_cumprod[timesteps])
        torch.testing.assert_close(level.signal.square() + level.sigma.square(), torch.ones(2))
        assert torch.equal(time, timesteps)


@given(timestep=st.integers(0, 999), gamma=st.floats(0.1, 100))
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
        found = snr_weights(noise_levels(prediction_type, scheduler, steps)[0], prediction_type, gamma)
        # 1 - alpha has few digits left where there is hardly any noise
        assert found.item() == pytest.approx(weight, rel=1e-3), prediction_type


def test_snr_weights_weigh_the_same_error_of_the_motion_alike():
    clean, noise, error = randn(1, 3, 4, 8, 8, seed=1), randn(1, 3, 4, 8, 8, seed=2), randn(1, 3, 4, 8, 8)
    wrong = clean + error
    for prediction_type in PREDICTION_TYPES:
        level, _ = noise_levels(prediction_type, scheduler_of(prediction_type), torch.tensor([400]))
        # the noise that would explain the noisy motion if the motion were the wrong one
        implied = (add_noise(clean, noise, level) - level.signal * wrong) / level.sigma
        difference = prediction_target(prediction_type, wrong, implied, level) - prediction_target(
            prediction_type, clean, noise, level
        )
        found = snr_weights(level, prediction_type, 5.0) * difference.square().mean()
        snr = (level.signal / level.sigma).square().clamp(max=5)
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
        level = NoiseLevel(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        weights = snr_weights(level, prediction_type, 5.0)
        assert weights.isfinite().all() and (weights >= 0).all()


def test_unknown_prediction_types_and_weights_are_refused():
    level = NoiseLevel(torch.tensor([0.8]), torch.tensor([0.6]))
    for call in (
        lambda: noise_levels("flow", DAWNDDIMScheduler(), torch.tensor([0])),
        lambda: snr_weights(level, "flow", 5.0),
    ):
        with pytest.raises(ValueError, match="`prediction_type` is 'flow', must be one of 'epsilon', 'v_prediction'"):
            call()
    with pytest.raises(ValueError, match="`gamma` is 0, must be positive"):
        snr_weights(level, "epsilon", 0)
