"""What the denoiser learns from, and what comes out."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from tiny_stages import A2V_MODEL, LFG_MODEL, first_batch, result, run, stage_configs

from diffusers_dawn.geometry.flow import cell_centres
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sampling.scheduler_choice import make_scheduler
from diffusers_dawn.sampling.scheduler_times import set_timesteps
from diffusers_dawn.sampling.scheduler_training import follows_flow, training_config
from training.data.draw import Draw
from training.engine.config import config_to_yaml
from training.train_a2v import A2VStage, main
from warm_processes import begin_two, exit_codes


@pytest.fixture(scope="module")
def trained(tiny_data_set, tiny_pipeline_folder, tmp_path_factory) -> Path:
    """What two steps of training leave, with a video of one clip."""
    output = tmp_path_factory.mktemp("trained")
    config = stage_configs(tiny_data_set, tiny_pipeline_folder, output)["a2v"]
    run(replace(config, max_train_steps=2, num_validation_clips=1, validation_inference_steps=1))
    return output


def test_result_of_the_denoiser_is_a_pipeline_that_renders(trained):
    pipe = DAWNPipeline.from_pretrained(trained / "pipeline")
    assert pipe.pbnet is not None and pipe.unet.config.block_out_channels == [16, 32]
    assert len(list((trained / "validation").glob("step-2-*.mp4"))) == 1


def test_two_processes_train_the_denoiser_as_one_with_the_doubled_batch(configs, tmp_path):
    config = replace(configs["a2v"], adam_epsilon=1e-3, checkpointing_steps=3)
    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(replace(config, train_batch_size=1, output_dir=str(tmp_path / "two"))))
    assert exit_codes(begin_two(main, ["--config", file])) == [0, 0]
    run(config)
    run(replace(config, train_batch_size=1, gradient_accumulation_steps=2, output_dir=str(tmp_path / "accumulated")))
    whole = result(config, "pipeline/unet")
    for other in ("two", "accumulated"):
        part = result(replace(config, output_dir=str(tmp_path / other)), "pipeline/unet")
        assert max(float((whole[name] - part[name]).abs().max()) for name in whole) < 1e-5


def test_denoiser_does_not_go_on_from_one_that_predicts_something_else(configs, trained):
    config = replace(configs["a2v"], pretrained_model=str(trained / "pipeline"), max_train_steps=1)
    run(config)
    with pytest.raises(ValueError, match="`prediction_type` is 'sample', but `pretrained_model` was trained with"):
        A2VStage(replace(config, prediction_type="sample"))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_denoiser_learns_any_prediction_type_with_snr_weights(configs, prediction_type):
    config = replace(configs["a2v"], prediction_type=prediction_type, snr_gamma=5.0, max_train_steps=1)
    run(config)
    pipe = DAWNPipeline.from_pretrained(Path(config.output_dir, "pipeline"))
    assert pipe.scheduler.config.prediction_type == prediction_type
    # DDIM made of this config starts where the network was trained to start from nothing
    first = int(set_timesteps(make_scheduler("ddim", pipe.scheduler.config), torch.device("cpu"), 4)[0])
    assert first == (750 if prediction_type == "epsilon" else 999)


def test_denoiser_with_a_mouth_reader_learns_both(configs):
    config = replace(configs["a2v"], model=A2V_MODEL | {"mouth_reader_channels": 8}, max_train_steps=2)
    stage = A2VStage(config)
    before = {name: value.clone() for name, value in stage.unet.state_dict().items()}
    batch = first_batch(stage)
    assert batch["mouth"].shape[1] == batch["pose"].shape[1] and batch["spoken"].shape[1] == 75
    run(config)
    after = result(config, "pipeline/unet")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("mouth_reader.") for name in moved) and any(".mouth.embed" in name for name in moved)


def test_denoiser_learns_by_flow_matching_and_goes_on_from_it(configs, tmp_path):
    config = replace(configs["a2v"], prediction_type="flow_prediction", snr_gamma=5.0, max_train_steps=1)
    run(config)
    folder = Path(config.output_dir, "pipeline")
    pipe = DAWNPipeline.from_pretrained(folder)
    assert training_config(pipe.scheduler)["prediction_type"] == "flow_prediction"
    # others are made from it as from any
    for solver in (DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler):
        pipe.scheduler = solver.from_config(pipe.scheduler.config)
        assert follows_flow(pipe.scheduler) and pipe.scheduler.config.prediction_type == "flow_prediction"
        pipe.plan(5, height=64, width=64, num_inference_steps=4)
    onward = replace(config, pretrained_model=str(folder), output_dir=str(tmp_path / "next"))
    A2VStage(onward)
    with pytest.raises(ValueError, match="is 'epsilon', but `pretrained_model` was trained with 'flow_prediction'"):
        A2VStage(replace(onward, prediction_type="epsilon"))


def test_gradient_checkpointing_gives_the_same_weights(configs, tmp_path):
    # Adam does not notice the gradients' scale, unless its epsilon is large; the learning rate makes up for that
    config = replace(configs["a2v"], max_train_steps=1, adam_epsilon=1.0, learning_rate=1.0, use_ema=False)
    start = {key: value.clone() for key, value in A2VStage(config).unet.state_dict().items()}
    run(config)
    other = replace(config, gradient_checkpointing=True, output_dir=str(tmp_path / "checkpointed"))
    run(other)
    first, second = result(config, "pipeline/unet"), result(other, "pipeline/unet")
    moved = max(float((first[key] - start[key]).abs().max()) for key in first)
    # rounding: activations are computed twice
    assert moved > 0.01
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-5 * moved


def test_lfg_of_the_denoiser_stays_as_it_was(trained, tiny_pipeline_folder):
    before = LatentFlowGenerator.from_pretrained(tiny_pipeline_folder, subfolder="lfg").state_dict()
    after = load_file(trained / "pipeline" / "lfg" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in after)


def test_denoiser_attends_to_the_whole_clip_in_training(configs):
    def loss(window: int | None, training: bool) -> float:
        stage = A2VStage(replace(configs["a2v"], model=A2V_MODEL | {"temporal_window": window}))
        stage.unet.train(training)
        return float(stage.objectives["unet"](first_batch(stage), 0.0)["denoising"].detach().double())

    assert loss(1, training=True) == loss(None, training=True)
    assert loss(1, training=False) != loss(None, training=False)


def test_denoiser_learns_eyes_when_asked_and_known(configs, eyed_data_set):
    config = replace(configs["a2v"], eye_weight=2.0, colour_jitter=False)
    with pytest.raises(ValueError, match="`eye_weight` is 2.0, but `dataset` .* has no `eyes_px`"):
        A2VStage(config)
    stage, without = (
        A2VStage(replace(config, dataset=str(eyed_data_set), eye_weight=weight)) for weight in (2.0, 0.0)
    )
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,), 3)] for seed in range(2)])
    terms, plain = (one.objectives["unet"](batch, 0.0) for one in (stage, without))
    assert terms.keys() - plain.keys() == {"eyes"}
    torch.testing.assert_close(terms["loss"], plain["loss"] + 2 * terms["eyes"])


def test_denoiser_with_a_flow_scale_learns_displacements(configs):
    seen = {}
    for flow_scale in (None, 4.0):
        stage = A2VStage(replace(configs["a2v"], model=A2V_MODEL | {"flow_scale": flow_scale}))
        batch = first_batch(stage)
        batch["noise"], batch["timestep"] = torch.zeros_like(batch["noise"]), torch.zeros_like(batch["timestep"])
        stage.unet.register_forward_pre_hook(lambda _, inputs, key=flow_scale: seen.__setitem__(key, inputs[0]))
        stage.objectives["unet"](batch, 0.0)
    grid = cell_centres(16, 16).permute(2, 0, 1)[None, :, None]
    # step 0 leaves all but a ten-thousandth of the signal
    torch.testing.assert_close(seen[4.0][:, :2], 4 * (seen[None][:, :2] - grid), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[4.0][:, 2], seen[None][:, 2])


@pytest.mark.parametrize(
    ("window", "frames", "warned"), [(40, 5, True), (None, 5, True), (10, 5, False), (40, 20, False)]
)
def test_attention_far_beyond_what_the_training_shows_is_warned_of(configs, caplog, window, frames, warned):
    A2VStage(replace(configs["a2v"], model=A2V_MODEL | {"temporal_window": window}, max_frames=frames))
    assert ("`model.temporal_window` should be" in caplog.text) == warned


def test_denoiser_learns_known_motion_in_patches_and_without_an_estimator(configs, moving_data_set, tmp_path):
    lfg = LatentFlowGenerator(64, **LFG_MODEL | {"with_motion_estimator": False})
    lfg.save_pretrained(tmp_path / "lfg")
    model = A2V_MODEL | {"patch_size": 2, "flow_scale": 8.0}
    known = {"motion": "known", "lfg": str(tmp_path / "lfg"), "pbnet": None, "eye_weight": 1.0}
    config = replace(configs["a2v"], dataset=str(moving_data_set), model=model, max_train_steps=1, **known)
    stage, progress = run(config)
    assert progress.skipped_steps == 0
    batch = first_batch(stage)
    assert batch["motion"].shape == (2, 3, 5, 16, 16) and "frames" not in batch
    pipe = DAWNPipeline.from_pretrained(Path(config.output_dir) / "pipeline")
    assert pipe.unet.config.patch_size == 2


def test_what_stands_still_has_a_term_of_its_own(configs, moving_data_set, tmp_path, monkeypatch):
    lfg = LatentFlowGenerator(64, **LFG_MODEL | {"with_motion_estimator": False})
    lfg.save_pretrained(tmp_path / "lfg")
    known = {"motion": "known", "lfg": str(tmp_path / "lfg"), "pbnet": None, "prediction_type": "sample"}
    config = replace(configs["a2v"], dataset=str(moving_data_set), still_weight=100.0, **known)
    stage = A2VStage(config)
    batch, objective = first_batch(stage), stage.objectives["unet"]
    flow = batch["motion"][:, :2]
    still = cell_centres(*flow.shape[-2:]).permute(2, 0, 1)[None, :, None]
    moves = ((flow - still).abs() > 0.01).any(dim=1, keepdim=True)  # in one of five frames the picture stands still
    assert moves.any() and not moves.all()
    for error, expected in ((0.25 * moves, 0.0), (0.25 * ~moves, 0.25)):
        prediction = batch["motion"] + error * torch.tensor([1, 1, 0])[:, None, None, None]
        monkeypatch.setattr(
            objective.unet, "forward", lambda *inputs, sample=prediction: SimpleNamespace(sample=sample)
        )
        terms = objective(batch, 0)
        torch.testing.assert_close(terms["still"], torch.tensor(expected), atol=1e-6, rtol=1e-5)
        assert (terms["loss"] > 100 * 0.2) == (expected > 0)


def test_denoiser_learns_the_motion_of_a_square_around_the_face(configs, moving_data_set, tmp_path, monkeypatch):
    lfg = LatentFlowGenerator(64, **LFG_MODEL | {"with_motion_estimator": False})
    lfg.save_pretrained(tmp_path / "lfg")
    known = {"motion": "known", "lfg": str(tmp_path / "lfg"), "pbnet": None, "eye_weight": 1.0}
    config = replace(configs["a2v"], dataset=str(moving_data_set), max_train_steps=1, crop_px=32, **known)
    stage, progress = run(config)
    assert progress.skipped_steps == 0
    batch = first_batch(stage)
    assert batch["noise"].shape[-2:] == (8, 8) and batch["motion"].shape[-2:] == (16, 16)
    assert ((batch["corner"] >= 0) & (batch["corner"] <= 8)).all()
    # a network that says what is there has no error inside of the square, wherever that lies
    side = 8
    objective = stage.objectives["unet"]
    objective.flow_scale = None
    truth = torch.stack([
        motion[..., corner[1] : corner[1] + side, corner[0] : corner[0] + side]
        for motion, corner in zip(batch["motion"], batch["corner"].tolist(), strict=True)
    ])
    monkeypatch.setattr(objective.unet, "forward", lambda *inputs: SimpleNamespace(sample=truth))
    objective.prediction_type = "sample"
    assert objective(batch, 0)["denoising"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_px": 20, "motion": "known", "eye_weight": 1.0}, "`crop_px` is 20, must be a positive multiple of 32"),
        ({"crop_px": 32}, "`crop_px` must be null unless"),
        ({"crop_px": 32, "motion": "known"}, "`crop_px` must be null unless"),
    ],
)
def test_squares_that_cannot_be_cut_are_refused(configs, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(configs["a2v"], **changes)


@pytest.mark.parametrize("seconds", [-0.1, 2.5])
def test_poses_are_smoothed_over_two_seconds_at_most(configs, seconds):
    with pytest.raises(ValueError, match=r"`pose_smoothing_s` is .*, must be in \[0, 2\] seconds"):
        replace(configs["a2v"], pose_smoothing_s=seconds)


def test_known_motion_is_not_estimated_too(configs):
    with pytest.raises(ValueError, match="`cached_references` must be 0"):
        replace(configs["a2v"], motion="known", cached_references=2, colour_jitter=False)
