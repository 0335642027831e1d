"""The model card that a pipeline carries."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from yaml import YAMLError

CARD_FILE = "README.md"
_PACKAGE = Path(__file__).parent.parent


def packaged_card(name: str) -> str:
    """Read a card of this package.

    Args:
        name: Which, such as "dawn-128".

    Returns:
        Markdown with the Hub's metadata.
    """
    return Path(_PACKAGE, "model_cards", f"{name}.md").read_text(encoding="utf-8")


def write_card(card: str, folder: Any, source: Any) -> None:
    """Write a card, and the pictures that the Hub shows with it.

    Args:
        card: Its text.
        folder: Folder of the saved pipeline.
        source: Where the pipeline was loaded from; pictures that do not lie there are left out.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, CARD_FILE).write_text(card, encoding="utf-8")
    for name in card_pictures(card):
        picture = Path(str(source), name)
        if picture.is_file() and not Path(folder, name).exists():
            Path(folder, name).write_bytes(picture.read_bytes())


def card_pictures(card: str) -> list[str]:
    """Find the files that a card's widget shows.

    Args:
        card: Its text.

    Returns:
        Names of files beside the card.
    """
    try:
        metadata = ModelCard(card, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, YAMLError):  # anyone may have written it
        return []
    widget = metadata.get("widget")
    examples = [example for example in widget if isinstance(example, dict)] if isinstance(widget, list) else []
    outputs = [example["output"] for example in examples if isinstance(example.get("output"), dict)]
    names = [output.get("url") for output in outputs]
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def card_of_folder(folder: Any) -> str | None:
    """Find the card of a saved pipeline.

    Args:
        folder: Its folder.

    Returns:
        Text of its `README.md`; for a checkpoint that ships with this package, its card; None if there is none.
    """
    own, shipped = Path(folder, CARD_FILE), Path(folder).resolve().parent == Path(_PACKAGE, "checkpoints").resolve()
    if shipped:
        return packaged_card(Path(folder).name)
    return own.read_text(encoding="utf-8", errors="replace") if own.is_file() else None


def card_of_repository(repository: str, settings: dict[str, Any]) -> str | None:
    """Find the card of a pipeline on the Hub, which diffusers does not download.

    Args:
        repository: Its id.
        settings: What `from_pretrained` was given; of it, what says where to look and who asks.

    Returns:
        Text of its `README.md`; None if there is none, or none in the cache while offline, or no such id can be.
    """
    names = ("revision", "cache_dir", "token", "local_files_only")
    try:
        path = hf_hub_download(repository, CARD_FILE, **{name: settings[name] for name in names if name in settings})
    except (EntryNotFoundError, HfHubHTTPError, HFValidationError):
        return None
    return Path(path).read_text(encoding="utf-8", errors="replace")
