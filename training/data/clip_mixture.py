"""Several prepared data sets as one, each with a share of the samples; within a set every person counts equally."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.clip_shards import ClipEntry, ClipShards
from training.data.dataset_info import DatasetInfo
from training.data.denoised_motion import DenoisedMotion

# sizes of frames and audio features
ALIKE = ("size_px", "audio_dim")


class ClipMixture:
    """Read clips of several data sets; has what `ClipShards` has.

    A sample comes from a data set by its share, in it from any person alike, from that person's clips alike: somebody
    with many clips does not dominate.

    Args:
        shares: Share of the samples by folder; positive, they need not add up to 1.
        split: Which part of the data sets: "train" or "test".
        alike: What the data sets must have in common, of their `DatasetInfo`.

    Attributes:
        parts: The data sets.
        folder: Folder of the first one.
        info: What is said about the first one, and of the others what is alike.
        entries: The clips of all.

    Raises:
        ValueError: There is no such data set or split, a share is not positive, or something that must be alike is
            not.
    """

    def __init__(self, shares: Mapping[str, float], split: str = "train", alike: Sequence[str] = ALIKE):
        for folder, share in shares.items():
            if not (isinstance(share, int | float) and share > 0):
                raise ValueError(f"`dataset` gives {folder} the share {share!r}, must be a positive number")
        self.parts = [ClipShards(folder, split) for folder in shares]
        self.folder = self.parts[0].folder
        self.info: DatasetInfo = self.parts[0].info
        for part in self.parts[1:]:
            for name in alike:
                wanted, given = getattr(self.info, name), getattr(part.info, name)
                if wanted != given:
                    raise ValueError(
                        f"`dataset` mixes {self.folder} with `{name}` {wanted} and {part.folder} with {given}; they "
                        "must be equal"
                    )
        self.entries: tuple[ClipEntry, ...] = tuple(entry for part in self.parts for entry in part.entries)
        self._owners = [(part, index) for part in self.parts for index in range(len(part))]
        total = sum(shares.values())
        self._shares = np.array([share / total for share in shares.values()])
        self._people: list[list[list[int]]] = []
        first = 0
        for part in self.parts:
            by_identity = defaultdict(list)
            for index, entry in enumerate(part.entries):
                by_identity[entry.identity].append(first + index)
            self._people.append(list(by_identity.values()))
            first += len(part)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.entries)

    def choose(self, rng: np.random.Generator) -> int:
        """Draw a clip: a data set by its share, a person, one of the person's clips."""
        people = self._people[rng.choice(len(self.parts), p=self._shares)]
        clips = people[rng.integers(len(people))]
        return int(clips[rng.integers(len(clips))])

    def read_frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """Read some frames, see `ClipShards.read_frames`."""
        part, own = self._owners[index]
        return part.read_frames(own, frame_indices)

    def read_labels(self, index: int, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Read labels, see `ClipShards.read_labels`."""
        part, own = self._owners[index]
        return part.read_labels(own, names)

    def read_denoised(self, index: int) -> DenoisedMotion:
        """Read a denoiser's version of the motion, see `ClipShards.read_denoised`."""
        part, own = self._owners[index]
        return part.read_denoised(own)

    def has_exact_pose(self, index: int) -> bool:
        """Tell whether the poses of a clip are known, see `ClipShards.has_exact_pose`."""
        part, own = self._owners[index]
        return part.has_exact_pose(own)

    def read_samples(self, index: int) -> np.ndarray:
        """Read the sound, see `ClipShards.read_samples`."""
        part, own = self._owners[index]
        return part.read_samples(own)

    def read_info(self, index: int) -> dict[str, Any]:
        """Read what else is known, see `ClipShards.read_info`."""
        part, own = self._owners[index]
        return part.read_info(own)


def open_clips(
    dataset: str | Mapping[str, float], split: str = "train", alike: Sequence[str] = ALIKE
) -> ClipShards | ClipMixture:
    """Open a training's data set, or several.

    Args:
        dataset: Folder of a prepared data set, or shares of the samples by folder.
        split: "train" or "test".
        alike: As for `ClipMixture`.

    Returns:
        The clips.

    Raises:
        ValueError: As for `ClipShards` and `ClipMixture`.
    """
    return ClipShards(dataset, split) if isinstance(dataset, str) else ClipMixture(dataset, split, alike)


def dataset_names(dataset: str | Mapping[str, float]) -> str:
    """Name a training's data sets without their paths."""
    folders = [dataset] if isinstance(dataset, str) else dataset
    return ", ".join(Path(folder).name for folder in folders)
