"""Settings of a training: a YAML file whose keys can all be overridden on the command line."""

import argparse
import dataclasses
import importlib.util
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

MIXED_PRECISIONS = ("no", "fp16", "bf16")
LEARNING_RATE_SCHEDULES = ("cosine", "linear", "constant")
TRACKERS = ("tensorboard", "wandb", "none")
# how the packages are installed that the trackers need
TRACKER_INSTALLATIONS = {"tensorboard": "diffusers_dawn[train]", "wandb": "wandb"}


@dataclass(kw_only=True)
class TrainingConfig:
    """What every training has in common; the names are those of diffusers' training scripts.

    Attributes:
        dataset: Folder of a prepared data set (see `prepare_clips.py`, `make_synthetic_clips.py` and
            `make_photo_clips.py`), or shares of the samples by folder, as "{clips: 0.3, photos: 0.7}".
        output_dir: Folder of checkpoints, logs, validation clips, and of the result.
        model: Arguments of the trained network's constructor that differ from its defaults.
        pretrained_model: Folder or Hub id of a network of the same kind (or a pipeline that has one) to start from.
        seed: Everything random is a function of it and of a sample's position in the training.
        max_train_steps: Number of optimisation steps; None: as `num_train_epochs` say.
        num_train_epochs: Number of passes over the data set.
        clip_repeats: How often an epoch passes over every clip, each time with other frames.
        train_batch_size: Samples per process and step, before accumulation.
        gradient_accumulation_steps: Batches that make one step.
        gradient_checkpointing: Whether to compute activations again instead of keeping them.
        mixed_precision: "no", "fp16" or "bf16"; None: as `accelerate launch` says, "no" without it.
        allow_tf32: Whether GPUs may multiply in TF32.
        learning_rate: Largest learning rate.
        lr_scheduler: "cosine", "linear" or "constant".
        lr_warmup_steps: Steps in which the learning rate rises from 0.
        lr_end: Learning rate after the last step.
        adam_beta1: First coefficient of Adam.
        adam_beta2: Second coefficient of Adam.
        adam_weight_decay: Decoupled weight decay; 0 makes AdamW Adam.
        adam_epsilon: Epsilon of Adam.
        max_grad_norm: Gradients of a larger norm are scaled down to it; None: never.
        use_ema: Whether to keep a moving average of the weights, which then is the result.
        ema_decay: Largest decay of the average; it starts smaller.
        checkpointing_steps: Steps between checkpoints.
        checkpoints_total_limit: How many checkpoints are kept; None: all.
        resume_from_checkpoint: "latest", or a checkpoint's folder.
        dataloader_num_workers: Processes that read samples, per training process.
        log_steps: Steps between log entries.
        validation_steps: Steps between validations; None: only at the end.
        num_validation_clips: Clips rendered per validation; 0: no validation.
        report_to: "tensorboard", "wandb" (which no extra brings: `pip install wandb`) or "none".
        tracker_project_name: Name of the project in the tracker.
        push_to_hub: Whether to upload the result.
        hub_model_id: Repository on the Hub; None: the name of `output_dir`.
        debug: Whether to show tracebacks.
    """

    dataset: str | dict[str, float]
    output_dir: str
    model: dict[str, Any] = field(default_factory=dict)
    pretrained_model: str | None = None
    seed: int = 0
    max_train_steps: int | None = None
    num_train_epochs: int = 1
    clip_repeats: int = 1
    train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: str | None = None
    allow_tf32: bool = False
    learning_rate: float = 1e-4
    lr_scheduler: str = "cosine"
    lr_warmup_steps: int = 0
    lr_end: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float | None = None
    use_ema: bool = False
    ema_decay: float = 0.9999
    checkpointing_steps: int = 1000
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | None = None
    dataloader_num_workers: int = 0
    log_steps: int = 10
    validation_steps: int | None = None
    num_validation_clips: int = 1
    report_to: str = "tensorboard"
    tracker_project_name: str = "dawn"
    push_to_hub: bool = False
    hub_model_id: str | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            # nan passes every comparison that refuses what is too small or too large
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"`{item.name}` is {value}, must be a finite number")
        for name in _counts(self):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` is {value}, must be at least 1")
        for name, most in MOST.items():
            value = getattr(self, name, None)
            if value is not None and value > most:
                raise ValueError(f"`{name}` is {value}, must be at most {most}")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_weight") and value is not None and value > MOST_WEIGHT:
                raise ValueError(f"`{item.name}` is {value}, must be at most {MOST_WEIGHT:g}")
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}, must not be negative")
        for name in ("learning_rate", "adam_epsilon", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` is {value}, must be positive")
        not_negative = ("lr_end", "adam_weight_decay", "lr_warmup_steps", "dataloader_num_workers")
        for name in (*not_negative, "num_validation_clips"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must not be negative")
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be in [0, 1)")
        if self.mixed_precision is not None:
            check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISIONS)
        check_choice("lr_scheduler", self.lr_scheduler, LEARNING_RATE_SCHEDULES)
        check_choice("report_to", self.report_to, TRACKERS)
        if self.report_to != "none" and importlib.util.find_spec(self.report_to) is None:
            installation = TRACKER_INSTALLATIONS[self.report_to]
            raise ImportError(f"`report_to` is {self.report_to!r}, which is not installed: pip install {installation}")


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is none of the allowed ones.

    Args:
        name: Name of the setting.
        value: Its value.
        allowed: The allowed values.

    Raises:
        ValueError: The value is not among them.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` is {value!r}, must be one of {', '.join(map(str, allowed))}")


# far above what any training has: what is larger is a slip, and would take all memory or all numbers
MOST = {
    "seed": 2**32 - 1,  # of numpy's generators
    "train_batch_size": 10_000,
    "gradient_accumulation_steps": 10_000,
    "dataloader_num_workers": 1000,
    "num_validation_clips": 10_000,
    "max_train_steps": 10**9,
    "num_train_epochs": 10**9,
    "clip_repeats": 10**6,
    "min_frames": 10_000,
    "max_frames": 10_000,
    "validation_frames": 10_000,
    "validation_inference_steps": 10_000,
    "cached_references": 1000,
    "crop_px": 10_000,
    "lora_rank": 10_000,
    "spline_points": 100,
    "affine_sigma": 1.0,
    "spline_sigma": 1.0,
    "clips_per_epoch": 10**9,
    "seconds": 600.0,
    "learning_rate": 1.0,
    "lr_end": 1.0,
    "adam_epsilon": 1.0,
    "adam_weight_decay": 1000.0,
}
MOST_WEIGHT = 1e6  # of a term of a loss
MOST_YAML_VALUES = 100_000


Config = TypeVar("Config", bound=TrainingConfig)


# YAML 1.1 wants a point and a sign in every power of ten, and reads 1e-1 as text
POWER_OF_TEN = re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML in which only true and false are truth values, so that `mixed_precision: no` is text.

    Powers of ten are numbers, as everywhere else.
    """


class _PlainDumper(yaml.SafeDumper):
    """Writes text in quotes where `_PlainLoader`, or any other loader, would not read it as text."""


_PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
for _language in (_PlainLoader, _PlainDumper):
    _language.add_implicit_resolver("tag:yaml.org,2002:float", POWER_OF_TEN, list("-+.0123456789"))


def parse_config(
    config_class: type[Config], description: str, arguments: Sequence[str] | None = None
) -> tuple[Config, bool]:
    """Read the settings from `--config FILE.yaml`, overridden by `--key value` for any key.

    A key of the `model` section is `--model.key value`. Where a setting is text, the value is taken as it stands (but
    for `null` where None is allowed); others are read as YAML, so `null`, `true`, `1e-4` and `[64, 128]` mean what
    they mean in the file.

    Args:
        config_class: The settings that the script knows.
        description: First line of the script's help.
        arguments: Command line; None: that of the process.

    Returns:
        The settings, and whether only they are wanted (`--dry-run`).

    Raises:
        ValueError: A key is unknown, a value is of another type or not allowed, or a needed key is missing.
        ImportError: The package of `report_to` is not installed.
    """
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="Keys, each also `--KEY VALUE`: " + ", ".join(item.name for item in dataclasses.fields(config_class)),
    )
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings; the command line overrides them")
    parser.add_argument("--dry-run", action="store_true", help="print the settings as YAML and stop")
    known, overrides = parser.parse_known_args(arguments)
    values = read_settings(known.config) if known.config is not None else {}
    hints = typing.get_type_hints(config_class)
    for key, text in _pairs(overrides):
        value = _value_of(key, text, hints.get(key))
        section, _, inner = key.partition(".")
        if not inner:
            values[key] = value
        elif isinstance(values.get(section) or {}, dict):
            values[section] = {**(values.get(section) or {}), inner: value}
        else:
            raise ValueError(f"`--{key}` is given, but `{section}` is {values[section]!r}, which has no keys")
    return config_from_dict(config_class, values), known.dry_run


def config_from_dict(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """Check keys and types of settings.

    Args:
        config_class: The settings that are known.
        values: Values by key.

    Returns:
        The settings.

    Raises:
        ValueError: A key is unknown, a value is of another type or not allowed, or a needed key is missing.
    """
    fields = {item.name: item for item in dataclasses.fields(config_class)}
    unknown = sorted(values.keys() - fields.keys())
    if unknown:
        raise ValueError(f"unknown key(s) {', '.join(unknown)}; known are {', '.join(fields)}")
    needed = [
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in values
    ]
    if needed:
        raise ValueError(f"missing key(s) {', '.join(needed)}: give them in the file or as `--{needed[0]} VALUE`")
    hints = typing.get_type_hints(config_class)
    return config_class(**{name: _as_type(name, value, hints[name]) for name, value in values.items()})


def config_to_yaml(config: TrainingConfig) -> str:
    """Write settings as the YAML text that gives them back."""
    return yaml.dump(dataclasses.asdict(config), Dumper=_PlainDumper, sort_keys=False)


def read_settings(path: Path, name: str = "--config") -> dict[str, Any]:
    """Read a file of settings, unchecked.

    Args:
        path: The YAML file.
        name: Argument name for error messages.

    Returns:
        Values by key.

    Raises:
        ValueError: The file cannot be read, or holds no keys with values.
    """
    try:
        values = _load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"`{name}` {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # deep nesting, impossible dates and numbers fail in any way
        raise ValueError(f"`{name}` {path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"`{name}` {path} must hold keys with values")
    return values


def _counts(config: TrainingConfig) -> list[str]:
    # everything that is counted from one
    names = ("max_train_steps", "num_train_epochs", "clip_repeats", "train_batch_size", "gradient_accumulation_steps")
    names = (*names, "checkpointing_steps", "checkpoints_total_limit", "log_steps", "validation_steps")
    # which not every training has
    return [*names, *(name for name in ("validation_inference_steps", "spline_points") if hasattr(config, name))]


def _load_yaml(text: str) -> object:
    """Read YAML whose values are not many more than its letters, as aliases of aliases make them."""
    values = yaml.load(text, _PlainLoader)
    rest, num_values = [values], 0
    while rest:
        value = rest.pop()
        num_values += 1
        if num_values > MOST_YAML_VALUES:
            raise ValueError(f"it holds more than {MOST_YAML_VALUES} values")
        if isinstance(value, dict):
            rest += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            rest += value
    return values


def _pairs(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Split `--key value` and `--key=value`; a key alone has no value."""
    pairs: list[tuple[str, str | None]] = []
    rest = list(arguments)
    while rest:
        key = rest.pop(0)
        if not key.startswith("--"):
            raise ValueError(f"{key!r} on the command line belongs to no key; keys begin with `--`")
        key, separator, value = key.removeprefix("--").partition("=")
        if not separator:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else None
        pairs.append((key.replace("-", "_"), value))
    return pairs


def _value_of(key: str, text: str | None, hint: object) -> object:
    """Understand a value of the command line; a key alone means true, as flags do."""
    if hint in (str, str | None):
        if text is None:
            raise ValueError(f"`--{key}` needs a value")
        return None if text == "null" and hint == str | None else text
    if hint == (str | dict[str, float]) and text is not None and not text.startswith("{"):
        return text
    try:
        return True if text is None else _load_yaml(text)
    except Exception as error:  # as in a file
        raise ValueError(f"`--{key}` is {text!r}, which is not a YAML value") from error


def _as_type(name: str, value: object, hint: object) -> object:
    """Check a value against an annotation; whole numbers may stand for fractions."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in allowed:
        kind = typing.get_origin(kind) or kind
        if kind is float and not isinstance(value, bool) and isinstance(value, int | float | str):
            try:
                return float(value)
            except (ValueError, OverflowError):
                continue
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
    names = " or ".join("null" if kind is types.NoneType else getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise ValueError(f"`{name}` is {value!r}, must be {names}")
