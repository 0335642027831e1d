"""What every stage of training promises, each tried at its smallest."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusers_dawn.flow_geometry import coordinate_grid
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.pipeline_dawn import DAWNPipeline
from diffusers_dawn.scheduler_choice import make_scheduler, set_timesteps
from training.checkpoints import list_checkpoints
from training.config import TrainingConfig, config_to_yaml
from training.diffusion_targets import mouth_box_mask
from training.loop import train
from training.train_a2v import A2VConfig, A2VStage
from training.train_lfg import LFGConfig, LFGStage, anchor_points, flow_points
from training.train_pbnet import PBNetConfig, PBNetStage
from training.training_plan import Draw
from training.vgg import VGG19Features

ROOT = Path(__file__).parents[2]
LFG_MODEL = {
    "num_regions": 3,
    "block_out_channels": [4, 8, 32],
    "num_bottleneck_blocks": 1,
    "flow_channels": [8, 16],
    "region_channels": [8, 16],
    "background_channels": [8, 16],
}
A2V_MODEL = {
    "block_out_channels": [16, 32],
    "face_location_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
}
PBNET_MODEL = {"latent_dim": 8, "state_width": 8, "audio_width": 8, "decoder_width": 16, "feed_forward_dim": 16}


@pytest.fixture
def configs(tiny_data_set, tiny_pipeline_folder, tmp_path) -> dict[str, TrainingConfig]:
    common = {
        "dataset": str(tiny_data_set),
        "output_dir": str(tmp_path / "out"),
        "train_batch_size": 2,
        "max_train_steps": 3,
        "checkpointing_steps": 1,
        "report_to": "none",
        "num_validation_clips": 0,
        "use_ema": True,
    }
    lfg = str(tiny_pipeline_folder)
    return {
        "lfg": LFGConfig(**common, model=LFG_MODEL),
        "pbnet": PBNetConfig(**common, model=PBNET_MODEL, max_frames=24, discriminator={"base_channels": 4}),
        "a2v": A2VConfig(**common, model=A2V_MODEL, lfg=lfg, pbnet=lfg, min_frames=3, max_frames=5),
    }


STAGES = {"lfg": LFGStage, "pbnet": PBNetStage, "a2v": A2VStage}


def run(config: TrainingConfig):
    stage = STAGES[type(config).__name__.removesuffix("Config").lower()](config)
    return stage, train(stage, config)


def result(config: TrainingConfig, name: str = "") -> dict[str, torch.Tensor]:
    return load_file(next(Path(config.output_dir).glob(f"{name}/diffusion_pytorch_model.safetensors")))


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


@pytest.fixture
def lora_config(configs, tmp_path) -> A2VConfig:
    """The settings of an adapter on a denoiser of random weights."""
    config = replace(configs["a2v"], output_dir=str(tmp_path / "base"), max_train_steps=1, use_ema=False)
    run(config)
    base = str(tmp_path / "base" / "pipeline")
    return replace(configs["a2v"], pretrained_model=base, model={}, lora_rank=2, lora_layers=("to_qkv", "conv1"))


def test_an_adapter_alone_is_trained_and_saved_and_loads_on_its_base(lora_config):
    stage = A2VStage(lora_config)
    starts = {key: value.clone() for key, value in stage.unet.named_parameters()}
    train(stage, lora_config)
    moved = {key for key, value in stage.unet.named_parameters() if not torch.equal(value, starts[key])}
    assert moved == {key for key in starts if ".lora_" in key}
    output = Path(lora_config.output_dir)
    assert [path.name for path in (output / "lora").iterdir()] == ["pytorch_lora_weights.safetensors"]
    assert 'pipe.load_lora_weights("out/lora")' in (output / "README.md").read_text()

    base = DAWNPipeline.from_pretrained(lora_config.pretrained_model)
    plain = {key: value.clone() for key, value in base.unet.state_dict().items()}
    base.load_lora_weights(output / "lora", "mine")
    loaded = dict(base.unet.named_parameters())
    saved = load_file(output / "checkpoint-3" / "unet_ema" / "pytorch_lora_weights.safetensors")
    assert len(saved) == len(moved)
    for key, value in saved.items():
        assert torch.equal(loaded[key.replace(".weight", ".mine.weight")], value)
    base.unload_lora_weights()
    assert plain.keys() == base.unet.state_dict().keys()


def test_a_resumed_adapter_equals_the_uninterrupted_run(lora_config, tmp_path):
    run(lora_config)
    for checkpoint in list_checkpoints(Path(lora_config.output_dir))[1:]:
        checkpoint.rename(tmp_path / checkpoint.name)
    run(replace(lora_config, resume_from_checkpoint="latest"))
    for name in ("unet", "unet_ema"):
        file = Path(name, "pytorch_lora_weights.safetensors")
        first, second = (load_file(folder / "checkpoint-3" / file) for folder in (tmp_path, tmp_path / "out"))
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_adapters_without_peft_name_the_extra(lora_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"`lora_rank` needs peft: pip install 'diffusers_dawn\[lora\]'"):
        A2VStage(lora_config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 0}, "`lora_rank` is 0"),
        ({"pretrained_model": None}, "`lora_rank` is given without `pretrained_model`"),
        ({"lora_layers": ("to_nothing",)}, r"`lora_layers` is \['to_nothing'\], must be some of .*to_qkv"),
        ({"lora_layers": ()}, r"`lora_layers` is \[\], must be some of"),
    ],
)
def test_adapters_that_cannot_be_are_refused(lora_config, changes, message):
    with pytest.raises(ValueError, match=message):
        A2VStage(replace(lora_config, **changes))


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
        ("a2v", "denoising", 60, 0.5, {"learning_rate": 3e-3, "colour_jitter": False, "cached_references": 1}),
    ],
)
def test_loss_of_one_clip_falls_by_the_factor(configs, single_clip, name, term, steps, factor, changes):
    config = replace(
        configs[name],
        dataset=str(single_clip),
        max_train_steps=steps,
        checkpointing_steps=steps,
        lr_scheduler="constant",
        train_batch_size=4,
        **changes,
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


def test_result_of_the_denoiser_is_a_pipeline_that_renders(configs, tiny_data_set):
    run(replace(configs["a2v"], max_train_steps=1, num_validation_clips=1, validation_inference_steps=1))
    output = Path(configs["a2v"].output_dir)
    pipe = DAWNPipeline.from_pretrained(output / "pipeline")
    assert pipe.pbnet is not None and pipe.unet.config.block_out_channels == [16, 32]
    assert len(list((output / "validation").glob("step-1-*.mp4"))) == 1


def test_card_names_no_local_path_and_how_to_load_the_result(configs):
    run(replace(configs["a2v"], max_train_steps=1))
    text = Path(configs["a2v"].output_dir, "README.md").read_text()
    assert "/tmp" not in text and str(Path(configs["a2v"].lfg).parent) not in text
    assert 'DAWNPipeline.from_pretrained("out/pipeline")' in text and "pipeline_tag: image-to-video" in text


def test_running_statistics_survive_a_step_that_is_not_finite(configs):
    config = replace(configs["lfg"], max_train_steps=2, use_ema=False)
    stage = LFGStage(config)
    samples, calls = stage.samples(), []

    class Spoiled(torch.utils.data.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, draw):
            calls.append(draw)
            sample = samples[draw]
            return sample | {"driving": sample["driving"] * (float("inf") if len(calls) == 1 else 1)}

    stage.samples = Spoiled
    assert train(stage, config).skipped_steps == 1
    assert all(bool(value.isfinite().all()) for value in result(config, "lfg").values())


@pytest.mark.slow
def test_two_processes_train_the_denoiser_as_one_with_the_doubled_batch(configs, tmp_path):
    config = replace(configs["a2v"], adam_epsilon=1e-3, checkpointing_steps=3)
    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(replace(config, train_batch_size=1, output_dir=str(tmp_path / "two"))))
    command = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    subprocess.run(
        [sys.executable, *command, str(ROOT / "training" / "train_a2v.py"), "--config", str(file)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        timeout=300,
    )
    run(config)
    run(replace(config, train_batch_size=1, gradient_accumulation_steps=2, output_dir=str(tmp_path / "accumulated")))
    whole = result(config, "pipeline/unet")
    for other in ("two", "accumulated"):
        part = result(replace(config, output_dir=str(tmp_path / other)), "pipeline/unet")
        assert max(float((whole[name] - part[name]).abs().max()) for name in whole) < 1e-5


def test_pbnet_for_poses_and_one_for_blinks_become_one_in_the_pipeline(configs, tmp_path):
    for name in ("pose", "blink"):
        model = PBNET_MODEL | {"networks": name}
        run(replace(configs["pbnet"], model=model, max_train_steps=1, output_dir=str(tmp_path / name)))
    parts = {"pbnet": str(tmp_path / "pose"), "pbnet_blink": str(tmp_path / "blink")}
    run(replace(configs["a2v"], **parts, max_train_steps=1))
    pipe = DAWNPipeline.from_pretrained(Path(configs["a2v"].output_dir, "pipeline"))
    assert pipe.pbnet.makes_pose and pipe.pbnet.makes_blink


def test_denoiser_does_not_go_on_from_one_that_predicts_something_else(configs, tmp_path):
    run(replace(configs["a2v"], max_train_steps=1))
    start = str(Path(configs["a2v"].output_dir, "pipeline"))
    config = replace(configs["a2v"], pretrained_model=start, output_dir=str(tmp_path / "next"), max_train_steps=1)
    run(config)
    with pytest.raises(ValueError, match="`prediction_type` is 'sample', but `pretrained_model` was trained with"):
        A2VStage(replace(config, prediction_type="sample"))


def test_result_replaces_an_older_one(configs):
    config = replace(configs["a2v"], max_train_steps=1)
    run(config)
    run(replace(config, max_train_steps=2, resume_from_checkpoint="latest"))
    assert DAWNPipeline.from_pretrained(Path(config.output_dir, "pipeline"))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_denoiser_learns_any_prediction_type_with_snr_weights(configs, prediction_type):
    config = replace(configs["a2v"], prediction_type=prediction_type, snr_gamma=5.0, max_train_steps=1)
    run(config)
    pipe = DAWNPipeline.from_pretrained(Path(config.output_dir, "pipeline"))
    assert pipe.scheduler.config.prediction_type == prediction_type
    # DDIM made of this config starts where the network was trained to start from nothing
    first = int(set_timesteps(make_scheduler("ddim", pipe.scheduler.config), torch.device("cpu"), 4)[0])
    assert first == (750 if prediction_type == "epsilon" else 999)


def test_gradient_checkpointing_gives_the_same_weights(configs, tmp_path):
    config = replace(configs["a2v"], max_train_steps=1)
    run(config)
    other = replace(config, gradient_checkpointing=True, output_dir=str(tmp_path / "checkpointed"))
    run(other)
    first, second = result(config, "pipeline/unet"), result(other, "pipeline/unet")
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-6


def test_lfg_of_the_denoiser_stays_as_it_was(configs, tiny_pipeline_folder):
    run(replace(configs["a2v"], max_train_steps=2))
    before = LatentFlowGenerator.from_pretrained(tiny_pipeline_folder, subfolder="lfg").state_dict()
    after = result(configs["a2v"], "pipeline/lfg")
    assert all(torch.equal(before[key], after[key]) for key in after)


def test_denoiser_attends_to_the_whole_clip_in_training(configs):
    def loss(window: int | None, training: bool) -> float:
        stage = A2VStage(replace(configs["a2v"], model=A2V_MODEL | {"temporal_window": window}))
        stage.unet.train(training)
        return float(stage.objectives["unet"](_batch(stage), 0.0)["denoising"].double())

    assert loss(1, training=True) == loss(None, training=True)
    assert loss(1, training=False) != loss(None, training=False)


def _batch(stage) -> dict[str, torch.Tensor]:
    samples = stage.samples()
    parts = [samples[Draw(index, (0, index), 5)] for index in range(2)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def test_perceptual_loss_is_used_when_vgg_weights_are_given(configs, tmp_path, caplog):
    torch.manual_seed(0)
    save_file(VGG19Features().state_dict(), tmp_path / "vgg.safetensors")
    config = replace(configs["lfg"], max_train_steps=1)
    with caplog.at_level("INFO", "training"):
        run(replace(config, vgg=str(tmp_path / "vgg.safetensors"), pyramid_scales=(1, 0.5)))
        run(replace(config, output_dir=str(tmp_path / "other")))
    said = [record.message for record in caplog.records if record.message.startswith("comparing")]
    assert said == ["comparing VGG19 features", "comparing pixels and image gradients (no `vgg`)"]


def test_error_in_the_mouth_counts_more_when_it_is_weighted(configs):
    def share_of_mouth(weight: float) -> float:
        stage = LFGStage(replace(configs["lfg"], mouth_weight=weight))
        batch = _batch(stage)
        size = batch["driving"].shape[-2:]
        mouth = mouth_box_mask(batch["mouth_px"][:, 1:], size, *size)[:, :, 0]
        compare = stage.objectives["lfg"].compare
        wrong_mouth, wrong_rest = (batch["driving"] + 0.1 * mask for mask in (mouth, 1 - mouth))
        return float(compare(wrong_mouth, batch) / compare(wrong_rest, batch))

    assert share_of_mouth(50.0) > 10 * share_of_mouth(1.0)


def test_regions_move_onto_the_landmarks_when_asked(configs):
    model = LFG_MODEL | {"num_regions": 6}
    config = replace(configs["lfg"], model=model, landmark_weight=100.0, max_train_steps=30, learning_rate=3e-3)
    stage = LFGStage(config)
    distances = []
    stage.objectives["lfg"].register_forward_hook(lambda *call: distances.append(call[-1]["landmark"].item()))
    train(stage, config)
    assert distances[-1] < 0.5 * distances[0]


def test_first_epochs_are_for_the_landmarks_alone_when_asked(configs):
    model = LFG_MODEL | {"num_regions": 6}
    config = replace(configs["lfg"], model=model, landmark_weight=1.0, landmark_warmup_epochs=0.5, use_ema=False)
    stage = LFGStage(config)
    before = {name: value.clone() for name, value in stage.lfg.state_dict().items()}
    named = []
    stage.objectives["lfg"].register_forward_hook(lambda *call: named.append(set(call[-1])))
    # six clips, two per step: half an epoch is one and a half steps
    train(stage, config)
    assert [names == {"landmark", "loss"} for names in named] == [True, True, False]
    first = load_file(Path(config.output_dir, "checkpoint-2", "lfg", "diffusion_pytorch_model.safetensors"))
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], before[name])}
    assert moved == {"region_predictor"}


def test_anchor_points_are_lips_corners_and_ends_of_the_face():
    places = {"mouth_px": torch.arange(40.0).view(20, 2), "face_box_px": torch.tensor([10.0, 30.0, 5.0, 45.0])}
    six = [*places["mouth_px"][[14, 18, 0, 6]].tolist(), [20.0, 5.0], [20.0, 45.0]]
    assert anchor_points(places).tolist() == six
    places["eyes_px"] = torch.tensor([[12.0, 18.0, 15.0, 17.0], [22.0, 28.0, 14.0, 18.0]])
    lids = [[15.0, 15.0], [15.0, 17.0], [25.0, 14.0], [25.0, 18.0]]
    assert anchor_points(places).tolist() == six + lids
    assert flow_points(places).tolist() == [*places["mouth_px"].tolist(), *lids]


def test_eyes_count_more_when_asked_and_known(configs, eyed_data_set):
    config = replace(configs["lfg"], model=LFG_MODEL | {"num_regions": 10}, eye_weight=9.0, landmark_weight=1.0)
    with pytest.raises(ValueError, match="`eye_weight` is 9.0, but `dataset` .* has no `eyes_px`"):
        LFGStage(config)
    stage = LFGStage(replace(config, dataset=str(eyed_data_set)))
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,))] for seed in range(2)])
    drawn = batch["driving"].clone()
    drawn[..., 26:28, 22:26] += 0.1
    objective = stage.objectives["lfg"]
    inside = objective.compare(drawn, batch)
    objective.config = replace(config, eye_weight=1.0)
    # eyes are a fortieth of the picture
    assert inside > 3 * objective.compare(drawn, batch)
    assert objective(batch, 0.0)["landmark"].isfinite()


def test_eyes_are_painted_anew_when_asked_and_known(configs, eyed_data_set):
    config = replace(configs["lfg"], closed_eye_weight=9.0)
    with pytest.raises(ValueError, match="`closed_eye_weight` is 9.0, but `dataset` .* has no `eyes_px`"):
        LFGStage(config)
    stage = LFGStage(replace(config, dataset=str(eyed_data_set)))
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,))] for seed in range(2)])
    objective = stage.objectives["lfg"]
    terms = objective(batch, 0.0)
    others = sum(
        objective.weights[name] * value for name, value in terms.items() if name not in {"loss", "closed_eye"}
    )
    torch.testing.assert_close(terms["loss"], others + 9 * terms["closed_eye"])


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


@pytest.mark.parametrize("networks", ["separate", "joint", "pose", "blink"])
def test_pbnet_trains_poses_blinks_or_both(configs, networks):
    config = replace(configs["pbnet"], model=PBNET_MODEL | {"networks": networks}, max_train_steps=1)
    stage, _ = run(replace(config, num_validation_clips=1))
    assert set(stage.networks) == {"pbnet", *(f"{name}_discriminator" for name in stage.pbnet.state_dims)}


def test_discriminator_learns_to_tell_and_pbnet_does_not_move_it(configs):
    stage = PBNetStage(configs["pbnet"])
    batch = _batch(stage)
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
        ("a2v", {"reference": "last"}, "`reference` is 'last', must be one of first, random"),
        ("a2v", {"prediction_type": "flow"}, "`prediction_type` is 'flow', must be one of"),
        ("a2v", {"null_probability": 1.5}, r"`null_probability` is 1.5, must be in \[0, 1\]"),
        ("a2v", {"snr_gamma": 0.0}, "`snr_gamma` is 0.0, must be positive"),
        ("a2v", {"timestep_shift": 0.0}, "`timestep_shift` is 0.0, must be positive"),
        ("a2v", {"cached_references": -1}, "`cached_references` is -1, must not be negative"),
        ("a2v", {"cached_references": 2}, "`colour_jitter` must be false with `cached_references`"),
        ("lfg", {"shift_weight": -1.0}, "`shift_weight` is -1.0, must not be negative"),
        (
            "lfg",
            {"landmark_warmup_epochs": 1.0},
            "`landmark_warmup_epochs` is 1.0, must not be negative, and 0 without",
        ),
        ("lfg", {"blink_share": 1.5}, r"`blink_share` is 1.5, must be in \[0, 1\]"),
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
        ("a2v", {"lfg": "/nowhere/at/all"}, "`lfg` is '/nowhere/at/all', in which no LatentFlowGenerator"),
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


def test_denoiser_with_a_flow_scale_learns_displacements(configs):
    seen = {}
    for flow_scale in (None, 4.0):
        stage = A2VStage(replace(configs["a2v"], model=A2V_MODEL | {"flow_scale": flow_scale}))
        batch = _batch(stage)
        batch["noise"], batch["timestep"] = torch.zeros_like(batch["noise"]), torch.zeros_like(batch["timestep"])
        stage.unet.register_forward_pre_hook(lambda _, inputs, key=flow_scale: seen.__setitem__(key, inputs[0]))
        stage.objectives["unet"](batch, 0.0)
    grid = coordinate_grid(16, 16).permute(2, 0, 1)[None, :, None]
    # step 0 leaves all but a ten-thousandth of the signal
    torch.testing.assert_close(seen[4.0][:, :2], 4 * (seen[None][:, :2] - grid), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[4.0][:, 2], seen[None][:, 2])
