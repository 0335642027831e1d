"""The prepared data set: WebDataset shards, of which single clips are read in any order.

A folder holds dataset.json and, per shard, a plain tar file (four files per clip, see `clip_members`) with a journal,
see `shard_journal`.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.clip_members import decode_labels, decode_samples
from training.data.clip_video import decode_frames
from training.data.dataset_info import read_dataset_info
from training.data.denoised_motion import DenoisedMotion, denoised_path, read_denoised
from training.data.features_beside import LABEL, features_path, read_features
from training.data.shard_journal import check_finished, finished_shards, read_journal


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

    def read_denoised(self, index: int) -> DenoisedMotion:
        """Read a denoiser's version of a clip's motion, see `add_denoised_motion.py`.

        Args:
            index: Which clip.

        Returns:
            The motion.

        Raises:
            ValueError: There is none, or it is damaged.
        """
        entry = self.entries[index]
        return read_denoised(denoised_path(self.folder / entry.shard), entry.clip_id)

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
