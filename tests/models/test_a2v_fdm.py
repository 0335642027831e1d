import ast
import functools
import os
import re
from pathlib import Path

import pytest
import torch
from tiny_a2v import TINY, WINDOW, inputs_for
from torch.nn import functional

from diffusers_dawn.models import a2v_fdm
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel, VideoContext
from diffusers_dawn.models.attention import band_blocks

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[2] / "../shared/goldens"))
# two ways to the same float32 sums differ by about 1e-6 per layer, and norms of small variances amplify it
SAME = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture
def model() -> A2VFlowDiffusionModel:
    torch.manual_seed(0)
    return A2VFlowDiffusionModel(**TINY).eval()


def context_of(model: A2VFlowDiffusionModel, inputs: dict) -> VideoContext:
    location = model.encode_face_location(inputs["face_mask"])
    names = ("audio_features", "pose", "blink")
    return model.prepare_context(inputs["reference_features"], location, *(inputs[name] for name in names))


def tensors_of(value: object) -> list[torch.Tensor]:
    if torch.is_tensor(value):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in tensors_of(part)]


def gradients(model: A2VFlowDiffusionModel, inputs: dict) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**inputs).sample.square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, WINDOW, WINDOW + 1, WINDOW + 2, 11, 45])
@torch.no_grad()
def test_clips_of_any_length_work(model, frames, training):
    model.train(training)
    inputs = inputs_for(frames=frames)
    prediction = model(**inputs).sample
    assert prediction.shape == inputs["sample"].shape
    assert prediction.isfinite().all()


@pytest.mark.parametrize("frames", [5, 45, 90])
@torch.no_grad()
def test_attention_in_blocks_equals_one_masked_attention(model, frames, monkeypatch):
    inputs = inputs_for(frames=frames)
    in_blocks = model(**inputs).sample
    monkeypatch.setattr(a2v_fdm, "band_blocks", functools.partial(band_blocks, block_size=1000))
    torch.testing.assert_close(in_blocks, model(**inputs).sample, **SAME)


@torch.no_grad()
def test_train_mode_attends_to_the_whole_clip_and_eval_mode_to_the_window(model):
    inputs = inputs_for(frames=WINDOW + 8)
    windowed, whole = model(**inputs).sample, model.train()(**inputs).sample
    assert (windowed - whole).abs().max() > 1e-2
    without_window = A2VFlowDiffusionModel(**TINY | {"temporal_window": None}).eval()
    without_window.load_state_dict(model.state_dict())
    torch.testing.assert_close(without_window(**inputs).sample, whole, **SAME)


@torch.no_grad()
def test_prepared_context_equals_passing_everything(model):
    inputs = inputs_for(batch=2)
    context = context_of(model, inputs)
    expected = model(**inputs).sample
    for _ in range(2):  # a context serves every step
        assert torch.equal(model(inputs["sample"], inputs["timestep"], context=context).sample, expected)
    (as_tuple,) = model(**inputs, return_dict=False)
    assert torch.equal(as_tuple, expected)


@torch.no_grad()
def test_batch_of_two_equals_two_calls(model):
    inputs = inputs_for(batch=2, frames=9)
    together = model(**inputs).sample
    for index in range(2):
        alone = model(**{name: value[index : index + 1] for name, value in inputs.items()}).sample
        torch.testing.assert_close(together[index : index + 1], alone, **SAME)


@torch.no_grad()
def test_time_given_as_number_equals_time_given_per_clip(model):
    inputs = inputs_for(batch=2) | {"timestep": torch.tensor([500, 500])}
    expected = model(**inputs).sample
    for timestep in (500, 500.0, torch.tensor(500), torch.tensor([500])):
        assert torch.equal(model(**inputs | {"timestep": timestep}).sample, expected)


@pytest.mark.parametrize(("batch", "frames", "size"), [(1, 1, 2), (1, 12, 16), (2, 9, 16)])
def test_prediction_without_gradients_equals_that_with_them(model, batch, frames, size):
    # 12 frames of 16 x 16 pixels are more than one chunk in time and in space
    inputs = inputs_for(batch, frames, size)
    with_gradients = model(**inputs).sample
    assert with_gradients.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).sample, with_gradients.detach(), **SAME)


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (1, 12), (2, 9)])
@torch.no_grad()
def test_prediction_without_gradients_changes_no_input(model, batch, frames):
    inputs = inputs_for(batch, frames, size=16)
    context = context_of(model, inputs)
    given = tensors_of(inputs) + tensors_of(context)
    before = [tensor.clone() for tensor in given]
    model(**inputs)
    model(inputs["sample"], inputs["timestep"], context=context)
    assert all(torch.equal(tensor, copied) for tensor, copied in zip(given, before, strict=True))


@pytest.mark.parametrize("name", ["sample", "audio_features", "pose", "blink", "reference_features", "face_mask"])
@torch.no_grad()
def test_every_input_matters(model, name):
    inputs = inputs_for()
    changed = inputs | {name: inputs[name].flip(-1)}
    assert (model(**inputs).sample - model(**changed).sample).abs().max() > 1e-3


def test_gradients_reach_every_parameter(model):
    without = [name for name, gradient in gradients(model.train(), inputs_for()).items() if not gradient.any()]
    assert without == []


def test_gradient_checkpointing_changes_no_gradient(model):
    inputs = inputs_for(batch=2)
    plain = gradients(model.train(), inputs)
    model.enable_gradient_checkpointing()
    assert model.is_gradient_checkpointing
    for name, gradient in gradients(model, inputs).items():
        # the same operations, run twice
        torch.testing.assert_close(gradient, plain[name], atol=1e-7, rtol=1e-5)


def test_saved_model_loads_with_equal_weights_and_predictions(model, tmp_path):
    model.rotary.frequencies[1] = 0.123  # as trained, not as computed
    model.save_pretrained(tmp_path)
    loaded = A2VFlowDiffusionModel.from_pretrained(tmp_path)
    for name, value in TINY.items():
        assert loaded.config[name] == (list(value) if isinstance(value, tuple) else value)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    with torch.no_grad():
        # equal weights that lie elsewhere in memory: kernels may sum in another order
        torch.testing.assert_close(loaded(**inputs_for()).sample, model(**inputs_for()).sample, **SAME)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_near_float32(model, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    half = A2VFlowDiffusionModel.from_pretrained(tmp_path, torch_dtype=dtype)
    assert half.rotary.frequencies.dtype == torch.float32
    rounded = A2VFlowDiffusionModel(**TINY).eval()
    rounded.load_state_dict(half.state_dict())
    errors = []
    for frames in (3, 12, 45):
        inputs = inputs_for(frames=frames, dtype=dtype)
        exact = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
        prediction, expected = half(**inputs).sample, rounded(**exact).sample
        assert prediction.dtype == dtype
        errors.append((prediction.float() - expected).square().mean().sqrt() / expected.std())
    # measured up to 0.08 in bfloat16 and 0.02 in float16 (five seeds); with a variance of the condition's norm in
    # half precision it was 0.6 and NaN
    assert max(errors) < (0.15 if dtype == torch.bfloat16 else 0.04)


@torch.no_grad()
def test_deep_features_of_the_same_call_give_the_same_prediction(model):
    inputs = inputs_for(batch=2)
    full = model(**inputs, return_deep_features=True)
    assert full.deep_features.shape[:2] == (2, 5)
    assert torch.equal(full.sample, model(**inputs).sample)
    before = full.deep_features.clone()
    assert torch.equal(model(**inputs, deep_features=full.deep_features).sample, full.sample)
    assert torch.equal(full.deep_features, before)


@torch.no_grad()
def test_deep_features_of_an_earlier_step_leave_the_deep_levels_out(model):
    ran, inputs = [], inputs_for()
    context = context_of(model, inputs)
    first, second = (
        model(inputs["sample"] + offset, 500, context=context, return_deep_features=True) for offset in (0, 1)
    )
    for level in (*model.down_levels, model.middle, *model.up_levels):
        level.register_forward_hook(lambda module, *_: ran.append(module))
    found = model(inputs["sample"] + 1, 500, context=context, deep_features=first.deep_features).sample
    assert ran == [model.down_levels[0], model.up_levels[-1]]
    assert not torch.equal(found, second.sample)


def test_deep_features_are_a_result_only_where_they_are_asked_for(model):
    inputs = inputs_for()
    assert len(model(**inputs, return_dict=False)) == 1
    assert len(model(**inputs, return_deep_features=True, return_dict=False)) == 2


def test_default_model_has_the_published_sizes():
    key_list = GOLDENS / "keys" / "original_keys_unet.txt"
    if not key_list.exists():
        pytest.skip(f"no list of the published keys at {key_list}")
    published = {}
    for line in key_list.read_text().splitlines():
        if match := re.fullmatch(r"(\S+) (\(.*\))", line):
            published[match[1]] = torch.Size(ast.literal_eval(match[2])).numel()
    rotary_copies = [key for key in published if key.endswith("rotary_emb.freqs")][1:]
    never_trained = [key for key in published if re.match(r"(final_conv|occlusion_map)\.0\.cross_attn_", key)]
    assert sum(published.values()) - sum(published[key] for key in rotary_copies) == 49_857_555
    assert len(never_trained) == 48
    with torch.device("meta"):
        model = A2VFlowDiffusionModel()
    # the face-location encoder is not part of the published file
    location = sum(parameter.numel() for parameter in model.face_location_encoder.parameters())
    expected = 49_857_555 - sum(published[key] for key in never_trained) + location
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == expected
    assert {name: buffer.numel() for name, buffer in model.named_buffers()} == {"rotary.frequencies": 16}


@pytest.mark.parametrize("shape", [(1, 2, 5, 8, 8), (1, 3, 5, 7, 8), (1, 3, 5, 8, 7)])
def test_motion_of_a_wrong_size_is_refused(model, shape):
    with pytest.raises(ValueError, match=rf"`sample` is \({', '.join(map(str, shape))}\).* multiples of 2"):
        model(**inputs_for() | {"sample": torch.zeros(shape)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("audio_features", (1, 5, 7)),
        ("audio_features", (5, 6)),
        ("audio_features", (6,)),
        ("pose", (1, 4, 6)),
        ("pose", (1, 5, 2)),
        ("pose", (2, 5, 6)),
        ("blink", (1, 6, 2)),
        ("blink", (1, 5, 6)),
    ],
)
def test_conditions_of_a_wrong_shape_are_refused(model, name, shape):
    with pytest.raises(ValueError, match=rf"`{name}` is \({', '.join(map(str, shape))},?\)"):
        model(**inputs_for() | {name: torch.zeros(shape)})


@pytest.mark.parametrize(("batch", "frames"), [(1, 4), (1, 6), (2, 5)])
def test_context_of_another_clip_is_refused(model, batch, frames):
    context = context_of(model, inputs_for(batch, frames))
    with pytest.raises(ValueError, match="`sample` has 1 clip.* of 5 frame"):
        model(inputs_for(frames=5)["sample"], 500, context=context)


def test_motion_of_another_size_than_the_reference_is_an_error(model):
    inputs = inputs_for()
    with pytest.raises(ValueError, match="`sample` is 4x4, must be 8x8 like the reference"):
        model(inputs["sample"][..., :4, :4], 5, context=context_of(model, inputs))


@pytest.mark.parametrize("missing", ["reference_features", "face_mask", "audio_features", "pose", "blink"])
def test_forward_without_context_needs_all_inputs(model, missing):
    with pytest.raises(ValueError, match="give either `context` or all of"):
        model(**inputs_for() | {missing: None})


def test_reference_of_another_width_is_an_error(model):
    inputs = inputs_for()
    inputs["reference_features"] = inputs["reference_features"][:, :4]
    with pytest.raises(ValueError, match=r"`reference_features` is \(1, 4, 8, 8\), must be \(1, 5, 8, 8\)"):
        model(**inputs)


def test_one_level_is_enough():
    model = A2VFlowDiffusionModel(**TINY | {"block_out_channels": (8,)}).eval()
    inputs = inputs_for()
    assert model(**inputs).sample.shape == inputs["sample"].shape


@pytest.mark.parametrize("argument", [{"return_deep_features": True}, {"deep_features": torch.zeros(1, 5, 4, 4, 8)}])
def test_one_level_has_no_deep_features(argument):
    model = A2VFlowDiffusionModel(**TINY | {"block_out_channels": (8,)}).eval()
    with pytest.raises(ValueError, match="`deep_features` need a network of several levels"):
        model(**inputs_for(), **argument)


def test_scaled_conditions_are_embedded_together_with_their_negatives():
    torch.manual_seed(0)
    scales = {"pose_scale": (0.05, 0.1, 0.1, 2e4, 0.1, 0.2), "blink_scale": (3.0, 2.0)}
    scaled = A2VFlowDiffusionModel(**TINY, **scales).eval()
    plain = A2VFlowDiffusionModel(**TINY, pose_dim=12, blink_dim=4).eval()
    # what answers in proportion is zero at first, and only where a condition has a sign
    published = {name: value for name, value in scaled.state_dict().items() if ".proportional." not in name}
    plain.load_state_dict(published)
    inputs = inputs_for()
    given = {name: inputs[name] * torch.tensor(scales[f"{name}_scale"]) for name in ("pose", "blink")}
    given = inputs | {name: torch.cat((values, -values), dim=-1) for name, values in given.items()}
    with torch.no_grad():
        torch.testing.assert_close(scaled(**inputs).sample, plain(**given).sample)


@pytest.mark.parametrize(("scale", "told_apart"), [(None, False), ((1.0,) * 6, True)])
@torch.no_grad()
def test_scaled_poses_are_told_apart_where_silu_alone_takes_both_for_one(scale, told_apart):
    torch.manual_seed(0)
    model = A2VFlowDiffusionModel(**TINY, pose_scale=scale).eval()
    inputs = inputs_for(batch=1)
    # either side of SiLU's minimum at -1.28
    near, far = -0.5, -2.5088
    torch.testing.assert_close(*functional.silu(torch.tensor([near, far])), rtol=0, atol=1e-5)
    first, second = (
        model(**inputs | {"pose": torch.full_like(inputs["pose"], value)}).sample for value in (near, far)
    )
    assert ((second - first).abs().max() > 1e-2) == told_apart


@pytest.mark.parametrize(("name", "width"), [("pose", 6), ("blink", 2)])
def test_scales_of_another_length_than_the_condition_are_refused(name, width):
    with pytest.raises(ValueError, match=f"`{name}_scale` has 3 numbers, must have `{name}_dim`, {width}"):
        A2VFlowDiffusionModel(**TINY, **{f"{name}_scale": (1.0, 1.0, 1.0)})


def test_patches_of_one_cell_are_the_published_network(model):
    inputs = inputs_for()
    torch.manual_seed(0)
    with_patches = A2VFlowDiffusionModel(**TINY, patch_size=1).eval()
    torch.testing.assert_close(with_patches(**inputs).sample, model(**inputs).sample, rtol=0, atol=0)


def test_a_motion_in_patches_costs_what_a_smaller_one_does():
    torch.manual_seed(0)
    model = A2VFlowDiffusionModel(**TINY | {"sample_size": 16}, patch_size=2).eval()
    sizes = []
    model.down_levels[0].register_forward_pre_hook(lambda module, arguments: sizes.append(arguments[0].shape))
    inputs = inputs_for(frames=3, size=16)
    assert model(**inputs).sample.shape == (1, 3, 3, 16, 16)
    assert sizes[-1][2:4] == (8, 8)
    # the context that is computed once gives the same
    context = model.prepare_context(
        inputs["reference_features"],
        model.encode_face_location(inputs["face_mask"]),
        *(inputs[name] for name in ("audio_features", "pose", "blink")),
    )
    alone = model(inputs["sample"], inputs["timestep"], context=context).sample
    torch.testing.assert_close(alone, model(**inputs).sample, **SAME)


def test_a_motion_must_be_of_whole_patches():
    model = A2VFlowDiffusionModel(**TINY | {"sample_size": 16}, patch_size=2).eval()
    assert model.size_multiple == 4
    with pytest.raises(ValueError, match="multiples of 4"):
        model(**inputs_for(frames=1, size=10))
    for patch_size in (0, 3):
        with pytest.raises(ValueError, match="`patch_size`"):
            A2VFlowDiffusionModel(**TINY | {"sample_size": 16}, patch_size=patch_size)
