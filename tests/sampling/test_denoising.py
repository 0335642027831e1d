"""Predictions for all frames, in one window and in several, of the tiny denoiser with random weights."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from diffusers_dawn import DAWNDDIMScheduler
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.geometry.frame_windows import plan_windows
from diffusers_dawn.sampling.conditions import Conditions, null_conditions
from diffusers_dawn.sampling.denoising import ClipContexts, StepCache, predict, step_arguments
from diffusers_dawn.sampling.guidance import Guidance, guidance_of

UNGUIDED = Guidance()
NUM_FRAMES, TIMESTEP = 30, torch.tensor(500)


@pytest.fixture(scope="module")
def denoiser():
    return random_pipeline("tiny").unet


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def references(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return noise(batch, 32, 16, 16, seed=1), noise(batch, 16, 16, 16, seed=2)


def conditions(batch: int) -> Conditions:
    return Conditions(*(noise(batch, NUM_FRAMES, width, seed=width) for width in (32, 6, 2)))


def window_contexts(denoiser, batch: int = 1, guidance: Guidance = UNGUIDED, window_frames: int = 12) -> ClipContexts:
    windows = plan_windows(NUM_FRAMES, window_frames, 4)
    return ClipContexts(denoiser, *references(batch), conditions(batch), windows, guidance)


def one_window(denoiser, part: Conditions, guidance: Guidance = UNGUIDED) -> ClipContexts:
    batch, num_frames = part.pose.shape[:2]
    return ClipContexts(denoiser, *references(batch), part, plan_windows(num_frames, num_frames, 0), guidance)


@pytest.mark.parametrize("window_frames", [12, NUM_FRAMES])
@pytest.mark.parametrize("batch", [1, 2])
def test_context_of_a_window_is_that_of_its_frames(denoiser, batch, window_frames):
    contexts = window_contexts(denoiser, batch, guidance=Guidance(2, 2, 2), window_frames=window_frames)
    for window in contexts.windows.slices:
        own = Conditions(*(condition[:, window] for condition in conditions(batch)))
        for found, part in zip(contexts.of_window(window), (own, null_conditions(own)), strict=True):
            expected = denoiser.prepare_context(*references(batch), *part)
            torch.testing.assert_close(found.reference, expected.reference)
            for block, expected_block in zip(found.conditions, expected.conditions, strict=True):
                for tensor, expected_tensor in zip(block, expected_block, strict=True):
                    torch.testing.assert_close(tensor, expected_tensor)


def test_what_windows_have_in_common_is_made_once(denoiser):
    contexts = window_contexts(denoiser, guidance=Guidance(2, 2, 2))
    (first, null), (second, same_null) = (contexts.of_window(window) for window in contexts.windows.slices[:2])
    assert first.reference is second.reference
    assert null is same_null


def test_without_guidance_there_is_no_null_context(denoiser):
    contexts = window_contexts(denoiser)
    assert len(contexts.of_window(contexts.windows.slices[0])) == 1


@pytest.mark.parametrize("guidance_scale", [1.0, 1.7, {"speech": 2, "blink": 0.5}])
@pytest.mark.parametrize("batch", [1, 2])
def test_prediction_is_the_weighted_sum_of_the_windows_own(denoiser, guidance_scale, batch):
    guidance = guidance_of(guidance_scale)
    contexts = window_contexts(denoiser, batch, guidance=guidance)
    latents = noise(batch, 3, NUM_FRAMES, 16, 16)
    found = predict(denoiser, latents, TIMESTEP, contexts, guidance_scale)
    expected = torch.zeros_like(latents)
    for window, weights in zip(contexts.windows.slices, contexts.windows.weights(), strict=True):
        part = Conditions(*(condition[:, window] for condition in conditions(batch)))
        own = one_window(denoiser, part, guidance=guidance)
        prediction = predict(denoiser, latents[:, :, window], TIMESTEP, own, guidance_scale)
        expected[:, :, window] += weights[:, None, None] * prediction
    torch.testing.assert_close(found, expected)


def test_one_window_gives_exactly_what_the_denoiser_gives(denoiser):
    latents = noise(1, 3, NUM_FRAMES, 16, 16)
    context = denoiser.prepare_context(*references(1), *conditions(1))
    expected = denoiser(latents, TIMESTEP, context=context).sample
    contexts = one_window(denoiser, conditions(1))
    assert torch.equal(predict(denoiser, latents, TIMESTEP, contexts), expected)
    assert contexts.of_window(slice(0, NUM_FRAMES))[0] is contexts.of_window(slice(0, NUM_FRAMES))[0]


def test_guidance_goes_from_the_null_condition_through_the_conditions(denoiser):
    latents = noise(1, 3, NUM_FRAMES, 16, 16)
    conditioned, null = (
        predict(denoiser, latents, TIMESTEP, one_window(denoiser, part))
        for part in (conditions(1), null_conditions(conditions(1)))
    )
    both = one_window(denoiser, conditions(1), guidance=Guidance(2, 2, 2))
    torch.testing.assert_close(predict(denoiser, latents, TIMESTEP, both, 1.5), null + 1.5 * (conditioned - null))


def test_each_window_is_reported_when_it_is_done(denoiser):
    calls = []
    contexts = window_contexts(denoiser)
    latents = noise(1, 3, NUM_FRAMES, 16, 16)
    predict(denoiser, latents, TIMESTEP, contexts, on_window_end=lambda: calls.append(1))
    assert len(calls) == len(contexts.windows.slices) == 4


@pytest.mark.parametrize("window_frames", [12, NUM_FRAMES])
def test_cached_steps_use_what_the_deep_levels_made_of_the_same_window_and_condition(denoiser, window_frames):
    contexts = window_contexts(denoiser, guidance=Guidance(2, 2, 2), window_frames=window_frames)
    latents, cache = noise(1, 3, NUM_FRAMES, 16, 16), StepCache(2)
    exact = predict(denoiser, latents, TIMESTEP, contexts, 1.5)
    for index in range(3):
        cache.begin_step(index)
        # of equal inputs the features are those that the deep levels would make again
        torch.testing.assert_close(predict(denoiser, latents, TIMESTEP, contexts, 1.5, cache=cache), exact)


def test_every_second_step_leaves_the_deep_levels_out(denoiser):
    ran, cache = [], StepCache(2)
    contexts = one_window(denoiser, conditions(1))
    handle = denoiser.middle.register_forward_hook(lambda *_: ran.append(index))
    for index in range(5):
        cache.begin_step(index)
        predict(denoiser, noise(1, 3, NUM_FRAMES, 16, 16, seed=index), TIMESTEP, contexts, cache=cache)
    handle.remove()
    assert ran == [0, 2, 4]


def test_latents_are_not_changed(denoiser):
    latents = noise(1, 3, NUM_FRAMES, 16, 16)
    predict(denoiser, latents, TIMESTEP, window_contexts(denoiser))
    assert torch.equal(latents, noise(1, 3, NUM_FRAMES, 16, 16))


def test_scheduler_gets_only_what_its_step_takes():
    generator = torch.Generator()
    assert step_arguments(DAWNDDIMScheduler(), generator, 0.5) == {"generator": generator, "eta": 0.5}
    assert step_arguments(DDIMScheduler(), None, 1.0) == {"generator": None, "eta": 1.0}
    assert step_arguments(EulerDiscreteScheduler(), generator, 0.5) == {"generator": generator}


def test_conditions_are_weighed_apart(denoiser):
    latents, own = noise(1, 3, NUM_FRAMES, 16, 16), conditions(1)

    def alone(*kept: bool) -> torch.Tensor:
        part = Conditions(*(c if keep else torch.zeros_like(c) for c, keep in zip(own, kept, strict=True)))
        return predict(denoiser, latents, TIMESTEP, one_window(denoiser, part))

    full, mute, still = alone(True, True, True), alone(False, True, True), alone(True, False, True)
    scale = {"speech": 3.0, "pose": 0.0}
    contexts = one_window(denoiser, own, guidance_of(scale))
    assert contexts.num_calls == 3
    found = predict(denoiser, latents, TIMESTEP, contexts, scale)
    torch.testing.assert_close(found, full + 2 * (full - mute) - (full - still))


def test_a_weight_of_one_costs_no_call_and_equal_weights_cost_one():
    assert guidance_of(1).left_out == guidance_of({}).left_out == guidance_of({"blink": 1.0}).left_out == ()
    assert guidance_of(2.0) == guidance_of({"speech": 2, "pose": 2, "blink": 2}) == Guidance(2, 2, 2)
    assert len(guidance_of(2.0).left_out) == 1 and len(guidance_of({"speech": 2}).left_out) == 1
    assert len(guidance_of({"speech": 2, "pose": 3, "blink": 0}).left_out) == 3


def test_weights_that_were_equal_cannot_be_set_apart_within_a_clip(denoiser):
    contexts = one_window(denoiser, conditions(1), Guidance(2, 2, 2))
    latents = noise(1, 3, NUM_FRAMES, 16, 16)
    with pytest.raises(ValueError, match="were equal; they cannot be set apart"):
        predict(denoiser, latents, TIMESTEP, contexts, {"speech": 2})
