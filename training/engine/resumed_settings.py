"""Which settings may change when a training is resumed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.engine.config import TrainingConfig, config_from_dict, read_settings

# the weights do not depend on them
FREE_SETTINGS = frozenset({
    "output_dir",
    "resume_from_checkpoint",
    "gradient_checkpointing",
    "dataloader_num_workers",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "log_steps",
    "validation_steps",
    "num_validation_clips",
    "validation_frames",
    "validation_inference_steps",
    "validation_pipeline",
    "report_to",
    "tracker_project_name",
    "push_to_hub",
    "hub_model_id",
    "debug",
})
# the next steps, or what is saved with the result, may differ; those of Adam are missing: a checkpoint brings its own.
# The samples of a step, which batch size and accumulation make together with the processes, the checkpoint knows
CHANGEABLE_SETTINGS = frozenset({
    "train_batch_size",
    "gradient_accumulation_steps",
    "max_train_steps",
    "num_train_epochs",
    "learning_rate",
    "lr_scheduler",
    "lr_warmup_steps",
    "lr_end",
    "max_grad_norm",
    "ema_decay",
    "mixed_precision",
    "allow_tf32",
    "pbnet",
    "pbnet_blink",
})
# so may weights of losses, but for the one that decides whether there are discriminators
CHANGEABLE_ENDING, FIXED_WEIGHT = "_weight", "adversarial_weight"
# folders and files, which may have been moved, but not renamed
PLACES = frozenset({"dataset", "pretrained_model", "lfg", "audio_encoder", "vgg"})


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN = _NotGiven()


def changes_on_resuming(config: TrainingConfig, checkpoint: Path) -> str:
    """List changed settings, and refuse those that may not change on resuming.

    Args:
        config: The settings now.
        checkpoint: The checkpoint that the training is to continue from; `config.yaml` beside it has those before.

    Returns:
        What changes and may; empty: nothing does.

    Raises:
        ValueError: Other settings changed, or those before cannot be read.
    """
    free = {key: value for key, value in asdict(config).items() if key in FREE_SETTINGS}
    file = checkpoint.resolve().with_name("config.yaml")
    saved = read_settings(file, "resume_from_checkpoint")
    try:
        changes = changed_settings(config_from_dict(type(config), saved | free), config)
    except ValueError as error:
        raise ValueError(f"`resume_from_checkpoint` {checkpoint.name}: {file} does not fit: {error}") from error
    refused = {key: values for key, values in changes.items() if not _may_change(key, *values)}
    if refused:
        raise ValueError(
            f"`resume_from_checkpoint` {checkpoint.name} was trained with other settings: {_described(refused)}; go "
            f"on with those of {file}, or begin another `output_dir`"
        )
    return _described(changes)


def changed_settings(before: TrainingConfig, now: TrainingConfig) -> dict[str, tuple[Any, Any]]:
    """List what differs between settings.

    Args:
        before: The earlier settings.
        now: The later ones, of the same stage.

    Returns:
        Both values by key, `section.key` within a section.
    """
    earlier, later = _flat(before), _flat(now)
    pairs = {key: (earlier.get(key, _NOT_GIVEN), later.get(key, _NOT_GIVEN)) for key in earlier | later}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(config: TrainingConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in asdict(config).items():
        if isinstance(value, dict):
            values |= {f"{key}.{inner}": part for inner, part in value.items()}
        else:
            values[key] = value
    # a file has lists only
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _may_change(key: str, before: Any, now: Any) -> bool:
    if key in PLACES and before is not None and now is not None:
        return Path(before).resolve().name == Path(now).resolve().name
    return key in CHANGEABLE_SETTINGS or (key.endswith(CHANGEABLE_ENDING) and key != FIXED_WEIGHT)


def _described(changes: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"`{key}` was {before!r}, is now {now!r}" for key, (before, now) in changes.items())
