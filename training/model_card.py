"""The card of a training's result, and its upload to the Hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData

from training.checkpoints import Progress
from training.config import TrainingConfig, config_to_yaml

_TEXT = """---
{metadata}
---

# {title} of DAWN

Trained by [diffusers_dawn](https://arxiv.org/abs/2410.13726) for {steps} steps ({skipped} skipped for gradients that
were not finite) on the data set `{dataset}`.

{metrics}
## Use

Talking-head video of people who agreed to it. Not for impersonating anyone, nor for video that passes as a recording.

## Settings

```yaml
{settings}```
"""


def write_model_card(
    folder: Path, title: str, config: TrainingConfig, progress: Progress, metrics: Mapping[str, float]
) -> None:
    """Write `README.md` with the Hub's metadata, what was trained on what, and the last validation.

    Args:
        folder: Output folder of the training.
        title: What was trained.
        config: Its settings.
        progress: Where it ended.
        metrics: Numbers of the last validation.
    """
    metadata = ModelCardData(
        library_name="diffusers", pipeline_tag="image-to-video", tags=["dawn", "talking-head", "diffusers-training"]
    )
    lines = ["| metric of the last validation | |", "|---|---|", *(f"| {k} | {v:.4g} |" for k, v in metrics.items())]
    text = _TEXT.format(
        metadata=metadata.to_yaml(),
        title=title,
        steps=progress.step,
        skipped=progress.skipped_steps,
        dataset=Path(config.dataset).name,
        metrics="\n".join(lines) + "\n" if metrics else "",
        # names instead of local paths
        settings=config_to_yaml(
            replace(config, dataset=Path(config.dataset).name, output_dir=Path(config.output_dir).name)
        ),
    )
    ModelCard(text).save(folder / "README.md")


def upload_result(folder: Path, repository: str) -> str:
    """Upload a training's result to the Hub, without its checkpoints and logs.

    Args:
        folder: Output folder of the training.
        repository: Its id on the Hub; made if it does not exist.

    Returns:
        Address of the repository.
    """
    api = HfApi()
    address = api.create_repo(repository, exist_ok=True)
    api.upload_folder(
        repo_id=address.repo_id,
        folder_path=folder,
        ignore_patterns=["checkpoint-*", ".checkpoint-*", "logs/*", "validation/*"],
        commit_message="end of training",
    )
    return str(address)
