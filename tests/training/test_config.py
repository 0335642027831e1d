import dataclasses
from dataclasses import dataclass

import pytest

from training.config import TrainingConfig, config_to_yaml, parse_config

NEEDED = ["--dataset", "clips", "--output_dir", "out"]


@dataclass(kw_only=True)
class Settings(TrainingConfig):
    """Settings of a made-up stage."""

    widths: tuple[int, ...] = (1, 2)


def test_command_line_overrides_the_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("dataset: a\noutput_dir: b\nlearning_rate: 1e-3\nseed: 4\n")
    config, dry_run = parse_config(Settings, "", ["--config", str(file), "--seed=5", "--dry-run"])
    assert (config.dataset, config.learning_rate, config.seed, dry_run) == ("a", 1e-3, 5, True)


def test_keys_of_the_model_section_are_given_with_a_dot(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("dataset: a\noutput_dir: b\nmodel: {dim: 3}\n")
    config, _ = parse_config(Settings, "", ["--config", str(file), "--model.widths", "[8, 16]"])
    assert config.model == {"dim": 3, "widths": [8, 16]}


def test_flag_without_a_value_means_true():
    config, _ = parse_config(Settings, "", [*NEEDED, "--use_ema", "--gradient-checkpointing"])
    assert config.use_ema and config.gradient_checkpointing


def test_values_are_read_as_yaml():
    config, _ = parse_config(Settings, "", [*NEEDED, "--max_grad_norm", "null", "--lr_end", "2e-6", "--widths", "[3]"])
    assert (config.max_grad_norm, config.lr_end, config.widths) == (None, 2e-6, (3,))


def test_no_is_text_and_not_false():
    config, _ = parse_config(Settings, "", [*NEEDED, "--mixed_precision", "no", "--use_ema", "false"])
    assert (config.mixed_precision, config.use_ema) == ("no", False)


def test_yaml_text_gives_the_settings_back(tmp_path):
    file = tmp_path / "settings.yaml"
    config, _ = parse_config(Settings, "", [*NEEDED, "--max_grad_norm", "2", "--model.a", "1"])
    file.write_text(config_to_yaml(dataclasses.replace(config, widths=[4, 5])))
    assert parse_config(Settings, "", ["--config", str(file)])[0] == dataclasses.replace(config, widths=(4, 5))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--learning_rat", "1"], "unknown key.* learning_rat;"),
        (["--seed", "x"], "`seed` is 'x', must be int"),
        (["--seed", "true"], "`seed` is True, must be int"),
        (["--learning_rate", "fast"], "`learning_rate` is 'fast', must be float"),
        (["--learning_rate", "0"], "`learning_rate` is 0.0, must be positive"),
        (["--max_grad_norm", "-1"], "`max_grad_norm` is -1.0, must be positive"),
        (["--train_batch_size", "0"], "`train_batch_size` is 0, must be at least 1"),
        (["--adam_beta2", "1"], r"`adam_beta2` is 1.0, must be in \[0, 1\)"),
        (["--lr_warmup_steps", "-2"], "`lr_warmup_steps` is -2, must not be negative"),
        (["--mixed_precision", "fp8"], "`mixed_precision` is 'fp8', must be one of no, fp16, bf16"),
        (["--report_to", "3"], "`report_to` is 3, must be str"),
        (["--lr_scheduler", "step"], "`lr_scheduler` is 'step', must be one of"),
        (["--report_to", "paper"], "`report_to` is 'paper', must be one of"),
        (["7"], "'7' on the command line belongs to no key"),
        (["--seed", "[1"], "is not a YAML value"),
    ],
)
def test_bad_setting_is_refused_in_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_config(Settings, "", [*NEEDED, *arguments])


def test_missing_keys_are_named():
    with pytest.raises(ValueError, match="missing key.* dataset, output_dir"):
        parse_config(Settings, "", [])


def test_file_that_is_no_settings_is_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    with pytest.raises(ValueError, match="cannot be read"):
        parse_config(Settings, "", ["--config", str(file)])
    file.write_text("- a\n")
    with pytest.raises(ValueError, match="must hold keys"):
        parse_config(Settings, "", ["--config", str(file)])
    file.write_text("a: !!python/object/apply:os.system [ls]\n")
    with pytest.raises(ValueError, match="is not YAML"):
        parse_config(Settings, "", ["--config", str(file)])
