import dataclasses
import sys
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from training.engine.config import MOST, TrainingConfig, config_to_yaml, parse_config

NEEDED = ["--dataset", "clips", "--output_dir", "out"]


@dataclass(kw_only=True)
class Settings(TrainingConfig):
    """Settings of a made-up stage."""

    widths: tuple[int, ...] = (1, 2)
    mouth_weight: float = 1.0
    validation_inference_steps: int = 20


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


def test_precision_is_left_to_the_launcher_unless_it_is_given():
    assert parse_config(Settings, "", NEEDED)[0].mixed_precision is None
    assert parse_config(Settings, "", [*NEEDED, "--mixed_precision", "null"])[0].mixed_precision is None


@pytest.mark.parametrize("text", ["my #clips", "2024", "a: b", "true", "[a]", "~", "null", "1e-1", "'a'", ""])
def test_text_of_the_command_line_is_taken_as_it_stands(text):
    config, _ = parse_config(Settings, "", ["--dataset", text, f"--output_dir={text}"])
    assert (config.dataset, config.output_dir) == (text, text)


def test_null_is_none_where_a_setting_may_be_left_out():
    config, _ = parse_config(Settings, "", [*NEEDED, "--hub_model_id", "null", "--pretrained_model", "~"])
    assert (config.hub_model_id, config.pretrained_model) == (None, "~")


@given(text=st.text(st.characters(blacklist_categories=["Cs"])) | st.from_regex(r"[-+.0-9_eE]+", fullmatch=True))
@example(text="1e-1")
@example(text="no")
def test_any_text_survives_the_yaml_file(tmp_path_factory, text):
    config = Settings(dataset=text, output_dir="b", report_to="none")
    file = tmp_path_factory.getbasetemp() / "settings.yaml"
    file.write_text(config_to_yaml(config), encoding="utf-8")
    assert parse_config(Settings, "", ["--config", str(file)])[0] == config
    # other programs read it alike
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["dataset"] == text


@pytest.mark.parametrize(
    ("text", "value"), [("1e-1", 0.1), ("1E5", 1e5), ("-2.5e-3", -2.5e-3), (".5e1", 5.0), ("3", 3), ("e1", "e1")]
)
def test_powers_of_ten_are_numbers(text, value, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"dataset: a\noutput_dir: b\nmodel: {{from_file: {text}}}\n")
    config, _ = parse_config(Settings, "", ["--config", str(file), "--model.given", text])
    assert config.model == {"from_file": value, "given": value}
    assert {type(found) for found in config.model.values()} == {type(value)}


@pytest.mark.parametrize(
    ("tracker", "installation"), [("tensorboard", r"diffusers_dawn\[train\]"), ("wandb", "wandb")]
)
def test_missing_tracker_is_said_at_once(monkeypatch, tracker, installation):
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(ImportError, match=f"`report_to` is '{tracker}', .* pip install {installation}"):
        parse_config(Settings, "", [*NEEDED, "--report_to", tracker])


def test_key_below_a_number_is_refused(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("dataset: a\noutput_dir: b\nlearning_rate: 1e-3\n")
    with pytest.raises(
        ValueError, match="`--learning_rate.a` is given, but `learning_rate` is 0.001, which has no keys"
    ):
        parse_config(Settings, "", ["--config", str(file), "--learning_rate.a", "3"])
    with pytest.raises(ValueError, match="`learning_rate` is {'a': 3}, must be float"):
        parse_config(Settings, "", [*NEEDED, "--learning_rate.a", "3"])


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
        (["--report_to", "3"], "`report_to` is '3', must be one of"),
        (["--output_dir"], "`--output_dir` needs a value"),
        (["--hub_model_id", "--seed", "3"], "`--hub_model_id` needs a value"),
        (["--lr_scheduler", "step"], "`lr_scheduler` is 'step', must be one of"),
        (["--report_to", "paper"], "`report_to` is 'paper', must be one of"),
        (["7"], "'7' on the command line belongs to no key"),
        (["--seed", "[1"], "is not a YAML value"),
        (["--seed", "&a [*a]"], "is not a YAML value"),
        (["--seed", "-1"], "`seed` is -1, must not be negative"),
        (["--mouth_weight", "1e300"], "`mouth_weight` is 1e\\+300, must be at most 1e\\+06"),
        (["--validation_inference_steps", "0"], "`validation_inference_steps` is 0, must be at least 1"),
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


HOSTILE_YAML = ["[" * 5000, "seed: !!timestamp 2020-99-99", "seed: 2020-13-45", "seed: !!int x", "? [a]\n: 1", "\x00"]
# eight aliases of eight aliases, ..., and a list that holds itself
HOSTILE_YAML += [
    "model:\n  a0: &a0 [x]\n" + "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 30))
]
HOSTILE_YAML += ["seed: &a [*a, *a]"]


@pytest.mark.parametrize("text", HOSTILE_YAML)
def test_yaml_that_fails_in_other_ways_is_refused_in_one_sentence(tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"`--config` .* (is not YAML|must hold)|unknown key|`seed` is"):
        parse_config(Settings, "", ["--config", str(file)])


@pytest.mark.parametrize("name", [name for name in MOST if hasattr(Settings, name)])
def test_absurdly_large_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` is .*, must be at most"):
        parse_config(Settings, "", [*NEEDED, f"--{name}", str(int(MOST[name]) * 1000)])


def test_numbers_beyond_all_numbers_are_refused():
    with pytest.raises(ValueError, match="`learning_rate` is "):
        parse_config(Settings, "", [*NEEDED, "--learning_rate", "1" + "0" * 400])
