"""What diffusers promises of every model, held by the three networks."""

import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from accelerate import cpu_offload, infer_auto_device_map
from diffusers import ModelMixin, QuantoConfig, TorchAoConfig
from diffusers.training_utils import EMAModel
from diffusers.utils import constants, logging
from torch import nn

from diffusers_dawn import A2VFlowDiffusionModel, LatentFlowGenerator, PoseBlinkNet
from diffusers_dawn.conversion.random_pipeline import random_pipeline

# sums over weights that lie elsewhere in memory may be taken in another order
SAME = {"atol": 5e-5, "rtol": 5e-5}
NUM_FRAMES = 5


class Case(NamedTuple):
    """A network and how it is called; every call of `inputs` makes equal ones."""

    model_class: type[ModelMixin]
    component: str
    inputs: Callable[[ModelMixin], dict]


def _denoiser_inputs(model: ModelMixin) -> dict:
    config, noise = model.config, _noise()
    return {
        "sample": noise(1, 3, NUM_FRAMES, 16, 16),
        "timestep": torch.tensor([300]),
        "reference_features": noise(1, config.reference_channels, 16, 16),
        "face_mask": torch.ones(1, 1, 64, 64),
        "audio_features": noise(1, NUM_FRAMES, config.audio_dim),
        "pose": noise(1, NUM_FRAMES, config.pose_dim),
        "blink": noise(1, NUM_FRAMES, config.blink_dim),
    }


def _generator_inputs(model: ModelMixin) -> dict:
    noise = _noise()
    return {"source": noise(1, 3, 64, 64).sigmoid(), "driving": noise(1, 3, 64, 64).sigmoid()}


def _pose_blink_inputs(model: ModelMixin) -> dict:
    noise, width = _noise(), 8
    return {
        "audio_features": noise(1, NUM_FRAMES, model.config.audio_dim),
        "sequence": noise(1, NUM_FRAMES, width),
        "noise": noise(1, NUM_FRAMES, 2 * model.config.latent_dim),
    }


def _noise() -> Callable[..., torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator)


CASES = (
    Case(A2VFlowDiffusionModel, "unet", _denoiser_inputs),
    Case(LatentFlowGenerator, "lfg", _generator_inputs),
    Case(PoseBlinkNet, "pbnet", _pose_blink_inputs),
)


@pytest.fixture(params=CASES, ids=lambda case: case.model_class.__name__)
def case(request) -> Case:
    return request.param


@pytest.fixture
def model(case) -> ModelMixin:
    return getattr(random_pipeline("tiny"), case.component).eval()


@torch.no_grad()
def output(case: Case, model: ModelMixin) -> torch.Tensor:
    return model(**case.inputs(model), return_dict=False)[0]


@torch.no_grad()
def used_by_the_pipeline(case: Case, model: ModelMixin) -> torch.Tensor:
    inputs = case.inputs(model)
    if case.component == "unet":
        location = model.encode_face_location(inputs["face_mask"])
        conditions = (inputs[name] for name in ("audio_features", "pose", "blink"))
        context = model.prepare_context(inputs["reference_features"], location, *conditions)
        return model(inputs["sample"], inputs["timestep"], context=context).sample
    if case.component == "lfg":
        motion = model.estimate_motion(**inputs)
        encoded = model.encode_image(inputs["source"])
        return model.decode_motion(encoded, motion.flow[:, None], motion.occlusion[:, None])
    initial = torch.zeros(1, 6), torch.ones(1, 2)
    return torch.cat(model.generate(inputs["audio_features"], *initial, noise=inputs["noise"]), dim=-1)


def test_saved_variants_load_as_such_only(case, model, tmp_path):
    model.save_pretrained(tmp_path, variant="fp16")
    loaded = case.model_class.from_pretrained(tmp_path, variant="fp16")
    torch.testing.assert_close(output(case, loaded), output(case, model), **SAME)
    with pytest.raises(OSError, match=r"no file named diffusion_pytorch_model"):
        case.model_class.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loaded_models_have_the_precision_asked_for(case, model, dtype, tmp_path):
    model.to(dtype).save_pretrained(tmp_path)
    loaded = case.model_class.from_pretrained(tmp_path, dtype=dtype)
    assert loaded.dtype == dtype
    kept = case.model_class._keep_in_fp32_modules or []
    for name, parameter in loaded.named_parameters():
        is_kept = not set(kept).isdisjoint(name.split("."))
        assert parameter.dtype == (torch.float32 if is_kept else dtype), name


def test_equal_calls_give_equal_results(case, model):
    assert torch.equal(output(case, model), output(case, model))


@torch.no_grad()
def test_tuples_and_records_hold_the_same(case, model):
    as_tuple = model(**case.inputs(model), return_dict=False)
    as_record = model(**case.inputs(model))
    assert isinstance(as_tuple, tuple) and len(as_tuple) == len(as_record)
    # all of them tensors: what walks through outputs knows no other records
    assert all(torch.equal(one, other) for one, other in zip(as_tuple, as_record.values(), strict=True))


def test_config_entries_are_attributes_with_a_warning(model):
    model.register_to_config(test_attribute=5)
    with pytest.warns(FutureWarning):
        assert model.test_attribute == 5
    with pytest.raises(AttributeError, match="has no attribute 'does_not_exist'"):
        _ = model.does_not_exist


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], indirect=True, ids=lambda case: case.model_class.__name__)
def test_casting_what_is_kept_in_float32_is_warned_of(case, model, caplog):
    before = logging.get_verbosity()
    logging.set_verbosity_warning()  # commands of other tests make it silent
    logging.enable_propagation()
    try:
        model.to(torch.float16)
    finally:
        logging.disable_propagation()
        logging.set_verbosity(before)
    assert f"There are modules in {case.model_class.__name__} that should be kept in float32" in caplog.text


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("in_parallel", [False, True])
def test_shards_load_as_one(case, model, variant, in_parallel, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_ENABLE_PARALLEL_LOADING", in_parallel)
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    model.save_pretrained(tmp_path, max_shard_size=f"{num_bytes * 3 // 4 // 1024}KB", variant=variant)
    (index,) = tmp_path.glob("*.safetensors.index*.json")
    files = set(json.loads(index.read_text())["weight_map"].values())
    assert len(files) > 1 and files == {path.name for path in tmp_path.glob("*.safetensors")}
    loaded = case.model_class.from_pretrained(tmp_path, variant=variant)
    torch.testing.assert_close(output(case, loaded), output(case, model), **SAME)


@pytest.mark.parametrize("storage", [torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_layerwise_casting_trains(case, model, storage):
    inputs = case.inputs(model)
    model.enable_layerwise_casting(storage_dtype=storage, compute_dtype=torch.float32)
    model.train()
    with torch.autocast("cpu"):
        made = model(**inputs, return_dict=False)[0]
        loss = (made.float() - 0.5).square().mean()
    loss.backward()
    assert loss.isfinite()


@torch.no_grad()
def test_layerwise_casting_for_inference_rounds_weights_only(case, model):
    expected = output(case, model)
    model.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    assert any(parameter.dtype == torch.float16 for parameter in model.parameters())
    torch.testing.assert_close(output(case, model), expected, atol=3e-2, rtol=3e-2)


@torch.no_grad()
@pytest.mark.parametrize(
    ("package", "config"),
    [
        ("torchao.quantization", lambda torchao: TorchAoConfig(torchao.Int8WeightOnlyConfig())),
        ("optimum.quanto", lambda _: QuantoConfig("int8")),
    ],
)
def test_weights_become_eight_bits_while_they_are_loaded_and_stay_so(case, model, package, config, tmp_path):
    library = pytest.importorskip(package)
    model.save_pretrained(tmp_path / "whole")
    settings = {"quantization_config": config(library), "dtype": torch.float32}
    small = case.model_class.from_pretrained(tmp_path / "whole", **settings).eval()
    layers = {name: module for name, module in small.named_modules() if isinstance(module, nn.Linear)}
    assert layers
    for name, layer in layers.items():
        made_by = {type(part).__module__.split(".")[0] for part in (layer, layer.weight)}
        assert package.split(".")[0] in made_by, name
    made = output(case, small)
    torch.testing.assert_close(made, output(case, model), atol=0.05 * made.abs().max().item(), rtol=0)
    # torchao's weights are no tensors that safetensors knows
    small.save_pretrained(tmp_path / "small", safe_serialization=package == "optimum.quanto")
    again = case.model_class.from_pretrained(tmp_path / "small", dtype=torch.float32).eval()
    torch.testing.assert_close(output(case, again), made, **SAME)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "dtype"), [("float8", torch.float32), ("float8", torch.bfloat16), ("int4", torch.bfloat16)]
)
def test_untrained_weights_in_eight_bits_or_fewer_give_finite_numbers(case, model, kind, dtype, tmp_path):
    pytest.importorskip("optimum.quanto")
    model.save_pretrained(tmp_path)
    small = case.model_class.from_pretrained(tmp_path, quantization_config=QuantoConfig(kind), dtype=dtype).eval()
    inputs = {name: values.to(dtype) for name, values in case.inputs(model).items()}
    assert small(**inputs, return_dict=False)[0].isfinite().all()


def test_averaged_weights_follow_a_step(case, model):
    model.train()
    average = EMAModel(model.parameters())
    before = [parameter.detach().clone() for parameter in average.shadow_params]
    model(**case.inputs(model), return_dict=False)[0].square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 if parameter.grad is None else 0.1 + parameter.grad
    for _ in range(2):
        average.step(model.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, average.shadow_params, strict=True))


def test_gradient_checkpointing_is_switched(case, model):
    if not case.model_class._supports_gradient_checkpointing:
        with pytest.raises(ValueError, match="does not support gradient checkpointing"):
            model.enable_gradient_checkpointing()
        return
    assert not model.is_gradient_checkpointing
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    model.disable_gradient_checkpointing()
    assert not model.is_gradient_checkpointing


def test_group_offloading_works_or_is_refused(case, model):
    if case.model_class is A2VFlowDiffusionModel:  # see test_native_features.py
        assert model._supports_group_offloading
        return
    with pytest.raises(ValueError, match=f"{case.model_class.__name__} does not support group offloading"):
        model.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")


@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential"])
def test_devices_are_chosen_while_loading(case, model, device_map, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = case.model_class.from_pretrained(tmp_path, device_map=device_map).eval()
    assert {str(device) for device in loaded.hf_device_map.values()} <= {"cpu", "0"}
    torch.testing.assert_close(output(case, loaded).cpu(), output(case, model), **SAME)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_weights_that_find_no_memory_stay_on_disk(case, model, share, tmp_path):
    calls = [partial(output, case), partial(used_by_the_pipeline, case)]
    if case.model_class is PoseBlinkNet:  # torch's transformer reads weights where they are not; only training has one
        model = case.model_class.from_config(model.config, with_encoder=False).eval()
        del calls[0]
    model.save_pretrained(tmp_path / "saved")
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    loaded = case.model_class.from_pretrained(
        tmp_path / "saved",
        device_map="auto",
        max_memory={"cpu": int(share * num_bytes)},
        offload_folder=tmp_path / "offloaded",
    ).eval()
    assert "disk" in loaded.hf_device_map.values()
    assert any(parameter.is_meta for parameter in loaded.parameters())
    for call in calls:
        torch.testing.assert_close(call(loaded), call(model), **SAME)


def test_weights_kept_elsewhere_are_found_by_a_plain_call(case, model):
    expected = model(**case.inputs(model))
    with torch.no_grad():
        found = cpu_offload(model, torch.device("cpu"), offload_buffers=True)(**case.inputs(model))
    assert type(found) is type(expected) and found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values.detach(), **SAME)


def test_half_precision_trains_with_finite_gradients(case, model):
    with torch.autocast("cpu", dtype=torch.float16):
        prediction = model.train()(**case.inputs(model))[0]
    prediction.float().square().mean().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert gradients and not [name for name, gradient in gradients.items() if not gradient.isfinite().all()]


def test_shapes_are_found_without_numbers(case, model):
    inputs = {name: values.to("meta") for name, values in case.inputs(model).items()}
    expected = output(case, model)
    assert model.to("meta")(**inputs)[0].shape == expected.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encoder_of_pose_and_blink_rounds_alike_in_training_and_evaluation(dtype):
    model = PoseBlinkNet.from_config(random_pipeline("tiny").pbnet.config, dropout=0.0).to(dtype)
    inputs = {name: values.to(dtype) for name, values in _pose_blink_inputs(model).items()}
    with torch.no_grad():
        trained, evaluated = (
            model.train(training).encode(inputs["audio_features"], inputs["sequence"]) for training in (True, False)
        )
    assert all(torch.equal(*pair) for pair in zip(trained, evaluated, strict=True))


def test_what_skips_connect_is_on_one_device(case, model):
    # as accelerate splits a model of which hardly anything finds a place
    blocks = case.model_class._no_split_modules
    assert set(blocks) <= {type(module).__name__ for module in model.modules()}
    device_map = infer_auto_device_map(
        model, {0: 1000, "cpu": 10**9}, no_split_module_classes=blocks, offload_buffers=True
    )
    for name, module in model.named_modules():
        if type(module).__name__ in blocks:
            assert not any(place.startswith(f"{name}.") for place in device_map), name
