"""Write the shards of a prepared data set, so that a killed run goes on where it was."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.clip_members import PreparedClip, encode_members
from training.data.shard_journal import TAR_BLOCK, check_finished, read_journal, split_of


class ClipSkipped(Exception):
    """A clip cannot be used; the report lists it, and the work continues with the others.

    Args:
        reason: One sentence for the report.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


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
