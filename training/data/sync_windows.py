"""Mouths and the sound of the same moments, what the sync network learns from."""

import numpy as np
import torch
from torch.utils.data import Dataset

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.datasets import as_images
from training.data.draw import Draw
from training.objectives.sync_network import mouth_squares, sound_bands

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
# a face is found a little elsewhere, and seen in another light
MOVED_SHARE, LIGHT_SHARE = 0.04, 0.2


class SyncWindows(Dataset):
    """Neighbouring frames with their sound.

    Args:
        clips: The prepared clips.
        num_frames: Length of a window.

    Raises:
        ValueError: A clip is shorter.
    """

    def __init__(self, clips: ClipShards | ClipMixture, num_frames: int) -> None:
        shortest = min(entry.num_frames for entry in clips.entries)
        if shortest < num_frames:
            raise ValueError(f"`num_frames` is {num_frames}, but `dataset` {clips.folder} has a clip of {shortest}")
        self.clips, self.num_frames = clips, num_frames
        if isinstance(clips, ClipMixture):
            self.choose = clips.choose

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a window: mouths (F, S, S) and bands (4 F, N), see `sync_network`."""
        rng, index = draw.random(), draw.index
        first = int(rng.integers(self.clips.entries[index].num_frames - self.num_frames + 1))
        window = range(first, first + self.num_frames)
        boxes_px = self.clips.read_labels(index, ["face_box_px"])["face_box_px"][first : window.stop]
        size_px = float((boxes_px[:, 1] - boxes_px[:, 0]).mean())
        boxes_px = boxes_px + np.repeat(rng.uniform(-MOVED_SHARE, MOVED_SHARE, 2) * size_px, 2)
        mouths = mouth_squares(as_images(self.clips.read_frames(index, window)), torch.from_numpy(boxes_px))
        if rng.random() < 0.5:
            mouths = mouths.flip(-1)
        gain, offset = 1 + rng.uniform(-LIGHT_SHARE, LIGHT_SHARE), rng.uniform(-LIGHT_SHARE, LIGHT_SHARE) / 2
        samples = self.clips.read_samples(index)[first * SAMPLES_PER_FRAME : window.stop * SAMPLES_PER_FRAME]
        return {
            "mouths": (mouths * gain + offset).float().clamp(0, 1),
            "bands": sound_bands(torch.from_numpy(np.array(samples))),
        }
