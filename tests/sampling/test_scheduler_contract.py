"""What diffusers promises of every scheduler, held by `DAWNDDIMScheduler`."""

import itertools

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler

from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

SHAPE = (4, 3, 8, 8)
CONFIGS = (
    {},
    {"num_train_timesteps": 100},
    {"num_train_timesteps": 500},
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample", "sample_max_value": 2.0},
    {"thresholding": False},
    {"thresholding": False, "clip_sample": False},
    {"timestep_spacing": "trailing", "steps_offset": 1},
)


@pytest.fixture
def sample() -> torch.Tensor:
    return torch.arange(4 * 3 * 8 * 8, dtype=torch.float32).view(SHAPE) / (4 * 3 * 8 * 8)


def reloaded(scheduler: DAWNDDIMScheduler, folder) -> DAWNDDIMScheduler:
    scheduler.save_pretrained(folder)
    return DAWNDDIMScheduler.from_pretrained(folder)


def stepped(scheduler: DAWNDDIMScheduler, sample: torch.Tensor, time: int, num_steps: int = 50, **arguments):
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(0)
    return scheduler.step(0.1 * sample, time, sample, generator=generator, **arguments)


@pytest.mark.parametrize("config", CONFIGS)
def test_saved_and_loaded_schedulers_step_alike(config, sample, tmp_path):
    scheduler = DAWNDDIMScheduler(**config)
    loaded = reloaded(scheduler, tmp_path)
    for time, eta in itertools.product((0, 1, 10, 49), (0.0, 0.5, 1.0)):
        found, expected = (stepped(one, sample, time, eta=eta).prev_sample for one in (loaded, scheduler))
        assert found.shape == sample.shape and found.isfinite().all()
        assert torch.equal(found, expected), (time, eta)


@pytest.mark.parametrize(("time", "num_steps"), [(1, 10), (10, 50), (50, 500)])
def test_any_number_of_steps_takes_times_between(time, num_steps, sample, tmp_path):
    scheduler = DAWNDDIMScheduler()
    found, expected = (
        stepped(one, sample, time, num_steps).prev_sample for one in (reloaded(scheduler, tmp_path), scheduler)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DAWNDDIMScheduler])
def test_loaded_config_is_the_saved_one_without_a_list_of_defaults(scheduler_class, tmp_path):
    scheduler = scheduler_class(num_train_timesteps=500)
    scheduler.save_pretrained(tmp_path)
    config = dict(scheduler.config)
    del config["_use_default_values"]
    assert scheduler_class.from_pretrained(tmp_path).config == config
    loaded, unused = scheduler_class.from_pretrained(tmp_path, return_unused_kwargs=True, further=1)
    assert loaded.config == config and unused["further"] == 1


@pytest.mark.parametrize("loaded", [False, True])
def test_config_survives_every_compatible_scheduler(loaded, tmp_path):
    scheduler = DAWNDDIMScheduler(prediction_type="v_prediction")
    assert scheduler.compatibles and all(scheduler.compatibles)
    source = reloaded(scheduler, tmp_path) if loaded else scheduler
    # one needs a package that is not among the extras
    for scheduler_class in set(scheduler.compatibles) - {diffusers.DPMSolverSDEScheduler}:
        other = scheduler_class.from_config(source.config)
        back = DAWNDDIMScheduler.from_config(other.config)
        assert {name: back.config[name] for name in scheduler.config} == dict(scheduler.config), scheduler_class


def test_tuples_and_records_hold_the_same(sample):
    scheduler = DAWNDDIMScheduler()
    record, as_tuple = stepped(scheduler, sample, 0), stepped(scheduler, sample, 0, return_dict=False)
    assert isinstance(as_tuple, tuple) and len(as_tuple) == len(record)
    assert all(torch.equal(*pair) for pair in zip(as_tuple, record.values(), strict=True))


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_noise_is_added_on_any_device_in_any_precision(device, dtype, sample):
    scheduler = DAWNDDIMScheduler()
    scheduler.set_timesteps(100)
    sample = scheduler.scale_model_input(sample.to(device, dtype), 0.0)
    noisy = scheduler.add_noise(sample, torch.randn_like(sample), scheduler.timesteps[5][None])
    assert noisy.shape == sample.shape and noisy.dtype == dtype and noisy.device == sample.device
    assert noisy.isfinite().all()


def test_what_pipelines_ask_for_is_there(sample):
    scheduler = DAWNDDIMScheduler()
    assert scheduler.init_noise_sigma == 1 and scheduler.order == 1
    assert torch.equal(scheduler.scale_model_input(sample, 0.0), sample)


def test_config_entries_are_attributes_with_a_warning():
    scheduler = DAWNDDIMScheduler()
    scheduler.register_to_config(test_attribute=5)
    with pytest.warns(FutureWarning):
        assert scheduler.test_attribute == 5
    with pytest.raises(AttributeError, match="'DAWNDDIMScheduler' object has no attribute 'does_not_exist'"):
        _ = scheduler.does_not_exist
