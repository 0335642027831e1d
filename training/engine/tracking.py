"""Log losses, metrics and rendered clips to a tracker."""

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from diffusers_dawn.records import FPS


def log_video(accelerator: Accelerator, name: str, frames: np.ndarray, video: Path, step: int) -> None:
    """Show a clip in the trackers of a training.

    TensorBoard gets an animated GIF, which its image panel plays, at half the frame rate; Weights & Biases the file.

    Args:
        accelerator: Knows the trackers.
        name: What the clip shows.
        frames: uint8 frames (F, H, W, 3).
        video: The same clip as a file with sound.
        step: Step of the training.
    """
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            _log_gif(tracker.writer, name, frames, step)
        elif tracker.name == "wandb":
            import wandb

            tracker.log({name: wandb.Video(str(video), format="mp4")}, step=step)


def _log_gif(writer: "tensorboard.SummaryWriter", name: str, frames: np.ndarray, step: int) -> None:  # noqa: F821
    from tensorboard.compat.proto.summary_pb2 import Summary

    pictures = [Image.fromarray(frame) for frame in frames[::2]]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=2000 / FPS, loop=0)
    height, width = frames.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)


class Meter:
    """Means since the last log entry.

    Args:
        accelerator: Averages over the processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.last_norm = 0.0
        self._begin()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time the waiting for data in a `with` block."""
        began_s = time.perf_counter()
        yield
        self.loading_s += time.perf_counter() - began_s

    def add(self, objective: str, terms: Mapping[str, torch.Tensor]) -> None:
        """Take the loss terms of one batch of an objective."""
        for name, value in terms.items():
            self.terms.setdefault(f"{objective}/{name}", []).append(value.detach().float())

    def collect(self) -> dict[str, float]:
        """Compute the means over all processes, and begin anew.

        Returns:
            The terms as `objective/term`, the last gradient norm, and the share of time spent waiting for data.
        """
        names = list(self.terms)
        means = torch.stack([torch.stack(self.terms[name]).mean() for name in names])
        means = self.accelerator.reduce(means, reduction="mean").tolist()
        loading_share = self.loading_s / max(time.perf_counter() - self.began_s, 1e-9)
        self._begin()
        return dict(zip(names, means, strict=True)) | {"grad_norm": self.last_norm, "loading_share": loading_share}

    def _begin(self) -> None:
        self.terms: dict[str, list[torch.Tensor]] = {}
        self.loading_s, self.began_s = 0.0, time.perf_counter()
