"""Folders of saved pipelines: fetch them from the Hub, check them, write them so that only complete ones appear."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from ..machine.output_places import check_place, naming_place, part_beside
from .portable_folder import WHOLE

_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")


def fetch_folder(checkpoint: str | os.PathLike, options: Mapping[str, Any]) -> str:
    """Find the folder of saved weights, and fetch it from the Hub if needed; code is never fetched.

    Args:
        checkpoint: Folder, or id on the Hub.
        options: Options of `from_pretrained`; those about the Hub are used.

    Returns:
        The folder.
    """
    if os.path.isdir(checkpoint):
        return os.fspath(checkpoint)
    chosen = {name: options[name] for name in _HUB_OPTIONS if options.get(name) is not None}
    return snapshot_download(str(checkpoint), allow_patterns=["*.json", "*.safetensors", "*.txt"], **chosen)


def check_complete(folder: str | os.PathLike, components: Mapping[str, object]) -> None:
    """Refuse weights that lack tensors, which diffusers and transformers would silently fill or leave empty.

    Args:
        folder: Folder of the saved pipeline.
        components: Loaded parts by name.

    Raises:
        ValueError: Tensors are missing; the message names the part and the tensors.
    """
    for name, part in components.items():
        files = sorted(Path(folder, name).glob("*.safetensors"))
        if not isinstance(part, torch.nn.Module) or not files:
            continue
        found = set()
        for file in files:
            with safe_open(file, "pt") as tensors:
                found |= {_plain_key(key) for key in tensors.keys()}  # noqa: SIM118 not a dict
        # quantised layers save what they made up themselves, beside their parameters; some of it lies in buffers
        listings = [part.named_parameters(remove_duplicate=False)]
        if getattr(part, "hf_quantizer", None) is None:
            listings.append(part.named_buffers(remove_duplicate=False))
        given = {key for listing in listings for key, _ in listing}
        missing = sorted(key for key in part.state_dict() if key in given and _plain_key(key) not in found)
        if missing:
            raise ValueError(f"the weights of `{name}` lack {len(missing)} tensors: {', '.join(missing[:5])}")


def _plain_key(key: str) -> str:
    # two names of a weight norm's parts, before and after torch made it a parametrization
    key = re.sub(r"\.parametrizations\.(\w+)\.original0$", r".\1_g", key)
    return re.sub(r"\.parametrizations\.(\w+)\.original1$", r".\1_v", key)


def save_new(pipeline: DiffusionPipeline, folder: str | Path, layout: str = WHOLE) -> None:
    """Save a pipeline into a folder that appears only when it is complete.

    Args:
        pipeline: The pipeline.
        folder: Where; must not exist, or be empty.
        layout: As for `DAWNPipeline.save_pretrained`.

    Raises:
        ValueError: The folder holds something, or cannot be made.
        OSError: It cannot be written, as on a full disk; nothing of it stays.
    """
    check_new_folder(folder)
    with part_of_new_folder(folder) as part:
        try:
            pipeline.save_pretrained(part, layout=layout)
        except (SafetensorError, RuntimeError) as error:  # torch and safetensors say so of a full disk
            raise OSError(str(error)) from error


@contextmanager
def part_of_new_folder(folder: str | Path) -> Iterator[Path]:
    """Give a hidden place for a folder that appears when the block ends, if it ends well.

    Args:
        folder: The folder, see `check_new_folder`.

    Yields:
        The place, at which nothing is yet.

    Raises:
        OSError: It cannot be written, as on a full disk; nothing of it stays.
    """
    folder = Path(folder).absolute()
    with part_beside(folder) as part, naming_place(folder):
        yield part
        if folder.exists():
            folder.rmdir()
        part.rename(folder)


def check_new_folder(folder: str | Path, name: str = "output") -> None:
    """Check before the work that a pipeline can be saved to a folder.

    Args:
        folder: The folder.
        name: Argument name for error messages.

    Raises:
        ValueError: It holds something, is a file, or cannot be written to (see `output_places.check_place`).
    """
    folder = Path(folder).absolute()
    check_place(folder, name)
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"`{name}` {folder} is not empty, must be a new or empty folder")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`{name}` {folder} is a file, must be a new or empty folder")
