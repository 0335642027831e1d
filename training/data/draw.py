"""One sample of a training, and its own source of random numbers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One sample to be drawn.

    Attributes:
        index: Clip of the data set.
        seed: Seeds of everything random in the sample: its own, whichever process draws it.
        num_frames: Frames of the sample, equal within a step; None where the data set fixes it.
    """

    index: int
    seed: tuple[int, ...]
    num_frames: int | None = None

    def random(self) -> np.random.Generator:
        """Make the sample's source of random numbers."""
        return np.random.default_rng(self.seed)
