"""The first seconds of a job, to be seen while the rest is rendered."""

import argparse
import copy
from typing import TYPE_CHECKING

import torch

from ..motion.direction import with_head_motion
from ..motion.reading import read_motion
from ..records import Waveform
from ..speech.features import num_video_frames
from .inputs import Inputs
from .options import naming_options

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

BEGINNING_S, BEGINNING_PRESET = 2.0, "fast"


def beginning_of(
    options: argparse.Namespace, inputs: Inputs, pipe: "DAWNPipeline"
) -> tuple[argparse.Namespace, Inputs]:
    """Shorten a job to its first two seconds, in which head and eyes do what they will do in the whole.

    Args:
        options: The job, as the options of `dawn animate`.
        inputs: What was read for it.
        pipe: The pipeline.

    Returns:
        The same for the beginning, by the preset "fast".

    Raises:
        ValueError: The portrait shows no face, or the motion cannot be followed.
    """
    options = copy.copy(options)
    options.preset, options.scheduler, options.steps = BEGINNING_PRESET, None, None
    motion = options.motion
    if motion is not None:
        motion = read_motion(motion, inputs.waveform, inputs.num_frames, pipe.detect_faces, "--motion")
    with naming_options():
        (track,) = pipe.propose_motion(
            pipe.prepare_portrait(inputs.picture, face_index=options.face_index, crop=options.crop),
            inputs.waveform,
            num_candidates=1,
            generator=torch.Generator().manual_seed(options.seed),
            motion=with_head_motion(motion, options.head_motion),
        )
    options.motion, options.head_motion = track, 1.0
    samples, rate_hz = inputs.waveform.samples, inputs.waveform.sample_rate_hz
    waveform = Waveform(samples[: round(BEGINNING_S * rate_hz)], rate_hz)
    num_frames = num_video_frames(len(waveform.samples), rate_hz)
    return options, inputs._replace(waveform=waveform, num_frames=num_frames)
