import functools
import inspect
import math

import diffusers
import pytest
import torch

from diffusers_dawn.sampling import scheduler_choice
from diffusers_dawn.sampling.noise_path import NoisePath
from diffusers_dawn.sampling.prediction import FLOW_PREDICTION, NOISE_PREDICTIONS
from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS, allow_long_clips, check_scheduler, make_scheduler
from diffusers_dawn.sampling.scheduler_times import set_timesteps
from diffusers_dawn.sampling.scheduler_training import follows_flow, tell_training, training_config
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

CPU = torch.device("cpu")
# what can sample, by what the denoiser predicts; DPMSolverSDE and CosineDPMSolverMultistep need a package
BY_FLOW = {"DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"}
FLOW_MATCHING = {"FlowMapEulerDiscrete", "FlowMatchEulerDiscrete", "FlowMatchLCM"}
OF_ANY_NOISE = (
    BY_FLOW
    | FLOW_MATCHING
    | {
        *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "EulerDiscrete", "HeunDiscrete", "LCM"),
        *("LMSDiscrete", "SASolver"),
    }
)
# diffusers gives these no prediction of the clean sample, or they diverge by its errors
WITHOUT_SAMPLE = {
    *(
        "EDMDPMSolverMultistep",
        "EDMEuler",
        "EulerAncestralDiscrete",
        "FlowMatchHeunDiscrete",
        "KDPM2AncestralDiscrete",
    ),
    *("KDPM2Discrete", "PNDM"),
}
CAN_SAMPLE = {
    "epsilon": OF_ANY_NOISE | WITHOUT_SAMPLE,
    "v_prediction": OF_ANY_NOISE | WITHOUT_SAMPLE | {"TCD"},
    "sample": OF_ANY_NOISE | {"TCD"},
    FLOW_PREDICTION: BY_FLOW | FLOW_MATCHING | {"FlowMatchHeunDiscrete"},
}
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


@pytest.mark.parametrize("prediction_type", CAN_SAMPLE)
def test_schedulers_of_diffusers_sample_a_motion_that_is_exactly_predicted_or_are_refused(prediction_type):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    config = FLOW_CONFIG if prediction_type == FLOW_PREDICTION else published_config(prediction_type)
    sampled = set()
    for class_name in [name for name in dir(diffusers) if name.endswith("Scheduler")]:
        try:
            scheduler = make_scheduler(class_name, config)
        except ValueError as error:
            assert f"`scheduler` {class_name} cannot sample DAWN: " in str(error)
            continue
        sampled.add(class_name.removesuffix("Scheduler"))
        found = sample_exactly(scheduler, data, 20)
        # TCD, DEIS and SA stop at the noise of time 0, 0.0064 standard deviations (measured up to 0.027)
        is_rough = class_name.startswith(("TCD", "DEIS", "SA"))
        torch.testing.assert_close(found, data, atol=0.04 if is_rough else 0.005, rtol=0, msg=class_name)
    assert sampled == CAN_SAMPLE[prediction_type]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_short_names_stand_for_samplers_that_take_few_and_many_steps(name):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    for num_steps in (4, 50):
        scheduler = make_scheduler(name, published_config("sample"))
        assert type(scheduler).__name__ == SCHEDULERS[name]
        first, second = (sample_exactly(scheduler, data, num_steps) for _ in range(2))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, data, atol=0.005, rtol=0)


@pytest.mark.parametrize("prediction_type", NOISE_PREDICTIONS)
def test_solvers_that_follow_a_flow_sample_denoisers_of_noise(prediction_type):
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) * 1.8 - 0.9
    for name in BY_FLOW:
        solver = getattr(diffusers, f"{name}Scheduler")
        scheduler = solver.from_config(published_config(prediction_type), use_flow_sigmas=True)
        assert follows_flow(scheduler)
        torch.testing.assert_close(sample_exactly(scheduler, data, 20), data, atol=1e-3, rtol=0)


def test_a_solver_made_for_a_flow_keeps_its_shift():
    for name in ("unipc", "dpm++", "flow-euler"):
        config = make_scheduler(name, FLOW_CONFIG).config
        assert config.get("shift", config.get("flow_shift")) == 2


def test_times_that_are_equal_when_rounded_do_not_lead_a_solver_astray():
    data = torch.full(SHAPE, 0.5)
    solver = diffusers.DPMSolverMultistepScheduler.from_config(published_config(), use_karras_sigmas=True)
    solver.set_timesteps(20)
    assert len(solver.timesteps.unique()) < 20
    torch.testing.assert_close(sample_exactly(solver, data, 20), data, atol=1e-3, rtol=0)


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


@pytest.mark.parametrize("class_name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"])
def test_solvers_that_look_ahead_are_refused_from_pure_noise(class_name):
    config = published_config()
    for spacing in ("trailing", "linspace"):
        scheduler = make_scheduler(class_name, dict(config) | {"timestep_spacing": spacing})
        with pytest.raises(ValueError, match=f"10 does not suit {class_name}: its second order diverges from pure"):
            set_timesteps(scheduler, CPU, 10)
    assert len(set_timesteps(make_scheduler(class_name, config), CPU, 10)) == 19


FLOW_EULER, DEIS = diffusers.FlowMatchEulerDiscreteScheduler, diffusers.DEISMultistepScheduler
PNDM = functools.partial(diffusers.PNDMScheduler.from_config, published_config())


class DrawsByItself(diffusers.DDIMScheduler):
    def step(self, model_output, timestep, sample, **arguments):
        return super().step(model_output, timestep, sample + 1e-3 * torch.randn_like(sample), **arguments)


class StopsEarly(diffusers.DDIMScheduler):
    def step(self, model_output, timestep, sample, **arguments):
        return (sample,) if timestep < 500 else super().step(model_output, timestep, sample, **arguments)


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (FLOW_EULER(invert_sigmas=True), "noise must fall from at most 1 and stay above 0"),
        (FLOW_EULER(use_dynamic_shifting=True), "`mu` must be passed"),
        (DrawsByItself(), "it draws noise without the generator"),
        (StopsEarly(), "its steps show the denoiser other noise than it was trained with"),
        (DEIS(prediction_type=FLOW_PREDICTION, use_flow_sigmas=True, flow_shift=1.0), "its steps leave 0.4 of noise"),
        (DEIS(prediction_type=FLOW_PREDICTION, use_flow_sigmas=True, flow_shift=2.0), "its steps leave 0.7 of noise"),
        (diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, use_karras_sigmas=True), "noise must fall from"),
        (diffusers.CogVideoXDDIMScheduler(prediction_type="sample"), "its noise levels are not those that"),
        (diffusers.IPNDMScheduler(), "it has neither the noise levels of a diffusion, nor of flow matching"),
        (PNDM(timestep_spacing="trailing"), "with `timestep_spacing` 'trailing' its steps end .* away from a motion"),
        (PNDM(timestep_spacing="linspace"), "with `timestep_spacing` 'linspace' its steps end .* away from a motion"),
        (diffusers.DDIMScheduler(prediction_type="x"), "`prediction_type` is 'x', must be one of 'epsilon'"),
        (diffusers.DDIMScheduler(prediction_type=FLOW_PREDICTION), "flow_prediction .*flow-euler, and dpm.* can"),
    ],
)
def test_schedulers_that_cannot_sample_are_refused_with_the_reason(scheduler, reason):
    with pytest.raises(ValueError, match=f"`scheduler` {type(scheduler).__name__} cannot sample DAWN: .*{reason}"):
        check_scheduler(scheduler)


def test_fresh_noise_along_a_flow_is_that_of_the_generator():
    scheduler, data = FLOW_EULER(stochastic_sampling=True), torch.full(SHAPE, 0.5)
    check_scheduler(scheduler)
    torch.testing.assert_close(sample_exactly(scheduler, data, 10), data, atol=1e-5, rtol=0)


def test_a_scheduler_is_tried_once_and_stays_as_it_is(monkeypatch):
    tried = []
    monkeypatch.setattr(scheduler_choice, "_FAULTS", {})
    monkeypatch.setattr(scheduler_choice, "find_fault", tried.append)
    scheduler = diffusers.EulerDiscreteScheduler.from_config(published_config(), timestep_spacing="trailing")
    for _ in range(2):
        check_scheduler(scheduler)
    check_scheduler(diffusers.EulerDiscreteScheduler.from_config(scheduler.config))
    assert len(tried) == 1
    monkeypatch.undo()
    monkeypatch.setattr(scheduler_choice, "_FAULTS", {})
    scheduler.set_timesteps(7)
    config, times, state = dict(scheduler.config), scheduler.timesteps.clone(), torch.get_rng_state()
    check_scheduler(scheduler)
    assert dict(scheduler.config) == config and torch.equal(scheduler.timesteps, times)
    assert scheduler.step_index is None and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("levels", [[1.0, 0.5, 0.0], [1.2, 0.5], [0.3, 0.8]])
def test_levels_of_a_flow_fall_within_its_range(levels):
    scheduler = make_scheduler("flow-euler", published_config())
    with pytest.raises(ValueError, match=r"`sigmas` \[.* does not suit .*: noise must fall from at most 1"):
        set_timesteps(scheduler, CPU, 20, sigmas=levels)


def test_levels_are_taken_by_general_solvers_and_refused_by_those_that_mean_something_else():
    assert len(set_timesteps(make_scheduler("unipc", FLOW_CONFIG), CPU, 20, sigmas=[0.9, 0.5, 0.1])) == 3
    with pytest.raises(ValueError, match="`sigmas` cannot be given to EDMEulerScheduler"):
        set_timesteps(make_scheduler("EDMEulerScheduler", published_config()), CPU, 20, sigmas=[0.9, 0.5])


@pytest.mark.parametrize("name", ["unipc", "dpm++", "DPMSolverSinglestepScheduler"])
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
    ("name", "argument"),
    [("dawn", "sigmas"), ("ddim", "timesteps"), ("ddim", "sigmas"), ("PNDMScheduler", "timesteps")],
)
def test_times_and_levels_are_refused_by_schedulers_that_do_not_take_them(name, argument):
    scheduler = make_scheduler(name, published_config())
    with pytest.raises(ValueError, match=f"`{argument}` cannot be given to {SCHEDULERS.get(name, name)}"):
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
