"""The card that a pipeline carries: what it is, whose it is, what it is for and what not."""

from pathlib import Path
from typing import Any

CARD_FILE = "README.md"
_PACKAGE = Path(__file__).parent


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
