"""From frames that a pipeline draws to those of the file: enhanced, put into the picture, laid over one, labelled."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..records import Portrait
from .options import DETAIL

if TYPE_CHECKING:
    import numpy as np

    from ..pipeline.output import FrameStream

# a fourth channel, and floats while white is taken out or a background is laid under
CUT_OUT_BYTES_PER_PX = 55
# what the network painted itself has no more detail than its frames, which shows beside the portrait's own
MOST_TIMES_LARGER = 4


class HeldBytes(NamedTuple):
    """What a job holds beside the pipeline, while frames are drawn.

    Attributes:
        by_process: In the process's own memory.
        on_device: Where frames are drawn.
        reasons: The options that ask for it.
    """

    by_process: int
    on_device: int
    reasons: str


def held_bytes(
    options: argparse.Namespace,
    picture_size: tuple[int, int],
    size: int,
    num_frames: int,
    rate_hz: int,
    is_cut_out: bool,
) -> HeldBytes:
    """Estimate the memory of what becomes of frames, before the face is looked for.

    Args:
        options: The job.
        picture_size: Height and width of the portrait's picture [px].
        size: Height and width that the network draws [px].
        num_frames: Frames of the video.
        rate_hz: Rate of its sound.
        is_cut_out: Whether they have opacity.

    Returns:
        Bytes; with `--enhance detail` those of the largest square that there may be.
    """
    from ..face.crop import PASTE_BYTES_PER_PX
    from ..media.video_writer import resampled_bytes, writer_bytes
    from ..pipeline.portrait_detail import DETAIL_BYTES_PER_PX

    is_detailed = options.enhance == DETAIL
    sound = resampled_bytes(options.output, num_frames, rate_hz)
    if not (options.full_image or is_detailed):
        return HeldBytes(sound, 0, "the sound at another rate" if sound else "")
    side = max(picture_size) if options.full_image else min(MOST_TIMES_LARGER * size, max(picture_size))
    height, width = picture_size if options.full_image else (side, side)
    # a label makes another copy
    copies = 3 + PASTE_BYTES_PER_PX * options.full_image + CUT_OUT_BYTES_PER_PX * is_cut_out
    names = ["`--full-image`"] * options.full_image + ["`--enhance`"] * is_detailed
    by_process = copies * height * width + writer_bytes(height, width, num_frames) + sound
    return HeldBytes(by_process, DETAIL_BYTES_PER_PX * side**2 * is_detailed, " with ".join(names))


def choose_detail_side(options: argparse.Namespace, portrait: Portrait, size: int) -> int | None:
    """Choose how large frames with the portrait's detail are.

    Args:
        options: The job.
        portrait: The portrait.
        size: Height and width that the network draws [px].

    Returns:
        The portrait's own side if it is put back into its picture; else the largest multiple of `size` that the
        portrait has, up to four times. None: no detail is asked for.

    Raises:
        ValueError: The portrait has no more than the network draws, or the file cannot hold such frames.
    """
    from ..media.video_kinds import check_frame_size, kind_of

    if options.enhance != DETAIL:
        return None
    own_side = len(portrait.image)
    side = own_side if options.full_image else size * min(own_side // size, MOST_TIMES_LARGER)
    if side <= size:
        least = size + 1 if options.full_image else 2 * size
        raise ValueError(
            f"`--enhance` is detail, but the square around the face in `image` is {own_side} px wide, must be at least"
            f" {least}: the model draws {size}"
        )
    if not options.full_image:
        check_frame_size(side, side, "--enhance", kind_of(options.output, portrait.opacity is not None))
    return side


def check_label(options: argparse.Namespace, picture_size: tuple[int, int], square_side: int) -> None:
    """Refuse a label that does not fit, where the frames' size is known before they are drawn.

    Args:
        options: The job.
        picture_size: Height and width of the upright picture [px].
        square_side: Side of the frames before they are put into the picture [px].

    Raises:
        ValueError: It does not fit.
    """
    from ..media.frame_label import FrameLabel

    is_known = options.full_image or options.enhance in (None, DETAIL)
    if options.label is not None and is_known:
        size = picture_size if options.full_image else (square_side, square_side)
        FrameLabel(options.label, *size, font=options.label_font)


def finished_frames(
    stream: "FrameStream", options: argparse.Namespace, picture: "np.ndarray", portrait: Portrait, side: int | None
) -> Iterator["np.ndarray"]:
    """Make the file's frames, one by one.

    Args:
        stream: What the pipeline draws.
        options: The job.
        picture: uint8 array (H, W, 3), upright, or (H, W, 4) with opacity.
        portrait: The portrait that was cut from it.
        side: Side of the frames with the portrait's detail [px]; None: without.

    Yields:
        uint8 arrays (1, H, W, 3), or (1, H, W, 4) with opacity.

    Raises:
        ValueError: The user's function returns no frames, or the label does not fit.
    """
    from ..face.crop import paste_each
    from ..media.backgrounds import lay_over, read_background
    from ..media.enhancers import enhance_each, read_enhancer
    from ..media.frame_label import FrameLabel

    pieces = iter(stream if side is None else stream.with_detail(side, side))
    if options.enhance not in (None, DETAIL):
        pieces = enhance_each(pieces, read_enhancer(options.enhance, "--enhance"), "--enhance")
    frames = (frame for piece in pieces for frame in piece)
    if options.full_image:
        frames = paste_each(picture, frames, portrait.crop)
    background = label = None
    for frame in frames:
        finished = frame[None]
        if options.background is not None:
            if background is None:
                background = read_background(options.background, *frame.shape[:2], "--background")
            finished = lay_over(finished, background)
        if options.label is not None:
            label = label or FrameLabel(options.label, *frame.shape[:2], font=options.label_font)
            finished = label.draw(finished)
        yield finished
