import inspect
import math

import diffusers
import pytest
import torch

from diffusers_dawn.sampling.noise_path import NoisePath
from diffusers_dawn.sampling.prediction import FLOW_PREDICTION, NOISE_PREDICTIONS
from diffusers_dawn.sampling.scheduler_choice import (
    SCHEDULERS,
    allow_long_clips,
    check_scheduler,
    make_scheduler,
    set_timesteps,
)
from diffusers_dawn.sampling.scheduler_training import (
    follows_flow,
    is_edm,
    tell_training,
    training_config,
)
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

CPU = torch.device("cpu")
# diffusers gives these no prediction of the clean sample, or diverges by its errors
WITHOUT_SAMPLE = {"euler-a", "kdpm2", "pndm", "flow-heun"}
FLOW_MATCHING = {"flow-euler", "flow-heun"}
# of diffusers' general solvers, those that can follow a flow
WITH_FLOW_SIGMAS = {"dpm++", "dpm++-single", "unipc"}
FLOW_CONFIG = training_config(diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0))
SHAPE = (1, 3, 4, 8, 8)


def published_config(prediction_type: str = "epsilon") -> dict:
    return DAWNDDIMScheduler(prediction_type=prediction_type).config


def level_at(time: float) -> float:
    """Signal level of the cosine schedule at a time that need not be whole."""
    return min(
        1.0,
        math.cos(((time + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2,
    )


def sample_exactly(scheduler: object, data: torch.Tensor, num_inference_steps: int) -> torch.Tensor:
    """Denoise as `DAWNPipeline.denoise` does, with what a perfect model of one motion would predict."""
    accepted = inspect.signature(scheduler.step).parameters
    given = {"generator": torch.Generator().manual_seed(1), "eta": 1.0}
    step_kwargs = {name: value for name, value in given.items() if name in accepted}
    timesteps = set_timesteps(scheduler, CPU, num_inference_steps)
    latents = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    latents *= getattr(scheduler, "init_noise_sigma", 1.0)
    path = NoisePath(scheduler, timesteps)
    prediction_type = training_config(scheduler)["prediction_type"]
    for index, timestep in enumerate(timesteps):
        model_input, time = path.to_denoiser(index, timestep, latents)
        if prediction_type == FLOW_PREDICTION:
            signal, sigma = 1 - float(time) / 1000, float(time) / 1000
        else:
            signal, sigma = math.sqrt(level_at(float(time))), math.sqrt(1 - level_at(float(time)))
        noise = (model_input - signal * data) / sigma
        predictions = {
            "epsilon": noise,
            "v_prediction": signal * noise - sigma * data,
            "sample": data,
            FLOW_PREDICTION: noise - data,
        }
        prediction = path.to_scheduler(index, latents, predictions[prediction_type])
        latents = scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("num_inference_steps", [20, 50])
@pytest.mark.parametrize(
    ("name", "prediction_type"),
    [
        (name, prediction_type)
        for name in SCHEDULERS
        for prediction_type in NOISE_PREDICTIONS
        if prediction_type != "sample" or name not in WITHOUT_SAMPLE
    ],
)
def test_exact_prediction_of_one_motion_is_sampled_to_it(name, prediction_type, num_inference_steps):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    scheduler = make_scheduler(name, published_config(prediction_type))
    sample = sample_exactly(scheduler, data, num_inference_steps)
    # DEIS and SA stop at the noise of time 0, 0.0064 standard deviations (measured up to 0.027); the others at 0.002
    torch.testing.assert_close(sample, data, atol=0.04 if name in {"deis", "sa"} else 0.005, rtol=0)


@pytest.mark.parametrize("num_inference_steps", [4, 20])
@pytest.mark.parametrize("name", sorted(FLOW_MATCHING | WITH_FLOW_SIGMAS))
def test_exact_flow_to_one_motion_is_sampled_to_it(name, num_inference_steps):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    scheduler = make_scheduler(name, FLOW_CONFIG)
    assert scheduler.config.get("shift", scheduler.config.get("flow_shift")) == 2
    sample = sample_exactly(scheduler, data, num_inference_steps)
    torch.testing.assert_close(sample, data, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prediction_type", NOISE_PREDICTIONS)
@pytest.mark.parametrize("name", sorted(WITH_FLOW_SIGMAS))
def test_solvers_that_follow_a_flow_sample_denoisers_of_noise(name, prediction_type):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    solver = getattr(diffusers, SCHEDULERS[name])
    scheduler = solver.from_config(published_config(prediction_type), use_flow_sigmas=True)
    assert follows_flow(scheduler)
    sample = sample_exactly(scheduler, data, 20)
    torch.testing.assert_close(sample, data, atol=1e-3, rtol=0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_schedulers_of_edm_sample_denoisers_of_noise(name, prediction_type):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    scheduler = make_scheduler(name, published_config(prediction_type))
    torch.testing.assert_close(sample_exactly(scheduler, data, 20), data, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=f"{name} cannot sample DAWN: .*'sample' is none of epsilon, v_prediction"):
        make_scheduler(name, published_config("sample"))


def test_flow_matching_goes_through_the_same_motion_as_ddim():
    # both are the first order of one differential equation, between the same noise levels
    predicted = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    ddim, flow = make_scheduler("ddim", published_config()), make_scheduler("flow-euler", published_config())
    times = [900, 650, 400]
    levels = ddim.alphas_cumprod[times].double()
    sigmas = ((1 - levels).sqrt() / (levels.sqrt() + (1 - levels).sqrt())).tolist()
    set_timesteps(flow, CPU, 3, sigmas=sigmas)
    path, (signal, sigma) = NoisePath(flow, flow.timesteps), (levels[0].sqrt().item(), (1 - levels[0]).sqrt().item())
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))
    found = start / (signal + sigma)
    for index, time in enumerate(times[:2]):
        model_input, model_time = path.to_denoiser(index, flow.timesteps[index], found)
        assert float(model_time) == pytest.approx(time, abs=0.01)
        if index == 0:
            torch.testing.assert_close(model_input, start, atol=1e-5, rtol=1e-5)
        prediction = path.to_scheduler(index, found, predicted)
        found = flow.step(prediction, flow.timesteps[index], found, return_dict=False)[0]
    expected = start
    ddim.set_timesteps(4)  # the next time is 250 earlier
    for time in times[:2]:
        expected = ddim.step(predicted, time, expected, eta=0.0, use_clipped_model_output=True).prev_sample
    last = levels[2].sqrt().item() + (1 - levels[2]).sqrt().item()
    torch.testing.assert_close(found * last, expected, atol=1e-3, rtol=0)


def test_scheduler_for_flow_matching_keeps_what_it_was_told_of_the_training(tmp_path):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    assert training_config(scheduler)["prediction_type"] == FLOW_PREDICTION
    tell_training(scheduler, training_config(DAWNDDIMScheduler(prediction_type="sample")))
    scheduler.save_pretrained(tmp_path)
    loaded = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path)
    assert training_config(loaded)["prediction_type"] == "sample"
    tell_training(loaded, training_config(DAWNDDIMScheduler()))  # it knows
    assert training_config(loaded)["prediction_type"] == "sample"
    data = torch.full(SHAPE, 0.5)
    torch.testing.assert_close(sample_exactly(loaded, data, 4), data)


@pytest.mark.parametrize("name", ["heun", "kdpm2"])
def test_solvers_that_look_ahead_are_refused_from_pure_noise(name):
    config = published_config()
    for spacing in ("trailing", "linspace"):
        scheduler = make_scheduler(name, dict(config) | {"timestep_spacing": spacing})
        with pytest.raises(ValueError, match=f"{SCHEDULERS[name]} .* diverges from pure noise, where its times begin"):
            set_timesteps(scheduler, CPU, 10)
    assert len(set_timesteps(make_scheduler(name, config), CPU, 10)) == 19


@pytest.mark.parametrize("name", ["deis", "sa"])
def test_solvers_whose_flow_does_not_end_are_refused(name):
    with pytest.raises(ValueError, match=f"{SCHEDULERS[name]} cannot sample DAWN: .* stops before the noise is gone"):
        make_scheduler(name, FLOW_CONFIG)


def test_schedulers_of_noise_are_refused_for_a_denoiser_of_flow():
    for name in sorted(SCHEDULERS.keys() - FLOW_MATCHING - WITH_FLOW_SIGMAS - {"deis", "sa"}):
        with pytest.raises(ValueError, match=f"{SCHEDULERS[name]} cannot sample DAWN: the denoiser predicts flow"):
            make_scheduler(name, FLOW_CONFIG)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("invert_sigmas", "makes it run from motion to noise"),
        ("use_dynamic_shifting", "asks for the length of a sequence of tokens"),
        ("stochastic_sampling", "draws noise without the generator"),
    ],
)
def test_options_of_flow_matching_that_do_not_suit_are_refused(option, reason):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**{option: True})
    with pytest.raises(ValueError, match=f"`{option}` {reason}"):
        check_scheduler(scheduler)


@pytest.mark.parametrize("option", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])
def test_other_levels_beside_those_of_a_flow_are_refused_and_not_taken_over(option):
    config = published_config() | {"use_flow_sigmas": True, option: True}
    with pytest.raises(ValueError, match=f"`{option}` and `use_flow_sigmas` exclude each other"):
        check_scheduler(diffusers.UniPCMultistepScheduler.from_config(config))
    flow = diffusers.FlowMatchEulerDiscreteScheduler(**{option: True})
    check_scheduler(make_scheduler("unipc", training_config(flow)))


@pytest.mark.parametrize("levels", [[1.0, 0.5, 0.0], [1.2, 0.5], [0.3, 0.8]])
def test_levels_of_a_flow_fall_within_its_range(levels):
    scheduler = make_scheduler("flow-euler", published_config())
    with pytest.raises(ValueError, match=r"`sigmas` \[.* does not suit .*: noise must fall from at most 1"):
        set_timesteps(scheduler, CPU, 20, sigmas=levels)


def test_levels_are_taken_by_general_solvers_and_refused_by_those_that_mean_something_else():
    assert len(set_timesteps(make_scheduler("unipc", FLOW_CONFIG), CPU, 20, sigmas=[0.9, 0.5, 0.1])) == 3
    with pytest.raises(ValueError, match="`sigmas` cannot be given to EDMEulerScheduler"):
        set_timesteps(make_scheduler("EDMEulerScheduler", published_config()), CPU, 20, sigmas=[0.9, 0.5])


@pytest.mark.parametrize("name", ["unipc", "dpm++", "dpm++-single"])
def test_equal_whole_number_times_do_not_lead_a_flow_astray(name):
    data = torch.full(SHAPE, 0.5)
    config = training_config(diffusers.FlowMatchEulerDiscreteScheduler(shift=12.0))
    torch.testing.assert_close(sample_exactly(make_scheduler(name, config), data, 100), data, atol=1e-3, rtol=0)


def test_the_last_times_of_a_flow_are_told_as_they_are():
    scheduler = make_scheduler("flow-euler", published_config())
    timesteps = set_timesteps(scheduler, CPU, 4)
    latents = torch.zeros(SHAPE)
    _, whole = NoisePath(scheduler, timesteps).to_denoiser(2, timesteps[2], latents)
    _, last = NoisePath(scheduler, timesteps[2:]).to_denoiser(0, timesteps[2], latents)
    assert torch.equal(whole, last)
    with pytest.raises(ValueError, match="`timesteps` must be those of the scheduler, or its last ones"):
        NoisePath(scheduler, timesteps[:2])


def test_other_numbers_of_training_steps_are_refused():
    config = training_config(DAWNDDIMScheduler(num_train_timesteps=400))
    with pytest.raises(ValueError, match="has `num_train_timesteps` 1000, the denoiser learned 400"):
        tell_training(diffusers.FlowMatchEulerDiscreteScheduler(), config)


def test_schedulers_of_edm_are_told_of_the_training():
    scheduler = diffusers.EDMEulerScheduler()
    tell_training(scheduler, training_config(DAWNDDIMScheduler(prediction_type="v_prediction")))
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.config.thresholding
    check_scheduler(scheduler)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_steps_repeat_with_an_equal_generator(name):
    data = torch.zeros(SHAPE)
    first, second = (sample_exactly(make_scheduler(name, published_config()), data, 5) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_made_scheduler_is_of_the_named_class_with_the_published_levels(name):
    scheduler = make_scheduler(name, published_config())
    assert type(scheduler).__name__ == SCHEDULERS[name]
    check_scheduler(scheduler)
    if name in FLOW_MATCHING:
        assert training_config(scheduler)["beta_schedule"] == "squaredcos_cap_v2"
        return
    expected = DAWNDDIMScheduler().alphas_cumprod
    # diffusers clips the last beta at 0.999 instead of 0.9999
    torch.testing.assert_close(scheduler.alphas_cumprod[:-1].float(), expected[:-1], atol=1e-6, rtol=1e-3)


def test_class_names_of_diffusers_are_taken():
    assert isinstance(make_scheduler("LCMScheduler", published_config()), diffusers.LCMScheduler)


def test_every_scheduler_of_diffusers_is_either_refused_or_has_the_published_levels():
    expected = DAWNDDIMScheduler().alphas_cumprod[:-1]
    accepted = []
    for class_name in [name for name in dir(diffusers) if "Scheduler" in name]:
        try:
            scheduler = make_scheduler(class_name, published_config())
        except (ValueError, ImportError):
            continue
        accepted.append(class_name)
        if follows_flow(scheduler) or is_edm(scheduler):
            data = torch.full(SHAPE, 0.5)
            found = sample_exactly(scheduler, data, 10)
            torch.testing.assert_close(found, data, atol=1e-3, rtol=0, msg=class_name)
            continue
        torch.testing.assert_close(
            scheduler.alphas_cumprod[:-1].float(), expected, atol=1e-6, rtol=1e-3, msg=class_name
        )
    assert set(accepted) >= set(SCHEDULERS.values()) - {"DAWNDDIMScheduler"}


@pytest.mark.parametrize(
    ("class_name", "reason"),
    [
        ("LTXEulerAncestralRFScheduler", "made for another model"),
        ("CosineDPMSolverMultistepScheduler", "preconditioning"),
        ("UnCLIPScheduler", "unCLIP's own schedule"),
        ("IPNDMScheduler", "noise levels are fixed"),
        ("CMStochasticIterativeScheduler", "consistency model"),
        ("DDIMInverseScheduler", "from sample to noise"),
        ("DPMSolverMultistepInverseScheduler", "from sample to noise"),
        ("VQDiffusionScheduler", "discrete codes"),
        ("RePaintScheduler", "mask"),
        ("CogVideoXDDIMScheduler", "shifts the noise levels"),
        ("CogVideoXDPMScheduler", "shifts the noise levels"),
    ],
)
def test_schedulers_that_cannot_sample_are_refused_with_the_reason(class_name, reason):
    with pytest.raises(ValueError, match=rf"{class_name} cannot sample DAWN: .*{reason}"):
        make_scheduler(class_name, published_config())


@pytest.mark.parametrize(
    ("class_name", "reason"),
    [
        ("SCMScheduler", "made for another model"),
        ("UnCLIPScheduler", "unCLIP's own schedule"),
        ("IPNDMScheduler", "noise levels are fixed"),
    ],
)
def test_finished_schedulers_that_cannot_sample_are_refused_with_the_reason(class_name, reason):
    with pytest.raises(ValueError, match=rf"{class_name} cannot sample DAWN: .*{reason}"):
        check_scheduler(getattr(diffusers, class_name)())


@pytest.mark.parametrize("name", sorted(WITHOUT_SAMPLE - FLOW_MATCHING))
def test_prediction_types_that_a_scheduler_lacks_are_refused(name):
    with pytest.raises(ValueError, match=f"{SCHEDULERS[name]} cannot sample DAWN: .*'sample' is none of epsilon"):
        make_scheduler(name, published_config("sample"))


def test_heun_along_a_flow_is_refused_for_clean_motion():
    with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler cannot sample DAWN: .* clean motion"):
        make_scheduler("flow-heun", published_config("sample"))


def test_unknown_prediction_type_is_refused():
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction")
    with pytest.raises(ValueError, match="DPMSolverMultistepScheduler cannot sample DAWN: .* or `use_flow_sigmas`"):
        check_scheduler(scheduler)
    with pytest.raises(ValueError, match="DDIMScheduler cannot sample DAWN: .*'x' is none of epsilon"):
        check_scheduler(diffusers.DDIMScheduler(prediction_type="x"))


@pytest.mark.parametrize("name", ["fastest", "", "UNet2DModel", "SchedulerMixin", "NoSuchScheduler"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"`scheduler` is '{name}', must be one of dawn, ddim"):
        make_scheduler(name, published_config())


def test_times_are_set_by_number_by_times_or_by_levels():
    dawn = make_scheduler("dawn", published_config())
    assert len(set_timesteps(dawn, CPU, 7)) == 7
    assert set_timesteps(dawn, CPU, 20, timesteps=[900, 500, 100]).tolist() == [900, 500, 100]
    euler = make_scheduler("euler", published_config())
    assert len(set_timesteps(euler, CPU, 20, sigmas=[10.0, 1.0, 0.1, 0.0])) == 3


def test_times_and_levels_together_are_refused():
    with pytest.raises(ValueError, match="only one of `timesteps` and `sigmas`"):
        set_timesteps(DAWNDDIMScheduler(), CPU, 20, timesteps=[900], sigmas=[1.0])


@pytest.mark.parametrize(
    ("name", "argument"), [("dawn", "sigmas"), ("ddim", "timesteps"), ("ddim", "sigmas"), ("pndm", "timesteps")]
)
def test_times_and_levels_are_refused_by_schedulers_that_do_not_take_them(name, argument):
    scheduler = make_scheduler(name, published_config())
    with pytest.raises(ValueError, match=f"`{argument}` cannot be given to {SCHEDULERS[name]}"):
        set_timesteps(scheduler, CPU, 20, **{argument: [1]})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_thresholding_schedulers_take_long_clips(name):
    scheduler = make_scheduler(name, DAWNDDIMScheduler().config)
    short = torch.randn(1, 3, 7, generator=torch.Generator().manual_seed(0)) * 3
    expected = scheduler._threshold_sample(short)
    allow_long_clips(scheduler)
    assert torch.equal(scheduler._threshold_sample(short), expected)
    # one more value than torch.quantile takes
    assert scheduler._threshold_sample(torch.full((1, 2**24 + 1), 2.0)).max() == 1
