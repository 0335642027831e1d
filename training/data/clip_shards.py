"""The prepared data set: WebDataset shards with resumable writing and random reading.

A folder holds dataset.json and, per shard, a plain tar file (four files per clip, see `clip_members`) with a journal
of the same name: one JSON line per clip, in order. While a shard is written, the journal says what a killed run can
keep; afterwards it is the index by which single clips are read; its skipped clips are the report's.
"""

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.clip_members import PreparedClip, decode_labels, decode_samples, encode_members
from training.data.clip_video import decode_frames
from training.data.dataset_info import read_dataset_info
from training.data.features_beside import LABEL, features_path, read_features

SHARD_NAME = re.compile(r"([a-z]+)-(\d{5})\.tar")
# a tar file ends with two empty blocks
TAR_BLOCK, TAR_END = tarfile.BLOCKSIZE, 2 * tarfile.BLOCKSIZE
# and is filled up to a multiple of this
TAR_RECORD = tarfile.RECORDSIZE


class ClipSkipped(Exception):
    """A clip cannot be used; the report lists it, and the work continues with the others.

    Args:
        reason: One sentence for the report.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class ClipEntry:
    """Where one clip lies.

    Attributes:
        clip_id: Its name.
        identity: Who is seen.
        num_frames: Its length.
        shard: Name of its tar file.
        members: Offset and size [bytes] of its files in the tar file, by suffix.
    """

    clip_id: str
    identity: str
    num_frames: int
    shard: str
    members: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class ShardReport:
    """What became of the clips of a shard.

    Attributes:
        path: The tar file.
        num_clips: How many clips it holds.
        num_frames: How many frames they have.
        num_made: How many of the shard's clips were made or found unusable just now, not by an earlier run.
        skipped: Reason by name of the clips that cannot be used.
    """

    path: Path
    num_clips: int
    num_frames: int
    num_made: int
    skipped: dict[str, str]


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


def write_shard(path: Path, clip_ids: Sequence[str], make_clip: Callable[[str], PreparedClip]) -> ShardReport:
    """Write a shard, or what an earlier run left of it.

    Nothing is done twice: what the journal lists is kept, what the tar file holds beyond it is cut off, and a finished
    shard stays as it is. The bytes are those of an uninterrupted run.

    Args:
        path: The tar file, named as by `shard_path`.
        clip_ids: Its clips, in order.
        make_clip: Makes the clip of that name; raises `ClipSkipped` where it cannot be used.

    Returns:
        What became of the clips.

    Raises:
        ValueError: The name is another, the shard was begun with other clips, it is damaged, or a clip does not
            keep the format.
    """
    path = Path(path)
    split = split_of(path)
    journal, partial = path.with_suffix(".jsonl"), path.with_suffix(".tar.partial")
    lines = read_journal(path)
    done = [line["clip_id"] for line in lines]
    if done != list(clip_ids)[: len(done)] or (path.exists() and len(done) != len(clip_ids)):
        raise ValueError(f"`path`: {path} was started with other clips; choose a new folder")
    if path.exists():
        check_finished(path, lines)
        return _report(path, lines, 0)
    end = max((line["end"] for line in lines if "end" in line), default=0)
    with open(partial, "ab") as shard, open(journal, "ab") as journal_file:
        if shard.tell() < end:
            raise ValueError(f"`path`: {partial} is shorter than its journal says; delete both to begin anew")
        shard.truncate(end)
        journal_file.truncate(journal.read_bytes().rfind(b"\n") + 1)
        # the archive goes on at the file's position, as if it had written what stands before
        shard.seek(end)
        with tarfile.open(fileobj=shard, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for clip_id in clip_ids[len(done) :]:
                lines.append(_add_clip(archive, clip_id, split, make_clip))
                # the journal must never know more than the disk
                _to_disk(shard)
                journal_file.write(json.dumps(lines[-1], ensure_ascii=False).encode() + b"\n")
                _to_disk(journal_file)
        _to_disk(shard)
    os.replace(partial, path)
    return _report(path, lines, len(clip_ids) - len(done))


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


def _to_disk(file: io.BufferedIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())


def _report(path: Path, lines: list[dict[str, Any]], num_made: int) -> ShardReport:
    skipped = {line["clip_id"]: line["skipped"] for line in lines if "skipped" in line}
    num_frames = sum(line.get("num_frames", 0) for line in lines)
    return ShardReport(path, len(lines) - len(skipped), num_frames, num_made, skipped)


def _add_clip(
    archive: tarfile.TarFile, clip_id: str, split: str, make_clip: Callable[[str], PreparedClip]
) -> dict[str, Any]:
    """Append a clip; returns its line of the journal."""
    try:
        clip = make_clip(clip_id)
    except ClipSkipped as error:
        return {"clip_id": clip_id, "skipped": error.reason}
    if clip.clip_id != clip_id:
        raise ValueError(f"`make_clip` made {clip.clip_id!r} when asked for {clip_id!r}")
    members = {}
    for suffix, content in encode_members(clip, split).items():
        header = tarfile.TarInfo(f"{clip_id}.{suffix}")
        header.size = len(content)
        members[suffix] = [archive.offset + TAR_BLOCK, len(content)]
        archive.addfile(header, io.BytesIO(content))
    line = {"clip_id": clip_id, "identity": clip.identity, "num_frames": len(clip.frames), "end": archive.offset}
    return line | {"members": members}


class ClipShards:
    """Read the clips of one split of a prepared data set, in any order.

    Holds no open files: it can be pickled, and read in several processes and threads at once.

    Args:
        folder: The data set's folder.
        split: Which part of it: "train" or "test".

    Attributes:
        info: What all clips have in common.
        entries: The clips.

    Raises:
        ValueError: There is no such data set or split, a shard is missing, unfinished or cut short.
    """

    def __init__(self, folder: str | os.PathLike, split: str = "train"):
        self.folder = Path(folder)
        self.split = split
        self.info = read_dataset_info(folder)
        self.entries: tuple[ClipEntry, ...] = tuple(
            entry for path in finished_shards(self.folder, split) for entry in _entries_of(path)
        )
        if not self.entries:
            raise ValueError(f"`dataset` holds no clips of the split {split!r}: {self.folder}")
        encoder = self.info.audio_encoder
        first = self.folder / self.entries[0].shard
        self._has_features_beside = encoder is not None and features_path(first, encoder).is_file()

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.entries)

    def read_frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """Read some frames of a clip; only these are decoded.

        Args:
            index: Which clip.
            frame_indices: Which frames, from 0; in any order, also repeatedly.

        Returns:
            uint8 array (len(frame_indices), S, S, 3), RGB.

        Raises:
            ValueError: `frame_indices` is empty or out of range, or the shard is damaged.
        """
        entry = self.entries[index]
        frame_indices = [int(frame_index) for frame_index in frame_indices]
        if not frame_indices or not all(0 <= frame_index < entry.num_frames for frame_index in frame_indices):
            raise ValueError(
                f"`frame_indices` is {frame_indices}, must be from 0 to {entry.num_frames - 1} in {entry.clip_id}"
            )
        return self._decode(entry, "mp4", lambda content: decode_frames(content, frame_indices))

    def read_labels(self, index: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Read labels of a clip.

        Args:
            index: Which clip.
            names: Which labels, see `clip_members.PreparedClip`; None: all.

        Returns:
            Arrays by name.

        Raises:
            ValueError: There is no such label, or the shard is damaged.
        """
        inside = names
        if self._has_features_beside and names is not None:
            inside = [name for name in names if name != LABEL]
        labels = self._decode(self.entries[index], "npz", lambda content: decode_labels(content, inside))
        if self._has_features_beside and (names is None or LABEL in names):
            entry = self.entries[index]
            path = features_path(self.folder / entry.shard, self.info.audio_encoder)
            labels[LABEL] = read_features(path, entry.clip_id)
        return labels

    def has_exact_pose(self, index: int) -> bool:
        """Tell whether the poses of a clip are known, see `DatasetInfo`."""
        return self.info.exact_pose

    def read_samples(self, index: int) -> np.ndarray:
        """Read the sound of a clip.

        Args:
            index: Which clip.

        Returns:
            Float32 array (640 F,) at 16 kHz, in [-1, 1).

        Raises:
            ValueError: The shard is damaged.
        """
        return self._decode(self.entries[index], "wav", decode_samples)

    def read_info(self, index: int) -> dict[str, Any]:
        """Read a clip's other information.

        Args:
            index: Which clip.

        Returns:
            `clip_id`, `identity`, `split`, `num_frames`, and what the preparation added.

        Raises:
            ValueError: The shard is damaged.
        """
        return self._decode(self.entries[index], "json", json.loads)

    def _decode(self, entry: ClipEntry, suffix: str, decode: Callable[[bytes], Any]) -> Any:
        offset, size = entry.members[suffix]
        path = self.folder / entry.shard
        with open(path, "rb") as shard:
            shard.seek(offset)
            content = shard.read(size)
        try:
            return decode(content)
        except ValueError as error:
            raise ValueError(f"{entry.clip_id}.{suffix} in {path}: {error}") from error


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


def _entries_of(path: Path) -> list[ClipEntry]:
    lines = read_journal(path)
    check_finished(path, lines)
    return [
        ClipEntry(
            clip_id=line["clip_id"],
            identity=line["identity"],
            num_frames=line["num_frames"],
            shard=path.name,
            members={suffix: (offset, size) for suffix, (offset, size) in line["members"].items()},
        )
        for line in lines
        if "skipped" not in line
    ]
