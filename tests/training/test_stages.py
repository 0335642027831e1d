"""What every stage of training promises, each tried at its smallest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_stages import PBNET_MODEL, STAGES, first_batch, run

from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.engine.checkpoints import list_checkpoints
from training.engine.loop import train
from training.train_pbnet import PBNetStage


@pytest.mark.parametrize("name", STAGES)
def test_resume_equals_the_uninterrupted_run(configs, name, tmp_path):
    config = configs[name]
    run(config)
    for checkpoint in list_checkpoints(Path(config.output_dir))[1:]:
        checkpoint.rename(tmp_path / checkpoint.name)
    run(replace(config, resume_from_checkpoint="latest"))
    again = Path(config.output_dir, "checkpoint-3")
    files = sorted(again.rglob("*.safetensors"))
    assert len(files) >= 2
    for file in files:
        first, second = load_file(tmp_path / "checkpoint-3" / file.relative_to(again)), load_file(file)
        assert all(torch.equal(first[key], second[key]) for key in first), file


@pytest.mark.parametrize("name", STAGES)
def test_every_weight_is_trained(configs, name):
    # three steps: the background's last layer starts at zero, and lets no gradient through before it has moved
    config = replace(configs[name], use_ema=False, null_probability=0.0) if name == "a2v" else configs[name]
    stage = STAGES[name](config)
    starts = {key: {k: v.clone() for k, v in network.state_dict().items()} for key, network in stage.networks.items()}
    train(stage, config)
    still = [
        k
        for key, network in stage.networks.items()
        for k, p in network.named_parameters()
        if p.requires_grad and torch.equal(p, starts[key][k])
    ]
    # PBNet's queries start as zeros, as published: what they are multiplied with does not matter
    assert [k for k in still if not k.endswith("start_projection.weight")] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "term", "steps", "factor", "changes"),
    [
        ("lfg", "reconstruction", 60, 0.6, {"learning_rate": 3e-3, "colour_jitter": 0.0, "flip": False}),
        ("pbnet", "pose_reconstruction", 60, 0.2, {"learning_rate": 3e-3, "adversarial_weight": 0.0}),
        (
            *("a2v", "denoising", 30, 0.6),
            {"learning_rate": 5e-3, "colour_jitter": False, "cached_references": 1, "train_batch_size": 2},
        ),
    ],
)
def test_loss_of_one_clip_falls_by_the_factor(configs, single_clip, name, term, steps, factor, changes):
    config = replace(
        configs[name],
        dataset=str(single_clip),
        max_train_steps=steps,
        checkpointing_steps=steps,
        lr_scheduler="constant",
        **{"train_batch_size": 4} | changes,
    )
    stage = STAGES[name](config)
    objective = stage.objectives[name if name != "a2v" else "unet"]
    losses = []
    objective.register_forward_hook(lambda module, inputs, terms: losses.append(float(terms[term].detach())))
    train(stage, config)
    assert np.mean(losses[-5:]) < factor * np.mean(losses[:5])


@pytest.fixture(scope="session")
def single_clip(tmp_path_factory) -> Path:
    from tiny_clips import write_tiny_data_set

    return write_tiny_data_set(tmp_path_factory.mktemp("one") / "clips", num_clips=1, num_test_clips=0)


@pytest.mark.parametrize("name", STAGES)
def test_bf16_step_is_finite(configs, name):
    _, progress = run(replace(configs[name], mixed_precision="bf16", max_train_steps=1))
    assert progress.skipped_steps == 0
    tensors = [load_file(file) for file in Path(configs[name].output_dir).rglob("*.safetensors")]
    assert all(
        bool(value.isfinite().all()) for part in tensors for value in part.values() if value.is_floating_point()
    )


def test_card_names_no_local_path_and_how_to_load_the_result(configs):
    run(replace(configs["a2v"], max_train_steps=1))
    text = Path(configs["a2v"].output_dir, "README.md").read_text()
    assert "/tmp" not in text and str(Path(configs["a2v"].lfg).parent) not in text
    assert 'DAWNPipeline.from_pretrained("out/pipeline")' in text and "pipeline_tag: image-to-video" in text


def test_pbnet_for_poses_and_one_for_blinks_become_one_in_the_pipeline(configs, tmp_path):
    for name in ("pose", "blink"):
        model = PBNET_MODEL | {"networks": name}
        run(replace(configs["pbnet"], model=model, max_train_steps=1, output_dir=str(tmp_path / name)))
    parts = {"pbnet": str(tmp_path / "pose"), "pbnet_blink": str(tmp_path / "blink")}
    run(replace(configs["a2v"], **parts, max_train_steps=1))
    pipe = DAWNPipeline.from_pretrained(Path(configs["a2v"].output_dir, "pipeline"))
    assert pipe.pbnet.makes_pose and pipe.pbnet.makes_blink


def test_result_replaces_an_older_one(configs):
    config = replace(configs["a2v"], max_train_steps=1)
    run(config)
    run(replace(config, max_train_steps=2, resume_from_checkpoint="latest"))
    assert DAWNPipeline.from_pretrained(Path(config.output_dir, "pipeline"))


@pytest.mark.parametrize("networks", ["separate", "joint", "pose", "blink"])
def test_pbnet_trains_poses_blinks_or_both(configs, networks):
    config = replace(configs["pbnet"], model=PBNET_MODEL | {"networks": networks}, max_train_steps=1)
    stage, _ = run(replace(config, num_validation_clips=1))
    assert set(stage.networks) == {"pbnet", *(f"{name}_discriminator" for name in stage.pbnet.state_dims)}


def test_discriminator_learns_to_tell_and_pbnet_does_not_move_it(configs):
    stage = PBNetStage(configs["pbnet"])
    batch = first_batch(stage)
    stage.objectives["pbnet"](batch, 0.0)["loss"].backward()
    assert all(p.grad is None for p in stage.networks["pose_discriminator"].parameters())
    stage.pbnet.zero_grad()
    stage.objectives["pose_discriminator"](batch, 0.0)["loss"].backward()
    assert all(p.grad is not None for p in stage.networks["pose_discriminator"].parameters())
    assert all(p.grad is None or not p.grad.any() for p in stage.pbnet.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("a2v", {"min_frames": 9}, "`min_frames` is 9, must be at least 1 and at most `max_frames`, 5"),
        ("a2v", {"eye_weight": -1.0}, "`eye_weight` is -1.0, must not be negative"),
        ("a2v", {"flow_gradient_weight": -1.0}, "`flow_gradient_weight` is -1.0, must not be negative"),
        ("a2v", {"part_motion_weight": -1.0}, "`part_motion_weight` is -1.0, must not be negative"),
        ("a2v", {"still_weight": -1.0}, "`still_weight` is -1.0, must not be negative"),
        ("a2v", {"reference": "last"}, "`reference` is 'last', must be one of first, random"),
        ("a2v", {"prediction_type": "flow"}, "`prediction_type` is 'flow', must be one of"),
        ("a2v", {"null_probability": 1.5}, r"`null_probability` is 1.5, must be in \[0, 1\]"),
        ("a2v", {"dropped_share": -0.1}, r"`dropped_share` is -0.1, must be in \[0, 1\]"),
        ("a2v", {"blink_share": 1.1}, r"`blink_share` is 1.1, must be in \[0, 1\]"),
        ("a2v", {"snr_gamma": 0.0}, "`snr_gamma` is 0.0, must be positive"),
        ("a2v", {"timestep_shift": 0.0}, "`timestep_shift` is 0.0, must be positive"),
        ("a2v", {"timestep_shift": float("inf")}, "`timestep_shift` is inf, must be a finite number"),
        ("pbnet", {"learning_rate": float("nan")}, "`learning_rate` is nan, must be a finite number"),
        ("pbnet", {"pose_smoothness_weight": -1.0}, "`pose_smoothness_weight` is -1.0, must not be negative"),
        ("a2v", {"cached_references": -1}, "`cached_references` is -1, must not be negative"),
        ("a2v", {"cached_references": 2}, "`colour_jitter` must be false with `cached_references`"),
        ("lfg", {"shift_weight": -1.0}, "`shift_weight` is -1.0, must not be negative"),
        (
            "lfg",
            {"landmark_warmup_epochs": 1.0},
            "`landmark_warmup_epochs` is 1.0, must not be negative, and 0 without",
        ),
        ("lfg", {"blink_share": 1.5}, r"`blink_share` is 1.5, must be in \[0, 1\]"),
        ("lfg", {"soft_motion_share": -0.5, "motion": "known"}, r"`soft_motion_share` is -0.5, must be in \[0, 1\]"),
        ("lfg", {"mouth_weight": 0.5}, "`mouth_weight` is 0.5, must be at least 1"),
        ("lfg", {"mouth_weight": 2.0, "vgg": "x"}, "`mouth_weight` must be 1 with `vgg`"),
    ],
)
def test_bad_setting_is_refused(configs, name, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(configs[name], **changes)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("a2v", {"max_frames": 31}, "`max_frames` is 31, but no clip of"),
        ("a2v", {"lfg": "/nowhere/at/all"}, "`lfg` is '/nowhere/at/all', which holds no LatentFlowGenerator"),
        ("a2v", {"audio_encoder": "/nowhere/at/all"}, "`audio_encoder` '/nowhere/at/all' cannot be loaded"),
        ("a2v", {"model": {"reference_channels": 7}}, "`model.reference_channels` is 7, but"),
        ("lfg", {"gradient_checkpointing": True}, "`gradient_checkpointing` must be false"),
        ("lfg", {"vgg": "/nowhere/at/all"}, "`vgg` /nowhere/at/all is neither a file nor a folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(configs, name, changes, sentence):
    config = replace(configs[name], **changes)
    with pytest.raises(ValueError, match=sentence):
        run(config)
    assert not list_checkpoints(Path(config.output_dir))
