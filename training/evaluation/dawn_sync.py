"""Use the sync network of `training/train_syncnet.py`: embeddings for LSE-C and LSE-D, and how it is validated."""

from collections.abc import Sequence

import numpy as np
import torch

from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.evaluation.metrics.lip_sync import lip_sync
from training.evaluation.validation import TruthClip
from training.objectives.sync_network import SyncNetwork, mouth_squares, sound_bands

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
# by how much the sound of held-out clips is moved to see whether it is found
TRIED_OFFSETS = (-7, -3, 0, 3, 7)


class DawnSync:
    """The sync network as `Extractors.dawn_sync` takes it.

    Args:
        network: The network, on its device.

    Attributes:
        network: The network.
    """

    def __init__(self, network: SyncNetwork) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(
        self, pictures: torch.Tensor, samples: torch.Tensor, face_box_px: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed a clip.

        Args:
            pictures: RGB (F, 3, H, W) in [0, 1].
            samples: Sound (640 F,) at 16 kHz.
            face_box_px: x_min, x_max, y_min, y_max (F, 4) [px].

        Returns:
            Embeddings of the lips (F, D) and of the sound (F, D).
        """
        mouths, bands = mouth_squares(pictures, face_box_px)[None], sound_bands(samples)[None]
        found = self.network(mouths.to(self.network.device), bands.to(self.network.device))
        return found.lips[0].float(), found.sound[0].float()


def found_offsets(embed: DawnSync, clip: TruthClip, offsets: Sequence[int] = TRIED_OFFSETS) -> list[int]:
    """Move the sound of a clip, and search by how much.

    Args:
        embed: The network.
        clip: A clip whose lips and sound agree.
        offsets: By how many frames its sound is made to come later.

    Returns:
        By how many frames the sound is found to come later, for each.
    """
    pictures = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 255
    boxes, found = torch.from_numpy(clip.labels["face_box_px"]).float(), []
    for offset in offsets:
        moved = np.zeros_like(clip.samples)
        step = offset * SAMPLES_PER_FRAME
        kept = clip.samples[max(0, -step) : len(moved) - max(0, step)]
        moved[max(0, step) : max(0, step) + len(kept)] = kept
        lips, sound = (part.cpu().numpy() for part in embed(pictures, torch.from_numpy(moved), boxes))
        found.append(-lip_sync(lips, sound).offset_frames)
    return found
