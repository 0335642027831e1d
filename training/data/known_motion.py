"""Known motion from a data set's label `motion`; it is read like motion estimated by LFG (`motion_cache`)."""

import numpy as np
import torch

from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards

LABELS = ("motion", "motion_references")


def check_motion(clips: ClipShards | ClipMixture) -> None:
    """Refuse data sets without known motion.

    Args:
        clips: The prepared clips.

    Raises:
        ValueError: Clips have no label `motion`.
    """
    for part in clips.parts if isinstance(clips, ClipMixture) else [clips]:
        if missing := sorted(set(LABELS) - set(part.read_labels(0))):
            raise ValueError(
                f"`dataset` {part.folder} has no {', '.join(missing)}, must be made by make_photo_clips.py, or by "
                "prepare_clips.py with `--morphable_head`"
            )


class KnownMotion:
    """The known motion of clips.

    Args:
        clips: The prepared clips.

    Raises:
        ValueError: Clips have no label `motion`.
    """

    # the pictures' colours do not matter to it
    depends_on_colours = False

    def __init__(self, clips: ClipShards | ClipMixture) -> None:
        check_motion(clips)
        self.clips = clips

    def nearest_reference(self, index: int, first: int, last_allowed: int) -> int:
        """Find the reference nearest to a frame, see `MotionCache.nearest_reference`."""
        references = self._references(index)
        references = references[references <= last_allowed]
        return int(references[np.argmin(np.abs(references - first))])

    def draw_reference(self, index: int, rng: np.random.Generator) -> int:
        """Draw one of a clip's references."""
        return int(rng.choice(self._references(index)))

    def read(self, index: int, reference: int, first: int, num_frames: int) -> torch.Tensor:
        """Read the motion of a window (3, F, h, w) as float32 latents that hold positions, see `MotionCache.read`."""
        which = int(np.flatnonzero(self._references(index) == reference)[0])
        motion = self.clips.read_labels(index, ["motion"])["motion"][first : first + num_frames, which]
        latents = torch.from_numpy(motion.astype(np.float32)).transpose(0, 1).contiguous()
        latents[2] = 2 * latents[2] - 1
        return latents

    def _references(self, index: int) -> np.ndarray:
        return self.clips.read_labels(index, ["motion_references"])["motion_references"]
