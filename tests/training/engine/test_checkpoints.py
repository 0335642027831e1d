import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny_loop import MODEL, loop_config, run

from training.engine.checkpoints import Checkpoints, list_checkpoints
from training.engine.config import config_to_yaml
from training.engine.loop import run_script
from training.train_pbnet import PBNetConfig, PBNetStage

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tiny_data_set, tmp_path) -> PBNetConfig:
    return loop_config(tiny_data_set, tmp_path / "out")


@pytest.fixture(scope="module")
def one_step(tiny_data_set, tmp_path_factory) -> PBNetConfig:
    config = replace(loop_config(tiny_data_set, tmp_path_factory.mktemp("one") / "out"), max_train_steps=1)
    run(config)
    return replace(config, max_train_steps=2)


def test_networks_of_other_sizes_than_the_checkpoint_s_are_refused(config):
    run(replace(config, max_train_steps=1))
    # as if the data set had been made anew with a wider audio encoder
    file = Path(config.output_dir, "config.yaml")
    file.write_text(file.read_text().replace("latent_dim: 8", "latent_dim: 4"))
    other = replace(config, model=MODEL | {"latent_dim": 4}, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="pbnet_ema in checkpoint-1 has other sizes than settings and data set"):
        run(other)


def test_networks_other_than_the_checkpoint_s_are_refused(config):
    run(replace(config, max_train_steps=1))
    shutil.rmtree(Path(config.output_dir, "checkpoint-1", "pbnet_ema"))
    with pytest.raises(ValueError, match="checkpoint-1 holds blink_discriminator, pbnet, .* train .*pbnet_ema"):
        run(replace(config, resume_from_checkpoint="latest"))


def test_loss_scaling_that_the_checkpoint_knows_nothing_of_is_refused(config):
    run(replace(config, max_train_steps=1))
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    checkpoints = Checkpoints(Path(config.output_dir), accelerator, PBNetStage(config).networks, None, None)
    shutil.rmtree(Path(config.output_dir, "checkpoint-1", "pbnet_ema"))
    with pytest.raises(ValueError, match="`mixed_precision` is fp16, but .* checkpoint-1 was trained without"):
        checkpoints.load(Path(config.output_dir, "checkpoint-1"), 2)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("random_states_0.pkl", lambda content: content[: len(content) // 2]),
        ("random_states_0.pkl", lambda content: b""),
        ("random_states_0.pkl", None),
        ("optimizer.bin", lambda content: b"cos\nsystem\n(S'echo ran'\ntR."),
        ("optimizer.bin", lambda content: content[:100]),
        ("progress.json", lambda content: b"{"),
    ],
)
def test_damaged_file_of_a_checkpoint_is_refused_in_one_sentence(one_step, name, damage):
    file = Path(one_step.output_dir, "checkpoint-1", name)
    content = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_bytes(damage(content))
    try:
        with pytest.raises(ValueError, match="^`resume_from_checkpoint`.* [^\n]*$"):
            run(replace(one_step, resume_from_checkpoint="latest"))
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("largest_bytes", [100, 3_000, 20_000])
def test_full_disk_leaves_no_part_of_a_checkpoint(config, tmp_path, capsys, largest_bytes):
    resource = pytest.importorskip("resource")
    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(replace(config, checkpointing_steps=2)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def build(config: PBNetConfig) -> PBNetStage:
        stage = PBNetStage(config)
        limit = lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, limits[1]))  # noqa: E731
        stage.objectives["pbnet"].register_forward_pre_hook(limit)
        return stage

    try:
        assert run_script(build, PBNetConfig, "", ["--config", str(file)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(rf"error: `output_dir` {config.output_dir} cannot take \.checkpoint-2\.partial: .", error)
    assert [path.name for path in Path(config.output_dir).iterdir()] == ["config.yaml"]


def test_parts_of_killed_processes_are_removed(config):
    part = Path(config.output_dir, ".checkpoint-1.partial")
    part.mkdir(parents=True)
    run(replace(config, checkpointing_steps=2))
    assert not part.exists()


def test_oldest_checkpoints_beyond_the_limit_are_removed(config):
    run(replace(config, checkpointing_steps=1, checkpoints_total_limit=2))
    assert [path.name for path in list_checkpoints(Path(config.output_dir))] == ["checkpoint-4", "checkpoint-5"]


def test_resume_with_other_samples_per_step_is_refused(config):
    run(replace(config, max_train_steps=1))
    with pytest.raises(ValueError, match="trained with 2 samples per step, now there are 4"):
        run(replace(config, train_batch_size=4, resume_from_checkpoint="latest"))
