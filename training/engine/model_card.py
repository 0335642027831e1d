"""The card of a training's result, and its upload to the Hub."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData

from training.data.clip_mixture import dataset_names
from training.engine.checkpoints import Progress
from training.engine.config import TrainingConfig, config_to_yaml
from training.engine.stage import Stage

_TEXT = """---
{metadata}
---

# {title} of DAWN

Trained by diffusers_dawn ([DAWN](https://arxiv.org/abs/2410.13726), ICLR 2025) for {steps} steps ({skipped} with an
update skipped for gradients that were not finite) on the data set `{dataset}`.

```python
{usage}
```

{metrics}
## Use

Talking-head video of people who agreed to it. Not for impersonating anyone, nor for video that passes as a recording.

## Settings

```yaml
{settings}```
"""


def write_model_card(
    folder: Path, stage: Stage, config: TrainingConfig, progress: Progress, metrics: Mapping[str, float]
) -> None:
    """Write `README.md` with the Hub's metadata, what was trained on what, and the last validation.

    Args:
        folder: Output folder of the training.
        stage: What was trained.
        config: Its settings.
        progress: Where it ended.
        metrics: Numbers of the last validation.
    """
    metadata = ModelCardData(**stage.card, tags=["dawn", "talking-head", "diffusers-training"])
    lines = ["| metric of the last validation | |", "|---|---|", *(f"| {k} | {v:.4g} |" for k, v in metrics.items())]
    text = _TEXT.format(
        metadata=metadata.to_yaml(),
        title=stage.title,
        steps=progress.step,
        skipped=progress.skipped_steps,
        dataset=dataset_names(config.dataset),
        usage=stage.usage.format(repository=config.hub_model_id or f"{folder.name}/{stage.result}"),
        metrics="\n".join(lines) + "\n" if metrics else "",
        settings=config_to_yaml(_without_local_paths(config)),
    )
    ModelCard(text).save(folder / "README.md")


def make_repository(repository: str) -> None:
    """Create a repository on the Hub, or check that it can be written to.

    Args:
        repository: Its id.

    Raises:
        ValueError: The Hub refuses.
    """
    try:
        HfApi().create_repo(repository, exist_ok=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"`hub_model_id` {repository!r} cannot be made on the Hub: {error}") from error


def upload_result(folder: Path, result: str, repository: str) -> None:
    """Upload a training's result, with its card, to the root of a repository on the Hub.

    Args:
        folder: Output folder of the training.
        result: Folder name of the result in it.
        repository: Id of the repository.
    """
    api = HfApi()
    api.upload_folder(repo_id=repository, folder_path=folder / result, commit_message="result of a training")
    api.upload_file(repo_id=repository, path_or_fileobj=folder / "README.md", path_in_repo="README.md")


def _without_local_paths(config: TrainingConfig) -> TrainingConfig:
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    paths = {name: value for name, value in values.items() if isinstance(value, str) and Path(value).exists()}
    return replace(config, **{name: Path(value).name for name, value in paths.items()})
