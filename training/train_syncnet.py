"""Train a small SyncNet, which tells how well lips and sound agree where the published one cannot be had.

Its figures are named apart, LSE-C (dawn-sync) and LSE-D (dawn-sync): they are comparable with those of the same
weights only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import numpy as np
import torch
from diffusers import ModelMixin
from torch import nn
from torch.utils.data import Dataset

from training.data.clip_mixture import open_clips
from training.data.sync_windows import SyncWindows
from training.engine import commands
from training.engine.config import TrainingConfig
from training.engine.loop import run_script
from training.engine.networks import build_network
from training.evaluation.dawn_sync import TRIED_OFFSETS, DawnSync, found_offsets
from training.evaluation.validation import Validation, mean_of_rows, validation_clips
from training.objectives.sync_network import SyncNetwork, sync_loss


@dataclass(kw_only=True)
class SyncConfig(TrainingConfig):
    """Settings of the sync network's training, besides those of every training.

    Attributes:
        num_frames: Length of the windows; each frame's sound is told from those of all others in a batch.
        validation_frames: Longest clip of a validation.
    """

    num_frames: int = 25
    validation_frames: int = 100
    num_validation_clips: int = 20

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        super().__post_init__()
        for name in ("num_frames", "validation_frames"):
            if getattr(self, name) < 2:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be at least 2")
        if self.gradient_checkpointing:
            raise ValueError("`gradient_checkpointing` must be false: the sync network does not support it")


class SyncObjective(nn.Module):
    """Cross-entropy of finding each frame's sound, and its lips, in a batch.

    Args:
        network: The network.
    """

    def __init__(self, network: SyncNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss on a batch of `SyncWindows`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; not used.

        Returns:
            "loss".
        """
        return {"loss": sync_loss(self.network(batch["mouths"], batch["bands"]), self.network.log_scale)}


class SyncStage:
    """The sync network in training.

    Args:
        config: The settings.

    Raises:
        ValueError: The data set is missing or does not fit.
    """

    title = "SyncNet, whether lips and sound agree"
    result = "syncnet"
    card = MappingProxyType({"library_name": "diffusers"})
    usage = "python training/evaluate.py ... --extractors dawn_sync={repository}"
    averaged = ("syncnet",)
    frozen = ()

    def __init__(self, config: SyncConfig) -> None:
        self.config = config
        self.clips = open_clips(config.dataset, "train", alike=())
        self.network = build_network(SyncNetwork, config.model, config.pretrained_model, self.result, config.seed)
        self.networks: dict[str, ModelMixin] = {self.result: self.network}
        self.objectives = {self.result: SyncObjective(self.network)}

    def samples(self) -> Dataset:
        """Cut windows out of the clips."""
        return SyncWindows(self.clips, self.config.num_frames)

    def validate(self) -> Validation:
        """Move the sound of clips of the test split, and see whether the network finds by how much.

        Returns:
            Share of all moves that are found exactly, and within one frame; how far they are missed.
        """
        config, embed, rows = self.config, DawnSync(self.network), []
        for clip in validation_clips(config.dataset, config.num_validation_clips, config.validation_frames):
            missed = np.abs(np.subtract(found_offsets(embed, clip), TRIED_OFFSETS))
            rows.append({
                "offsets_found": float((missed == 0).mean()),
                "offsets_within_1": float((missed <= 1).mean()),
                "offsets_missed_by_frames": float(missed.mean()),
            })
        return Validation(mean_of_rows(rows))

    def save_result(self, folder: Path) -> None:
        """Save the network.

        Args:
            folder: Where.
        """
        self.network.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the sync network; see `--help`.

    Args:
        arguments: Command line; None: that of the process.

    Returns:
        The exit code.
    """
    return run_script(SyncStage, SyncConfig, __doc__, arguments)


if __name__ == "__main__":
    commands.program(main)
