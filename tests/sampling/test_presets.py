import pytest
from diffusers import DDIMScheduler, UniPCMultistepScheduler

from diffusers_dawn.sampling.presets import CLEAN_PRESETS, DEFAULT_PRESET, PRESETS, choose_sampling, presets_of
from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS
from diffusers_dawn.sampling.scheduler_times import set_timesteps
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler


@pytest.mark.parametrize("presets", [PRESETS, CLEAN_PRESETS])
def test_the_default_takes_at_most_ten_calls_and_fast_fewer(presets):
    steps = {name: preset.num_inference_steps for name, preset in presets.items()}
    assert steps["fast"] < steps[DEFAULT_PRESET] < steps["quality"]
    assert steps[DEFAULT_PRESET] <= 10
    assert presets.keys() == PRESETS.keys()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", PRESETS)
def test_ddim_of_a_preset_begins_at_pure_noise_whatever_the_config_says(name, prediction_type):
    own = DAWNDDIMScheduler(prediction_type=prediction_type, timestep_spacing="leading")
    sampling = choose_sampling(own, name)
    times = set_timesteps(sampling.scheduler, "cpu", sampling.num_inference_steps)
    preset = presets_of(own)[name]
    assert len(times) == preset.num_inference_steps
    assert int(times[0]) == {"ddim": 999, "dawn": 952}[preset.scheduler]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_preset_has_the_noise_levels_and_the_prediction_of_the_checkpoint(name, prediction_type):
    own = DAWNDDIMScheduler(prediction_type=prediction_type)
    sampling = choose_sampling(own, name)
    preset = presets_of(own)[name]
    assert type(sampling.scheduler).__name__ == SCHEDULERS[preset.scheduler]
    assert sampling.scheduler is not own
    assert sampling.scheduler.config.prediction_type == prediction_type
    # the last of a thousand levels depends on the largest beta, .999 or .9999
    assert sampling.scheduler.alphas_cumprod == pytest.approx(own.alphas_cumprod, abs=1e-6)
    assert (sampling.num_inference_steps, sampling.eta) == (preset.num_inference_steps, preset.eta)


def test_quality_is_the_published_sampler():
    assert PRESETS["quality"] == ("dawn", 20, 1.0)


def test_without_steps_the_checkpoints_scheduler_gives_way_to_the_default_preset():
    assert choose_sampling(DAWNDDIMScheduler())[1:] == choose_sampling(DAWNDDIMScheduler(), DEFAULT_PRESET)[1:]


@pytest.mark.parametrize("given", [{"num_inference_steps": 7}, {"timesteps": [900, 400]}, {"sigmas": [3.0, 1.0]}])
def test_steps_of_ones_own_go_with_the_pipelines_scheduler(given):
    own = DAWNDDIMScheduler()
    sampling = choose_sampling(own, **given)
    assert sampling.scheduler is own and sampling.eta == 1.0
    assert {name: getattr(sampling, name) for name in given} == given


def test_a_scheduler_of_ones_own_is_always_used():
    own = UniPCMultistepScheduler.from_config(DAWNDDIMScheduler().config)
    assert choose_sampling(own).scheduler is own
    assert choose_sampling(own).num_inference_steps == PRESETS[DEFAULT_PRESET].num_inference_steps
    # asked for by name, a preset replaces it
    assert isinstance(choose_sampling(own, "quality").scheduler, DAWNDDIMScheduler)


def test_other_samplers_add_no_fresh_noise_unless_asked():
    own = DDIMScheduler.from_config(DAWNDDIMScheduler().config)
    assert choose_sampling(own, num_inference_steps=5).eta == 0.0
    assert choose_sampling(own, num_inference_steps=5, eta=1.0).eta == 1.0


def test_the_published_sampler_is_known_wherever_its_class_was_loaded_from():
    copy = type("DAWNDDIMScheduler", (DDIMScheduler,), {}).from_config(DAWNDDIMScheduler().config)
    assert choose_sampling(copy)[1:] == choose_sampling(DAWNDDIMScheduler(), DEFAULT_PRESET)[1:]
    assert choose_sampling(copy, num_inference_steps=3).eta == 1.0


def test_fresh_noise_may_be_chosen_beside_a_preset():
    assert choose_sampling(DDIMScheduler(), "quality", eta=0.5).eta == 0.5


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="`preset` is 'best', must be one of quality, balanced, fast"):
        choose_sampling(DAWNDDIMScheduler(), "best")


def test_a_preset_and_steps_are_refused_together():
    with pytest.raises(ValueError, match="either `preset`, which has its own steps, or `num_inference_steps`"):
        choose_sampling(DAWNDDIMScheduler(), "fast", num_inference_steps=3)
