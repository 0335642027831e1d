"""The loop, tried on the smallest of the stages; what all stages promise together is in test_stages.py."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_loop import MODEL, largest_difference, loop_config, run, weights_of

from training.engine.checkpoints import list_checkpoints
from training.engine.config import config_to_yaml
from training.engine.loop import run_script
from training.train_pbnet import PBNetConfig, PBNetStage

ROOT = Path(__file__).parents[3]
# no dropout, whose random numbers depend on the process; Adam's division would magnify what rounding leaves near zero
COMPARABLE = {"model": MODEL | {"dropout": 0.0}, "max_train_steps": 3, "adam_epsilon": 1e-3}
# of sums in another order, after three steps
ROUNDING = 3e-5
# with `--cpu` accelerate would start one process, whatever number is asked for
LAUNCH_TWO = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH_TWO += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.fixture
def config(tiny_data_set, tmp_path) -> PBNetConfig:
    return loop_config(tiny_data_set, tmp_path / "out")


def test_resume_equals_the_uninterrupted_run(config, tmp_path):
    # six clips, two per batch, two batches per step: checkpoint 2 lies in the middle of an epoch
    config = replace(config, gradient_accumulation_steps=2, checkpointing_steps=2, lr_warmup_steps=1)
    run(config)
    parted = replace(config, output_dir=str(tmp_path / "parted"))
    run(parted)
    # as if killed after the second step
    for checkpoint in list_checkpoints(Path(parted.output_dir))[1:]:
        checkpoint.rename(checkpoint.with_name(f"old-{checkpoint.name}"))
    run(replace(parted, resume_from_checkpoint="latest"))
    name = "checkpoint-5"
    assert largest_difference(Path(config.output_dir, name), Path(parted.output_dir, name)) == 0


def test_dropout_makes_the_random_state_part_of_the_checkpoint(config):
    # what the test above would not notice without it
    assert PBNetStage(config).pbnet.config.dropout > 0


def test_accumulated_batches_equal_one_large_batch(config, tmp_path):
    config = replace(config, **COMPARABLE)
    run(replace(config, gradient_accumulation_steps=2))
    run(replace(config, train_batch_size=4, output_dir=str(tmp_path / "large")))
    paths = [Path(config.output_dir, "checkpoint-3"), tmp_path / "large" / "checkpoint-3"]
    assert largest_difference(*paths) < ROUNDING


@pytest.fixture(scope="module")
def launched(tiny_data_set, tmp_path_factory) -> tuple[PBNetConfig, str]:
    """A training by two processes that say how long they wait for each other: its settings, and what was said."""
    folder = tmp_path_factory.mktemp("launched")
    file, script = folder / "settings.yaml", folder / "train.py"
    config = replace(loop_config(tiny_data_set, folder / "out"), **COMPARABLE)
    file.write_text(config_to_yaml(config))
    script.write_text(
        "import sys, torch, torch.distributed as dist\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from training.engine.loop import run_script\n"
        "from training.train_pbnet import PBNetConfig, PBNetStage\n"
        "class Stage(PBNetStage):\n"
        "    def samples(self):\n"
        "        patience = dist.group.WORLD._get_backend(torch.device('cpu')).options._timeout\n"
        "        print(f'{patience}\\n', end='', flush=True)\n"
        "        return super().samples()\n"
        "sys.exit(run_script(Stage, PBNetConfig, '', sys.argv[1:]))\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *LAUNCH_TWO, str(script), "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return config, ended.stdout


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(launched, tmp_path):
    two, _ = launched
    config = replace(two, train_batch_size=4, output_dir=str(tmp_path / "one"))
    run(config)
    paths = [Path(one.output_dir, "checkpoint-3") for one in (two, config)]
    assert largest_difference(*paths) < ROUNDING


@pytest.mark.slow
def test_processes_wait_for_each_other_for_days(launched):
    assert launched[1].count("30 days") == 2


def with_bad_step(bad: str) -> type[PBNetStage]:
    """Make a stage in whose third step the loss of one objective is not a number; that has a buffer that moves."""

    class StageWithBadStep(PBNetStage):
        def __init__(self, config):
            super().__init__(config)
            for name, objective in self.objectives.items():
                network = self.networks[name]
                network.register_buffer("num_passes", torch.zeros(()))
                objective.register_forward_hook(
                    lambda module, inputs, terms, name=name, network=network: self.spoil(name, network, terms)
                )

        def spoil(self, name, network, terms):
            network.num_passes += 1
            is_bad = name == bad and network.num_passes == 3 and not getattr(self, "is_spoilt", False)
            self.is_spoilt = getattr(self, "is_spoilt", False) or is_bad
            return terms | {"loss": terms["loss"] * (math.nan if is_bad else 1)}

    return StageWithBadStep


def changed_networks(config: PBNetConfig, first: int, second: int) -> set[str]:
    folders = [Path(config.output_dir, f"checkpoint-{step}") for step in (first, second)]
    before, after = map(weights_of, folders)
    return {name.partition("/")[0] for name in before if not torch.equal(before[name], after[name])}


def test_step_with_gradients_that_are_not_finite_is_skipped_and_counted(config):
    config = replace(config, checkpointing_steps=1, adversarial_weight=0)
    progress = run(config, with_bad_step("pbnet"))
    assert (progress.step, progress.skipped_steps) == (5, 1)
    assert changed_networks(config, 2, 3) == set()
    assert changed_networks(config, 3, 4) == {"pbnet", "pbnet_ema"}


@pytest.mark.parametrize("bad", ["pose_discriminator", "blink_discriminator", "pbnet"])
def test_update_that_is_not_finite_changes_its_network_only(config, caplog, bad):
    config = replace(config, checkpointing_steps=1)
    progress = run(config, with_bad_step(bad))
    assert (progress.step, progress.skipped_steps) == (5, 1)
    assert f"step 2: update of {bad} skipped, its gradients are not finite" in caplog.messages
    everything = {"pbnet", "pbnet_ema", "pose_discriminator", "blink_discriminator"}
    assert changed_networks(config, 2, 3) == everything - ({"pbnet", "pbnet_ema"} if bad == "pbnet" else {bad})
    steps = json.loads(Path(config.output_dir, "checkpoint-5", "progress.json").read_text())["average_steps"]
    assert steps == {"pbnet": 4 if bad == "pbnet" else 5}


class StageThatCannotJudge(PBNetStage):
    """Its validation fails."""

    def validate(self):
        raise ValueError("no clips")


def test_result_is_kept_when_the_last_validation_fails(config):
    with pytest.raises(ValueError, match="no clips"):
        run(replace(config, max_train_steps=1, num_validation_clips=1), StageThatCannotJudge)
    assert Path(config.output_dir, "pbnet", "config.json").is_file()


def test_gradients_are_clipped(config, tmp_path):
    # plain Adam does not notice the gradients' scale, a large epsilon makes it
    config = replace(config, max_train_steps=1, adam_epsilon=1.0, adversarial_weight=0, checkpointing_steps=1)
    start = PBNetStage(config).pbnet.state_dict()

    def moved(clip: float | None) -> float:
        folder = tmp_path / f"clip-{clip}"
        run(replace(config, max_grad_norm=clip, output_dir=str(folder)))
        end = load_file(folder / "checkpoint-1" / "pbnet" / "diffusion_pytorch_model.safetensors")
        return max(float((end[name] - start[name]).abs().max()) for name in end)

    assert moved(1e-6) < 1e-3 * moved(None)


def test_average_follows_the_weights_slowly(config):
    run(config)
    weights = weights_of(Path(config.output_dir, "checkpoint-5"))
    names = [name for name in weights if name.startswith("pbnet/") and weights[name].is_floating_point()]
    start = PBNetStage(config).pbnet.state_dict()
    moved = {name: weights[name] - start[name.partition("/")[2]] for name in names}
    averaged = {name: weights[f"pbnet_ema/{name.partition('/')[2]}"] - start[name.partition("/")[2]] for name in names}
    total = sum(float(value.norm()) for value in moved.values())
    assert 0 < sum(float(value.norm()) for value in averaged.values()) < total


def test_result_is_the_average(config):
    run(config)
    result = load_file(Path(config.output_dir, "pbnet", "diffusion_pytorch_model.safetensors"))
    average = load_file(Path(config.output_dir, "checkpoint-5", "pbnet_ema", "diffusion_pytorch_model.safetensors"))
    assert all(torch.equal(result[name], average[name]) for name in average)


def test_result_has_a_card_with_hub_metadata_and_no_local_path(config):
    run(config)
    text = Path(config.output_dir, "README.md").read_text()
    _, metadata, body = text.split("---\n", 2)
    assert yaml.safe_load(metadata)["library_name"] == "diffusers"
    assert "5 steps" in body and config.output_dir not in text


def test_dry_run_prints_the_settings_and_makes_nothing(config, capsys, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(config))
    assert run_script(PBNetStage, PBNetConfig, "", ["--config", str(file), "--seed", "7", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["seed"] == 7
    assert not Path(config.output_dir).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--dataset", "/nowhere"],
            "`dataset` /nowhere holds no finished data set: there is no ",
        ),
        (["--model.laten_dim", "3"], "`model` has unknown key.* laten_dim"),
        (["--model.audio_dim", "5"], "`model.audio_dim` is 5, but"),
        (["--pretrained_model", "/nowhere/at/all"], "`pretrained_model` is '/nowhere/at/all'"),
        (["--resume_from_checkpoint", "checkpoint-9"], "`resume_from_checkpoint` is 'checkpoint-9'"),
        (["--gradient_checkpointing"], "`gradient_checkpointing` must be false"),
        (["--kl_weight", "-1"], "`kl_weight` is -1.0, must not be negative"),
        (["--max_frames", "1"], "`max_frames` is 1, must be at least 2"),
    ],
)
def test_bad_input_ends_with_one_sentence(config, tmp_path, capsys, arguments, sentence):
    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(config))
    assert run_script(PBNetStage, PBNetConfig, "", ["--config", str(file), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(sentence, error)


def test_other_training_in_the_output_folder_is_not_overwritten(config):
    run(replace(config, max_train_steps=1))
    with pytest.raises(ValueError, match="holds checkpoint-1: continue with `--resume_from_checkpoint latest`"):
        run(config)


def test_upload_that_cannot_be_is_refused_before_the_training(config, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="`hub_model_id` 'me/dawn' cannot be made on the Hub"):
        run(replace(config, push_to_hub=True, hub_model_id="me/dawn"))
    assert not Path(config.output_dir).exists()


def test_latest_without_a_checkpoint_begins_anew(config):
    assert run(replace(config, max_train_steps=1, resume_from_checkpoint="latest")).step == 1


def test_logs_name_losses_and_the_share_of_loading(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(replace(config, report_to="tensorboard", log_steps=1))
    events = EventAccumulator(str(Path(config.output_dir, "logs", "dawn")))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"pbnet/loss", "pbnet/pose_kl", "learning_rate", "loading_share", "skipped_steps", "grad_norm"} <= names
    assert len(events.Scalars("pbnet/loss")) == 5


def test_pretrained_network_is_the_start(config, tmp_path):
    run(replace(config, max_train_steps=1))
    config = replace(config, pretrained_model=config.output_dir, output_dir=str(tmp_path / "next"))
    stage = PBNetStage(config)
    saved = load_file(Path(config.pretrained_model, "pbnet", "diffusion_pytorch_model.safetensors"))
    assert all(torch.equal(stage.pbnet.state_dict()[name], saved[name]) for name in saved)
    with pytest.raises(ValueError, match="`model.latent_dim` is 4, but `pretrained_model`"):
        PBNetStage(replace(config, model=MODEL | {"latent_dim": 4}))
