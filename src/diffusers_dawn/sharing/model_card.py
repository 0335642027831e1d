"""The card that a pipeline carries: what it is, whose it is, what it is for and what not."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

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
