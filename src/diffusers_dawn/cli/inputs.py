"""What a command is given, and a job of `dawn animate` is made from, checked and read before a model is loaded."""

import argparse
from typing import TYPE_CHECKING, NamedTuple

from ..records import Waveform
from .options import check_options

if TYPE_CHECKING:
    import numpy as np


class Inputs(NamedTuple):
    """What a job is made from, once it is read.

    Attributes:
        waveform: The speech.
        picture: uint8 array (H, W, 3).
        opacity: uint8 array (H, W) of the picture's own opacity; None: it has none.
        num_frames: Frames of the video.
    """

    waveform: Waveform
    picture: "np.ndarray"
    opacity: "np.ndarray | None"
    num_frames: int


def read_inputs(
    options: argparse.Namespace, choice_names: tuple[str, str] | None = ("--audio-channel", "--audio-track")
) -> Inputs:
    """Read what a job is made from, and refuse whatever does not need the model.

    Args:
        options: The job, as the options of `dawn animate`.
        choice_names: As for `read_waveform`.

    Returns:
        The speech, the picture and the length.

    Raises:
        ValueError: An option cannot be followed, or a file cannot be read.
    """
    from ..media.pictures import read_image_and_opacity
    from ..media.recordings import read_waveform
    from ..media.video_kinds import check_frame_size, check_output_path, kind_of
    from ..motion.reading import check_motion_files
    from ..speech.features import num_video_frames

    check_output_path(options.output, has_opacity=options.transparent)
    if options.preview_while is not None:
        check_output_path(options.preview_while, "--preview-while", options.transparent)
    check_options(options)
    waveform = read_waveform(
        options.audio,
        channel=options.audio_channel,
        track=options.audio_track,
        choice_names=choice_names,
    )
    num_frames = num_video_frames(len(waveform.samples), waveform.sample_rate_hz)
    if options.motion is not None:
        check_motion_files(options.motion, num_frames, "--motion")
    picture, opacity = read_image_and_opacity(options.image)
    if options.full_image:
        kind = kind_of(options.output, keeps_opacity(options, opacity))
        check_frame_size(*picture.shape[:2], name="--full-image", kind=kind)
    return Inputs(waveform, picture, opacity, num_frames)


def check_given(options: argparse.Namespace) -> None:
    """Refuse options that are given without a word, as by a variable of the shell that is not set.

    Args:
        options: Those of any command.

    Raises:
        ValueError: One is empty.
    """
    for name, value in vars(options).items():
        if value == "":
            raise ValueError(f"`{name.replace('_', '-')}` is empty, must be given")


def keeps_opacity(options: argparse.Namespace, own_opacity: "np.ndarray | None") -> bool:
    """Tell whether the video's pictures have opacity: where it is asked for, or the portrait and the file have it.

    Args:
        options: The job, as the options of `dawn animate`.
        own_opacity: The picture's, as in `Inputs`.

    Returns:
        Whether they have.
    """
    from ..media.video_kinds import holds_opacity

    is_free = options.background is None
    return options.transparent or (is_free and own_opacity is not None and holds_opacity(options.output))
