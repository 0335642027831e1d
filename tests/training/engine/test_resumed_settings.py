import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_loop import MODEL, loop_config, run

from training.engine.loop import train
from training.train_pbnet import PBNetConfig, PBNetStage

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tiny_data_set, tmp_path) -> PBNetConfig:
    return loop_config(tiny_data_set, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 9}, "`seed` was 0, is now 9; go on with those of .*config.yaml, or begin another `output_dir`"),
        ({"model": MODEL | {"latent_dim": 4}}, "`model.latent_dim` was 8, is now 4"),
        ({"model": MODEL | {"dropout": 0.5}}, "`model.dropout` was not given, is now 0.5"),
        ({"kl_start_epoch": 3.0, "clip_repeats": 2}, "`clip_repeats` was 1, is now 2; `kl_start_epoch` was 0.0, is "),
        ({"adam_beta1": 0.5}, "`adam_beta1` was 0.9, is now 0.5"),
        ({"adversarial_weight": 0.0}, "`adversarial_weight` was 1.0, is now 0.0"),
        ({"use_ema": False}, "`use_ema` was True, is now False"),
        ({"pretrained_model": "somewhere"}, "`pretrained_model` was None, is now 'somewhere'"),
    ],
)
def test_resume_with_other_settings_is_refused_and_changes_nothing(config, changes, sentence):
    run(replace(config, max_train_steps=1))
    stage, settings = PBNetStage(config), Path(config.output_dir, "config.yaml")
    before = settings.read_text()
    with pytest.raises(ValueError, match=f"`resume_from_checkpoint` checkpoint-1 was trained with .*{sentence}"):
        train(stage, replace(config, max_train_steps=1, resume_from_checkpoint="latest", **changes))
    assert settings.read_text() == before


def test_resume_on_another_data_set_is_refused_and_on_a_moved_one_is_not(config, tmp_path):
    run(replace(config, max_train_steps=1))
    for name, fits in (("others", False), (Path(config.dataset).name, True)):
        moved = tmp_path / "moved" / name
        shutil.copytree(config.dataset, moved)
        resumed = replace(config, dataset=str(moved), max_train_steps=2, resume_from_checkpoint="latest")
        if fits:
            assert run(resumed).step == 2
        else:
            with pytest.raises(ValueError, match="`dataset` was '.*', is now '.*others'"):
                run(resumed)


def test_learning_rate_and_weights_of_losses_may_change_and_are_said(config, caplog):
    caplog.set_level("INFO", logger="training")
    run(replace(config, max_train_steps=1))
    changes = {"learning_rate": 1e-4, "kl_weight": 0.1, "train_batch_size": 1, "gradient_accumulation_steps": 2}
    assert run(replace(config, max_train_steps=2, resume_from_checkpoint="latest", **changes)).step == 2
    (said,) = [text for text in caplog.messages if text.startswith("continuing from")]
    assert said.endswith(
        "checkpoint-1 with other settings: `max_train_steps` was 1, is now 2; `train_batch_size` was 2, is now 1; "
        "`gradient_accumulation_steps` was 1, is now 2; `learning_rate` was 0.001, is now 0.0001; `kl_weight` was "
        "0.004, is now 0.1"
    )
    assert yaml.safe_load(Path(config.output_dir, "config.yaml").read_text())["kl_weight"] == 0.1


def test_resume_with_the_same_settings_says_nothing_of_them(config, caplog):
    caplog.set_level("INFO", logger="training")
    run(replace(config, max_train_steps=1))
    run(replace(config, max_train_steps=1, resume_from_checkpoint="latest"))
    assert [text for text in caplog.messages if text.endswith("out/checkpoint-1") or "other settings" in text] == [
        f"continuing from {config.output_dir}/checkpoint-1"
    ]


def test_checkpoint_without_its_settings_is_refused(config):
    run(replace(config, max_train_steps=1))
    file = Path(config.output_dir, "config.yaml")
    file.write_text("wings: 2\n")
    again = replace(config, max_train_steps=2, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="config.yaml does not fit: unknown key.* wings"):
        run(again)
    file.unlink()
    with pytest.raises(ValueError, match="`resume_from_checkpoint` .*config.yaml cannot be read"):
        run(again)
