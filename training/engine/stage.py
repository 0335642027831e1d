"""What the training loop asks of every stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from diffusers import ModelMixin
from torch import nn
from torch.utils.data import Dataset

from training.evaluation.validation import Validation


class Stage(Protocol):
    """One part of DAWN in training.

    Attributes:
        title: What is trained, for the model card.
        result: Folder name of what the training is for, within its output folder.
        card: Metadata of the model card that say what kind of model it is.
        usage: Code of the model card that loads it; `{repository}` stands for where it is.
        networks: What is trained and saved, by folder name.
        averaged: Names of the networks that have a moving average when `use_ema` is set.
        objectives: What is minimised, in the order of the updates, by the name of the network that it trains. Each is
            a module around that network; its `forward(batch, epoch)` returns loss terms by name, "loss" the one to
            minimise.
        frozen: Networks that are used, but not trained.
    """

    title: str
    result: str
    card: Mapping[str, str]
    usage: str
    networks: Mapping[str, ModelMixin]
    averaged: Sequence[str]
    objectives: Mapping[str, nn.Module]
    frozen: Sequence[nn.Module]

    def samples(self) -> Dataset:
        """Data set whose items are asked for by `Draw`.

        It has `draw_num_frames(rng)` where the length varies by step, `choose(rng)` where clips are not drawn alike.
        """
        ...

    def validate(self) -> Validation:
        """Validate the current networks; called with averaged weights, on the main process."""
        ...

    def save_result(self, folder: Path) -> None:
        """Save the training's result as a new folder; called with averaged weights, on the main process."""
        ...
