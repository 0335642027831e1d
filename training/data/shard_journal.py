"""The files of a prepared data set's shards: their names, and the journals that tell what is in them.

Every shard has a journal of the same name: one JSON line per clip, in order. While a shard is written, it says what a
killed run can keep; afterwards it is the index by which single clips are read, and its skipped clips are the report's.
"""

import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHARD_NAME = re.compile(r"([a-z]+)-(\d{5})\.tar")
# a tar file ends with two empty blocks
TAR_BLOCK, TAR_END = tarfile.BLOCKSIZE, 2 * tarfile.BLOCKSIZE
# and is filled up to a multiple of this
TAR_RECORD = tarfile.RECORDSIZE


def shard_path(folder: str | os.PathLike, split: str, index: int) -> Path:
    """Name a shard.

    Args:
        folder: The data set's folder.
        split: Lower-case letters, for example "train".
        index: Number of the shard within the split, from 0.

    Returns:
        Path of its tar file.
    """
    return Path(folder) / f"{split}-{index:05d}.tar"


def split_of(path: Path) -> str:
    """Tell the split from a shard's name.

    Args:
        path: The tar file.

    Returns:
        The split.

    Raises:
        ValueError: It is not named as by `shard_path`.
    """
    match = SHARD_NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"`path` is named {path.name}, must have a name such as train-00000.tar")
    return match[1]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Read what is known of a shard's clips.

    Args:
        path: The tar file, which need not be there yet.

    Returns:
        One entry per clip, in order: `clip_id` and `skipped`, or `clip_id`, `identity`, `num_frames`, `end` and
        `members`. An unfinished last line is left out.

    Raises:
        ValueError: A line cannot be understood.
    """
    journal = path.with_suffix(".jsonl")
    if not journal.exists():
        return []
    try:
        lines = [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`path`: {journal} is damaged: {error}") from error
    for number, line in enumerate(lines, 1):
        if not _tells_of_a_clip(line):
            raise ValueError(f"`path`: {journal} is damaged: line {number} does not tell of a clip")
    return lines


def check_finished(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a finished shard that is cut short or whose journal is incomplete.

    Args:
        path: The tar file.
        lines: What its journal says, see `read_journal`.

    Raises:
        ValueError: It is damaged.
    """
    end = max((line["end"] for line in lines if "end" in line), default=0) + TAR_END
    size = path.stat().st_size
    if size < end:
        raise ValueError(f"`dataset` holds a shard that is cut short: {path} has less than {end} bytes")
    journal, told_to, is_whole = path.with_suffix(".jsonl"), 0, True
    for line in (line for line in lines if "end" in line):
        is_whole &= min(offset for offset, _ in line["members"].values()) == told_to + TAR_BLOCK
        told_to = line["end"]
    is_whole &= size == -(-end // TAR_RECORD) * TAR_RECORD and journal.read_bytes().endswith(b"\n")
    if not is_whole:
        raise ValueError(
            f"`dataset` holds a shard whose journal is damaged: {journal} does not tell of all that {path.name} holds;"
            " delete both and prepare them again"
        )


def finished_shards(folder: Path, split: str) -> list[Path]:
    """List the shards of a split.

    Args:
        folder: The data set's folder.
        split: The split.

    Returns:
        Their tar files, in order.

    Raises:
        ValueError: One is missing or unfinished.
    """
    parts = [*folder.glob(f"{split}-*.jsonl"), *folder.glob(f"{split}-*.tar")]
    names = [SHARD_NAME.fullmatch(part.with_suffix(".tar").name) for part in parts]
    last = max((int(name[2]) for name in names if name is not None), default=-1)
    paths = [shard_path(folder, split, index) for index in range(last + 1)]
    for path in paths:
        if not (path.is_file() and path.with_suffix(".jsonl").is_file()):
            raise ValueError(f"`dataset` holds a shard that is missing or unfinished: {path}; finish the preparation")
    return paths


def _tells_of_a_clip(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("clip_id"), str):
        return False
    if "skipped" in line:
        return isinstance(line["skipped"], str)
    members = line.get("members")
    places = members.values() if isinstance(members, dict) and members else [None]
    return (
        isinstance(line.get("identity"), str)
        and all(isinstance(line.get(name), int) and line[name] > 0 for name in ("num_frames", "end"))
        and all(isinstance(place, list) and len(place) == 2 for place in places)
        and all(isinstance(number, int) and number >= 0 for place in places for number in place)
    )
