"""Cache the motion that a frozen LFG estimates, so that the denoiser's training need not estimate it in every step.

A sample's motion depends on its reference frame. The cache holds a few references per clip, evenly spread, and the
motion of all frames from each: one safetensors file per shard, a tensor (R, 3, F, h, w) in float16 per clip.
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from diffusers_dawn.machine.output_places import part_beside, put_in_place
from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.data.clip_shards import ClipShards
from training.objectives.estimated_motion import estimate_motion


def weights_fingerprint(lfg: LatentFlowGenerator) -> str:
    """Compute a 12-digit fingerprint of a network's weights, so that motion of different networks is not confused."""
    digest = hashlib.sha256()
    for name, tensor in sorted(lfg.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:12]


class MotionCache:
    """The cached motion of one split of a data set.

    Args:
        clips: The prepared clips.
        lfg: The network whose motion it is.
        num_references: References per clip.
    """

    # what was estimated from one colouring need not hold for another
    depends_on_colours = True

    def __init__(self, clips: ClipShards, lfg: LatentFlowGenerator, num_references: int) -> None:
        self.entries = clips.entries
        self.folder = Path(clips.folder, "motion_cache", f"{weights_fingerprint(lfg)}-{num_references}")
        self.num_references = num_references
        self._files: dict[str, safe_open] = {}

    def references(self, index: int) -> np.ndarray:
        """Say which frames of a clip are references: evenly spread from the first on."""
        num_frames = self.entries[index].num_frames
        return np.unique(np.arange(self.num_references) * num_frames // self.num_references)

    def nearest_reference(self, index: int, first: int, last_allowed: int) -> int:
        """Find the reference nearest to a frame.

        Args:
            index: The clip.
            first: The frame.
            last_allowed: Latest frame that will do; frame 0, always a reference, does.

        Returns:
            Its frame number.
        """
        references = self.references(index)
        references = references[references <= last_allowed]
        return int(references[np.argmin(np.abs(references - first))])

    def draw_reference(self, index: int, rng: np.random.Generator) -> int:
        """Draw one of a clip's references."""
        return int(rng.choice(self.references(index)))

    def read(self, index: int, reference: int, first: int, num_frames: int) -> torch.Tensor:
        """Read the motion of a window.

        Args:
            index: The clip.
            reference: Its reference, one of `references`.
            first: First frame of the window.
            num_frames: Frames F of the window.

        Returns:
            Motion (3, F, h, w), float32.
        """
        entry = self.entries[index]
        if entry.shard not in self._files:
            self._files[entry.shard] = safe_open(self._path(entry.shard), "pt")
        place = int(np.flatnonzero(self.references(index) == reference)[0])
        stored = self._files[entry.shard].get_slice(entry.clip_id)
        return stored[place, :, first : first + num_frames].float()

    def shards(self) -> list[str]:
        """List the shards whose motion is cached, or is to be."""
        return [name for name, _ in groupby(self.entries, key=lambda entry: entry.shard)]

    def build(self, clips: ClipShards, lfg: LatentFlowGenerator, shard: str, device: torch.device) -> None:
        """Estimate and store the motion of one shard, unless it is stored already.

        Args:
            clips: The prepared clips.
            lfg: The network, on `device`.
            shard: Name of the shard.
            device: Where to compute.
        """
        path = self._path(shard)
        if path.is_file():
            return
        tensors = {
            self.entries[index].clip_id: self._clip_motion(clips, lfg, index, device)
            for index in self._clips_of(shard)
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        # trainings that begin side by side may store the same
        with part_beside(path) as part:
            save_file(tensors, part)
            put_in_place(part, path)

    def _clip_motion(
        self, clips: ClipShards, lfg: LatentFlowGenerator, index: int, device: torch.device
    ) -> torch.Tensor:
        frames = clips.read_frames(index, range(self.entries[index].num_frames))
        images = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 255
        motion = [estimate_motion(lfg, images[number][None], images[None])[0] for number in self.references(index)]
        return torch.stack(motion).half().cpu()

    def _clips_of(self, shard: str) -> Iterator[int]:
        return (index for index, entry in enumerate(self.entries) if entry.shard == shard)

    def _path(self, shard: str) -> Path:
        return (self.folder / shard).with_suffix(".safetensors")

    def __getstate__(self) -> dict:
        """Leave open files behind when a worker process gets a copy."""
        return self.__dict__ | {"_files": {}}
