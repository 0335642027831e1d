"""Where a pipeline is saved: a new folder that appears only when it is complete."""

import tempfile
from pathlib import Path

from diffusers import DiffusionPipeline


def save_new(pipeline: DiffusionPipeline, folder: str | Path) -> None:
    """Save a pipeline into a folder that appears only when it is complete.

    Args:
        pipeline: The pipeline.
        folder: Where; must not exist, or be empty.

    Raises:
        ValueError: The folder holds something, or cannot be made.
    """
    folder = check_new_folder(folder)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        complete = Path(temporary) / "pipeline"
        pipeline.save_pretrained(complete)
        if folder.exists():
            folder.rmdir()
        complete.rename(folder)


def check_new_folder(folder: str | Path, name: str = "output") -> Path:
    """Find out before the work whether a pipeline can be saved to a folder.

    Args:
        folder: The folder.
        name: Argument name for error messages.

    Returns:
        The folder, absolute.

    Raises:
        ValueError: It holds something, is a file, or its parent does not exist.
    """
    folder = Path(folder).absolute()
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"`{name}` {folder} is not empty; a new or empty folder is needed")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{name}` {folder} is a file; a new or empty folder is needed")
    if not folder.parent.is_dir():
        raise ValueError(f"`{name}` lies in a folder that does not exist: {folder.parent}")
    return folder
