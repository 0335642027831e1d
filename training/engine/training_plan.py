"""The samples and learning rate of a step: pure functions of seed and step, so that training can resume anywhere."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from training.data.draw import Draw
from training.engine.config import TrainingConfig


class BatchPlan(Sampler[list[Draw]]):
    """Batches of one process, from any batch on.

    Samples are numbered through the whole training; every pass over the clips is a permutation of its own, and batches
    run on over its end. Processes take neighbouring parts of one large batch, so that N processes with batches of B
    train like one with batches of N * B.

    Args:
        num_clips: Clips of the data set.
        batch_size: Samples per process.
        num_batches: Batches of the whole training.
        seed: Seed of the training.
        first_batch: Batch to begin with.
        process_index: Which process this is.
        num_processes: How many there are.
        draw_num_frames: Draws the number of frames of a step; None: the data set fixes it.
        batches_per_step: Batches that are accumulated for a step.
        choose: Draws the clip of a sample; None: every pass takes every clip once.

    Raises:
        ValueError: There is no clip.
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        num_batches: int,
        seed: int = 0,
        first_batch: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        draw_num_frames: Callable[[np.random.Generator], int] | None = None,
        batches_per_step: int = 1,
        choose: Callable[[np.random.Generator], int] | None = None,
    ) -> None:
        if num_clips < 1:
            raise ValueError("`dataset` holds no clips to train on")
        self.num_clips, self.batch_size, self.num_batches, self.seed = num_clips, batch_size, num_batches, seed
        self.first_batch, self.process_index, self.num_processes = first_batch, process_index, num_processes
        self.draw_num_frames, self.batches_per_step = draw_num_frames, batches_per_step
        self.choose = choose

    def __len__(self) -> int:
        """Count the batches that are left."""
        return max(0, self.num_batches - self.first_batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield what each batch draws."""
        permutation, its_pass = np.empty(0, np.int64), -1
        for batch in range(self.first_batch, self.num_batches):
            num_frames = None
            if self.draw_num_frames is not None:
                num_frames = self.draw_num_frames(
                    np.random.default_rng((self.seed, 1, batch // self.batches_per_step))
                )
            first = (batch * self.num_processes + self.process_index) * self.batch_size
            draws = []
            for sample in range(first, first + self.batch_size):
                if self.choose is not None:
                    index = self.choose(np.random.default_rng((self.seed, 2, sample)))
                    draws.append(Draw(index, (self.seed, 3, sample), num_frames))
                    continue
                number, place = divmod(sample, self.num_clips)
                if number != its_pass:
                    permutation = np.random.default_rng((self.seed, 2, number)).permutation(self.num_clips)
                    its_pass = number
                draws.append(Draw(int(permutation[place]), (self.seed, 3, sample), num_frames))
            yield draws


class TrainingPlan:
    """How long a training is, and how fast it learns at each step.

    Args:
        config: The settings.
        num_clips: Clips of the data set.
        num_processes: Processes that train together.
    """

    def __init__(self, config: TrainingConfig, num_clips: int, num_processes: int) -> None:
        self.config = config
        self.samples_per_step = config.train_batch_size * config.gradient_accumulation_steps * num_processes
        self.steps_per_epoch = num_clips * config.clip_repeats / self.samples_per_step
        self.num_steps = config.max_train_steps or math.ceil(config.num_train_epochs * self.steps_per_epoch)

    def epoch(self, step: int) -> float:
        """Passes over the data set before a step, with fractions."""
        return step / self.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0: a linear rise, then the chosen fall to `lr_end`."""
        config = self.config
        if step < config.lr_warmup_steps:
            return config.learning_rate * (step + 1) / (config.lr_warmup_steps + 1)
        if config.lr_scheduler == "constant":
            return config.learning_rate
        share = min(1, (step - config.lr_warmup_steps) / max(1, self.num_steps - config.lr_warmup_steps))
        remaining = 1 - share if config.lr_scheduler == "linear" else 0.5 * (1 + math.cos(math.pi * share))
        return config.lr_end + (config.learning_rate - config.lr_end) * remaining
