"""Share an evaluation's clips among processes, and keep what each clip says, so that a stopped run goes on."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

# what one clip says: numbers, text and None, arrays, and dicts, lists and tuples of these
Row = Any
Place = TypeVar("Place")


class SharedWork:
    """Work on clips, each of which belongs to one process, whichever processes there are.

    Every row is written to a file of its own as soon as it is found: that is how processes hear of each other's, and
    how a run that was stopped goes on with what it had.

    Args:
        folder: Where rows are kept, which all processes can see; None: this process is alone, and keeps nothing.
        process: Number of this process.
        num_processes: How many there are.
        wait: Returns once every process has called it.
        quiet: Whether to show no progress.
    """

    def __init__(
        self,
        folder: Path | None = None,
        process: int = 0,
        num_processes: int = 1,
        wait: Callable[[], None] = lambda: None,
        quiet: bool = True,
    ) -> None:
        self._folder, self._process, self._num_processes, self._wait = folder, process, num_processes, wait
        self._quiet = quiet

    @property
    def is_main(self) -> bool:
        """Whether this process writes what is written once."""
        return self._process == 0

    def progress(self, places: list, title: str) -> tqdm:
        """Iterate with a progress bar, in the first process."""
        return tqdm(places, desc=title, disable=self._quiet or not self.is_main)

    def rows(self, title: str, places: Mapping[str, Place], work: Callable[[Place], Row]) -> list[Row]:
        """Work on every clip, in one of the processes; all of them must call this.

        Args:
            title: What is worked out; no two kinds of work share one.
            places: What `work` takes, by the clips' names.
            work: Returns the clip's row, which depends on nothing but the clip.

        Returns:
            The rows in the order of the clips, the same in every process. Where they are kept, tuples become lists.
        """
        own = list(places.items())[self._process :: self._num_processes]
        if self._folder is None:
            return [work(place) for _, place in self.progress(own, title)]
        folder = self._folder / title.replace("/", "_").replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        files = {name: folder / f"{number}.pt" for number, name in enumerate(places)}
        for name, place in self.progress(own, title):
            if _read(files[name], name) is None:
                _write(files[name], name, work(place))
        self._wait()
        return [_read(path, name)["row"] for name, path in files.items()]


def _write(path: Path, name: str, row: Row) -> None:
    part = path.with_suffix(".part")
    torch.save({"name": name, "row": _as_tensors(row)}, part)
    os.replace(part, path)


def _read(path: Path, name: str) -> dict[str, Row] | None:
    """What is kept of a clip; None where nothing is, or something of another clip."""
    if not path.is_file():
        return None
    kept = torch.load(path, weights_only=True)
    return {"row": _as_arrays(kept["row"])} if kept["name"] == name else None


def _as_tensors(row: Row) -> Row:
    """Put a row into what is read without running programs."""
    if isinstance(row, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(row))
    if isinstance(row, np.generic):
        return row.item()
    if isinstance(row, dict):
        return {key: _as_tensors(value) for key, value in row.items()}
    return [_as_tensors(value) for value in row] if isinstance(row, list | tuple) else row


def _as_arrays(row: Row) -> Row:
    if isinstance(row, torch.Tensor):
        return row.numpy()
    if isinstance(row, dict):
        return {key: _as_arrays(value) for key, value in row.items()}
    return [_as_arrays(value) for value in row] if isinstance(row, list) else row
