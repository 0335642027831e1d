import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

PUBLISHED_TIMES = [952, 904, 857, 809, 761, 714, 666, 619, 571, 523, 476, 428, 380, 333, 285, 238, 190, 142, 95, 47]
SHAPE = (2, 3, 4, 8, 8)


def make_scheduler(num_inference_steps: int = 20, **config) -> DAWNDDIMScheduler:
    scheduler = DAWNDDIMScheduler(**config)
    scheduler.set_timesteps(num_inference_steps)
    return scheduler


def noise(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def threshold(sample: torch.Tensor, **config) -> torch.Tensor:
    # a prediction of the clean sample itself comes back thresholded
    scheduler = make_scheduler(prediction_type="sample", **config)
    return scheduler.step(sample, 952, torch.zeros_like(sample)).pred_original_sample


def test_twenty_steps_have_the_published_times():
    assert make_scheduler().timesteps.tolist() == PUBLISHED_TIMES


@pytest.mark.parametrize("num_inference_steps", [1, 2, 7, 50, 250, 999])
def test_any_number_of_steps_gives_as_many_falling_times(num_inference_steps):
    times = make_scheduler(num_inference_steps).timesteps.tolist()
    assert len(times) == num_inference_steps
    assert all(a > b for a, b in zip(times, times[1:], strict=False))
    assert times[0] < 1000
    assert times[-1] >= 1


def test_own_times_are_taken():
    scheduler = DAWNDDIMScheduler()
    scheduler.set_timesteps(timesteps=PUBLISHED_TIMES)
    assert scheduler.num_inference_steps == 20
    steps = [scheduler.step(noise(), time, noise(1)).prev_sample for time in (952, 47)]
    assert all(
        torch.equal(step, make_scheduler().step(noise(), time, noise(1))[0])
        for step, time in zip(steps, (952, 47), strict=True)
    )


def test_levels_are_those_of_the_cosine_schedule():
    scheduler = DAWNDDIMScheduler()

    def level(time: int) -> float:
        return math.cos((time / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = torch.tensor([level(time) / level(0) for time in range(1, 1000)])
    torch.testing.assert_close(scheduler.alphas_cumprod[:-1], expected, atol=1e-7, rtol=1e-5)  # rounding to float32
    assert scheduler.betas[-1] == torch.tensor(0.9999)


def test_threshold_is_at_least_one():
    sample = 0.9 * torch.rand(SHAPE, generator=generator()) - 0.45
    assert torch.equal(threshold(sample), sample)


def test_threshold_works_where_torch_quantile_does_not():
    size = 2**24 + 1
    sample = torch.arange(size, dtype=torch.float32).mul_(10 / size)[None]
    with pytest.raises(RuntimeError, match="too large"):
        sample.quantile(0.9)
    # the 90th percentile of an even spread over [0, 10] is 9; the tail is clipped to 1
    result = threshold(sample)
    assert result.max() == 1
    torch.testing.assert_close(result[0, 1000], sample[0, 1000] / 9, atol=0, rtol=1e-5)


def test_without_threshold_the_clean_sample_is_clipped_or_left():
    sample = 3 * noise()
    assert torch.equal(threshold(sample, thresholding=False), sample.clamp(-1, 1))
    assert torch.equal(threshold(sample, thresholding=False, clip_sample_range=2.0), sample.clamp(-2, 2))
    assert torch.equal(threshold(sample, thresholding=False, clip_sample=False), sample)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("time", PUBLISHED_TIMES[::6])
def test_epsilon_v_and_sample_predictions_of_one_motion_give_one_step(time, eta):
    clean, noise_ = torch.rand(SHAPE, generator=generator(3)) * 2 - 1, noise(1)
    level = DAWNDDIMScheduler().alphas_cumprod[time]
    sample = level.sqrt() * clean + (1 - level).sqrt() * noise_
    predictions = {
        "epsilon": noise_,
        "sample": clean,
        "v_prediction": level.sqrt() * noise_ - (1 - level).sqrt() * clean,
    }
    for prediction_type, prediction in predictions.items():
        scheduler = make_scheduler(prediction_type=prediction_type)
        step = scheduler.step(prediction, time, sample, eta=eta, variance_noise=noise(2))
        expected = make_scheduler().step(noise_, time, sample, eta=eta, variance_noise=noise(2))
        # at time 952 the signal is 0.07 of the sample, which amplifies float32 rounding
        torch.testing.assert_close(step.pred_original_sample, clean, atol=1e-4, rtol=0)
        torch.testing.assert_close(step.prev_sample, expected.prev_sample, atol=1e-4, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("time", "next_time"), [(999, 952), (953, 952), (951, 904), (48, 47), (46, None), (1, None)])
def test_step_from_a_time_between_those_of_the_schedule_goes_to_the_one_before(time, next_time, eta):
    own = DAWNDDIMScheduler()
    own.set_timesteps(timesteps=[time] if next_time is None else [time, next_time])
    steps = [
        scheduler.step(noise(), time, noise(1), eta=eta, generator=generator()).prev_sample
        for scheduler in (make_scheduler(), own)
    ]
    assert torch.equal(*steps)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_step_from_time_zero_ends_at_the_clean_sample(eta):
    step = make_scheduler().step(noise(), 0, noise(1), eta=eta, generator=generator())
    assert torch.equal(step.prev_sample, step.pred_original_sample)
    assert step.prev_sample.isfinite().all()


def test_last_step_ends_at_the_clean_sample():
    step = make_scheduler().step(noise(), 47, noise(1), eta=1.0, generator=generator())
    torch.testing.assert_close(step.prev_sample, step.pred_original_sample, atol=0, rtol=0)


def test_direction_from_clipped_sample_equals_that_from_prediction_where_nothing_is_clipped():
    clean, level = torch.full(SHAPE, 0.5), DAWNDDIMScheduler().alphas_cumprod[476]
    sample = level.sqrt() * clean + (1 - level).sqrt() * noise()
    steps = [
        make_scheduler().step(noise(), 476, sample, use_clipped_model_output=clipped)[0] for clipped in (True, False)
    ]
    torch.testing.assert_close(*steps, atol=1e-5, rtol=0)  # noise recovered from the sum, float32
    differing = [
        make_scheduler().step(noise(), 476, 4 * sample, use_clipped_model_output=clipped)[0]
        for clipped in (True, False)
    ]
    assert (differing[0] - differing[1]).abs().max() > 0.1


def test_equal_generators_give_equal_steps_and_others_do_not():
    first, second, other = (
        make_scheduler().step(noise(), 952, noise(1), eta=1.0, generator=generator(seed)).prev_sample
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_list_of_generators_gives_each_sample_its_own_noise():
    step = make_scheduler().step(noise(), 952, noise(1), eta=1.0, generator=[generator(5), generator(6)]).prev_sample
    for index in range(2):
        alone = make_scheduler().step(
            noise()[index : index + 1], 952, noise(1)[index : index + 1], eta=1.0, generator=generator(5 + index)
        )
        assert torch.equal(step[index : index + 1], alone.prev_sample)


def test_eta_zero_needs_no_noise_and_its_result_does_not_depend_on_it():
    source = generator()
    before = source.get_state()
    step = make_scheduler().step(noise(), 952, noise(1), eta=0.0, generator=source).prev_sample
    assert torch.equal(source.get_state(), before)
    assert torch.equal(step, make_scheduler().step(noise(), 952, noise(1)).prev_sample)


def test_steps_as_tuple_equal_those_as_output():
    output = make_scheduler().step(noise(), 952, noise(1))
    as_tuple = make_scheduler().step(noise(), 952, noise(1), return_dict=False)
    assert torch.equal(as_tuple[0], output.prev_sample)
    assert torch.equal(as_tuple[1], output.pred_original_sample)


@pytest.mark.parametrize("class_name", sorted(set(SCHEDULERS.values()) - {"DAWNDDIMScheduler"}))
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_schedule_and_prediction_type_carry_over(class_name, prediction_type):
    scheduler = getattr(diffusers, class_name).from_config(DAWNDDIMScheduler(prediction_type=prediction_type).config)
    assert scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert scheduler.config.prediction_type == prediction_type
    if not class_name.startswith("FlowMatch"):  # those have levels of their own
        # all but the last level, where diffusers clips at 0.999 instead of 0.9999
        expected = DAWNDDIMScheduler().alphas_cumprod
        torch.testing.assert_close(scheduler.alphas_cumprod[:-1].float(), expected[:-1], atol=1e-6, rtol=1e-3)
    back = DAWNDDIMScheduler.from_config(scheduler.config)
    assert back.config.prediction_type == prediction_type
    assert back.config.thresholding
    assert back.config.sample_max_value is None


def test_saved_scheduler_loads_with_equal_config_and_steps(tmp_path):
    scheduler = make_scheduler(prediction_type="v_prediction", dynamic_thresholding_ratio=0.8)
    scheduler.save_pretrained(tmp_path)
    loaded = DAWNDDIMScheduler.from_pretrained(tmp_path)
    for name, value in scheduler.config.items():
        assert name.startswith("_") or loaded.config[name] == value
    loaded.set_timesteps(20)
    assert torch.equal(loaded.step(noise(), 952, noise(1))[0], scheduler.step(noise(), 952, noise(1))[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beta_schedule", "linear"),
        ("set_alpha_to_one", False),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_other_schedules_are_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is"):
        DAWNDDIMScheduler(**{name: value})


@pytest.mark.parametrize("kind", [list, np.array])
def test_own_betas_take_the_place_of_the_cosine_schedule_and_are_saved(tmp_path, kind):
    betas = np.linspace(1e-4, 0.02, 1000).tolist()
    scheduler = DAWNDDIMScheduler(trained_betas=kind(betas))
    usual = DDIMScheduler(beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(scheduler.alphas_cumprod, usual.alphas_cumprod)
    scheduler.save_pretrained(tmp_path)
    assert torch.equal(DAWNDDIMScheduler.from_pretrained(tmp_path).alphas_cumprod, scheduler.alphas_cumprod)


def test_steps_by_too_few_betas_are_refused():
    with pytest.raises(ValueError, match="`trained_betas` has 2 values, must have `num_train_timesteps`, 1000"):
        DAWNDDIMScheduler(trained_betas=[0.1, 0.2]).set_timesteps(10)


@pytest.mark.parametrize("arguments", [{}, {"num_inference_steps": 2, "timesteps": [900, 100]}])
def test_neither_and_both_of_number_and_times_are_refused(arguments):
    with pytest.raises(ValueError, match="either `num_inference_steps` or `timesteps`"):
        DAWNDDIMScheduler().set_timesteps(**arguments)


@pytest.mark.parametrize("num_inference_steps", [-1, 0, 1000])
def test_numbers_of_steps_out_of_range_are_refused(num_inference_steps):
    with pytest.raises(ValueError, match=r"`num_inference_steps` is .* \[1, 999\]"):
        DAWNDDIMScheduler().set_timesteps(num_inference_steps)


@pytest.mark.parametrize("timesteps", [[], [1000, 5], [500, 0], [100, 200], [300, 300]])
def test_times_out_of_range_or_order_are_refused(timesteps):
    with pytest.raises(ValueError, match="`timesteps` must fall"):
        DAWNDDIMScheduler().set_timesteps(timesteps=timesteps)


def test_step_before_times_is_refused():
    with pytest.raises(ValueError, match="set_timesteps"):
        DAWNDDIMScheduler().step(noise(), 952, noise())


@pytest.mark.parametrize("time", [-1, 1000])
def test_times_outside_of_training_are_refused(time):
    with pytest.raises(ValueError, match=rf"`timestep` is {time}, must be in \[0, 999\]"):
        make_scheduler().step(noise(), time, noise())


def test_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="`prediction_type` is 'flow'"):
        make_scheduler(prediction_type="flow").step(noise(), 952, noise())
