"""What a pipeline call returns."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from ..records import Portrait, Waveform
from .frame_output import FrameStream

OUTPUT_TYPES = ("pil", "np", "pt", "latent", "stream")


@dataclass
class DAWNPipelineOutput(BaseOutput):
    """Output of `DAWNPipeline`.

    Args:
        frames: Videos: lists of PIL images, array (B, F, H, W, 3) or tensor (B, F, 3, H, W) in [0, 1], or the motion
            (B, 3, F, h, w) for `output_type="latent"`. A list per clip when the clips differ in length. For
            `output_type="stream"` a list of `FrameStream`, one per clip, which draw the frames while they are read.
        pose: Pose per frame (F, 6) of every clip, as `records.POSE_NAMES`.
        blink: Eye openness per frame (F, 2) of every clip.
        audio: Samples (num_samples,) of every clip, exactly as long as its frames; None for `audio_embeds`.
        sampling_rate: Their rate [Hz] per clip; None for `audio_embeds`.
        fps: Frames per second.
        portraits: What was animated: square picture, face (with the number of faces found), crop.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor | list[FrameStream] | list
    pose: list[torch.Tensor]
    blink: list[torch.Tensor]
    audio: list[np.ndarray] | None
    sampling_rate: list[int] | None
    fps: int
    portraits: list[Portrait]

    def waveform(self, index: int = 0) -> Waveform | None:
        """Return the sound of one clip as a record."""
        return None if self.audio is None else Waveform(self.audio[index], self.sampling_rate[index])
