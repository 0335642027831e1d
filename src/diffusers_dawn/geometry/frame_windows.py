"""Overlapping windows of frames: their places, and the weights that blend their results."""

import math
from typing import NamedTuple

import torch

from ..ranges import is_whole_number


class FrameWindows(NamedTuple):
    """Windows that cover a clip.

    Attributes:
        slices: The windows in order.
        overlap: Frames over which one passes into the next, in the middle of what both share; 0 cuts hard.
    """

    slices: list[slice]
    overlap: int

    def weights(self) -> list[torch.Tensor]:
        """Compute with which weight each frame of each window counts; the weights of a frame sum to 1.

        The weight of a window is the difference of two ramps, the one where it begins and the one where its successor
        does, so the sum over all windows is 1 wherever the ramps lie, also where more than two windows meet.

        Returns:
            Float32 tensors (frames of the window,), in [0, 1].
        """
        weights = []
        for index, window in enumerate(self.slices):
            frames = torch.arange(window.start, window.stop, dtype=torch.float64)
            begun, ended = torch.ones_like(frames), torch.zeros_like(frames)
            if index > 0:
                begun = _ramp(frames, (window.start + self.slices[index - 1].stop) / 2, self.overlap)
            if index < len(self.slices) - 1:
                ended = _ramp(frames, (self.slices[index + 1].start + window.stop) / 2, self.overlap)
            weights.append((begun - ended).float())
        return weights


def check_windows(
    window_frames: int, window_overlap: int, names: tuple[str, str] = ("window_frames", "window_overlap")
) -> None:
    """Refuse windows that cannot cover a clip.

    Args:
        window_frames: Frames per window.
        window_overlap: Frames that neighbouring windows share at least.
        names: Names of both for error messages.

    Raises:
        ValueError: A number is not whole, a window is empty, or neighbours would share all of their frames.
    """
    frames_name, overlap_name = names
    if not is_whole_number(window_frames) or window_frames < 1:
        raise ValueError(f"`{frames_name}` is {window_frames!r}, must be a whole number from 1")
    if not is_whole_number(window_overlap) or window_overlap < 0:
        raise ValueError(f"`{overlap_name}` is {window_overlap!r}, must be a whole number from 0")
    if window_overlap >= window_frames:
        raise ValueError(f"`{overlap_name}` is {window_overlap}, must be less than a window's {window_frames} frames")


def plan_windows(num_frames: int, window_frames: int, window_overlap: int) -> FrameWindows:
    """Cover a clip with the fewest windows of one size, spread evenly, so that the last is as long as the others.

    Args:
        num_frames: Length of the clip F.
        window_frames: Frames per window; a clip that is not longer is one window.
        window_overlap: Frames that neighbouring windows share at least, in [0, window_frames).

    Returns:
        The windows.

    Raises:
        ValueError: As for `check_windows`.
    """
    check_windows(window_frames, window_overlap)
    if num_frames <= window_frames:
        return FrameWindows([slice(0, num_frames)], window_overlap)
    num_hops = math.ceil((num_frames - window_frames) / (window_frames - window_overlap))
    # rounded down: a hop may be a frame longer than another, but never longer than the overlap allows
    firsts = [index * (num_frames - window_frames) // num_hops for index in range(num_hops + 1)]
    return FrameWindows([slice(first, first + window_frames) for first in firsts], window_overlap)


def pass_over(earlier: torch.Tensor, later: torch.Tensor, dim: int) -> torch.Tensor:
    """Pass from one window into the next over the frames that both have, as windows of `FrameWindows` do.

    Args:
        earlier: Values of one window for these frames, along one axis.
        later: Those of the next, of the same shape.
        dim: Axis of the frames.

    Returns:
        Values of the same shape, which begin as `earlier` and end as `later`.
    """
    num_frames = earlier.shape[dim]
    weights = _ramp(torch.arange(num_frames, dtype=torch.float64), num_frames / 2, num_frames)
    shape = [num_frames if axis == dim % earlier.ndim else 1 for axis in range(earlier.ndim)]
    return torch.lerp(earlier, later, weights.to(earlier).view(shape))


def _ramp(frames: torch.Tensor, middle: float, length: int) -> torch.Tensor:
    # from 0 to 1 over `length` frames around the middle, flat at both ends; frames count from their centres
    progress = (frames + 0.5 - middle) / max(length, 1) + 0.5
    if length == 0:
        return (progress > 0.5).to(frames)
    return (progress.clamp(0, 1) * (math.pi / 2)).sin().square()
