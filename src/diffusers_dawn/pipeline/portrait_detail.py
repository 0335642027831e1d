"""The portrait's own fine detail, moved as the frames are and put into them; it takes no weights."""

from collections.abc import Iterator

import torch
from torch.nn import functional

from ..geometry.flow import resize_flow, warp_frames
from ..ranges import is_whole_number
from ..records import Portrait
from .clip_tensors import image_tensor

# Largest difference of a channel between a frame and the moved portrait, in the mean over a cell of the motion: up to
# the first all of the detail is added, from the second on none. Set by eye on photographs and paintings
SAME_COLOUR, OTHER_COLOUR = 0.02, 0.08
# up to the first of these visibilities none of it is added, from the second on all: what is hidden is made up
HIDDEN, VISIBLE = 0.1, 0.5
# The same for how far neighbouring pixels of a frame lie apart in the portrait: stretched detail becomes streaks
STRETCHED, UNSTRETCHED = 0.2, 0.5
# What a frame takes while it is drawn, for every pixel of it, the portrait among it; a little more than was measured
DETAIL_BYTES_PER_PX = 80


class PortraitDetail:
    """Enlarge frames, with the detail of the portrait's own pixels wherever these are seen.

    The network draws from a small copy of the portrait. A frame is enlarged (bicubic), and what the portrait has
    beyond its small copy, moved by the same motion, is added. It is left out where the network painted something else:
    where the portrait is covered, and where the small copy, moved, does not look like the frame, as in an opened mouth
    or on closed lids; and where the motion stretches the portrait so much that detail would become streaks, as at its
    border.

    Args:
        portraits: The portraits B.
        frame_size: Height and width of the frames [px].
        size: Height and width of the enlarged frames [px].
        sampling: How the network warps its small copy, see `geometry.flow.warp_frames`.
        border: What it finds outside of it.

    Raises:
        ValueError: `size` is less than the frames', or more than a portrait has.
    """

    def __init__(
        self, portraits: list[Portrait], frame_size: tuple[int, int], size: tuple[int, int], sampling: str, border: str
    ) -> None:
        most = min(portrait.image.shape[0] for portrait in portraits)
        for name, length, least in zip(("height", "width"), size, frame_size, strict=True):
            if not (is_whole_number(length) and least <= length <= most):
                raise ValueError(
                    f"`{name}` of frames with the portrait's detail is {length!r}, must be a whole number from the"
                    f" network's {least} to the portrait's own {most} px"
                )
        self._small, self._large = image_tensor(portraits, *frame_size), image_tensor(portraits, *size)
        self._sampling, self._border = sampling, border

    def enlarge(self, frames: torch.Tensor, flow: torch.Tensor, occlusion: torch.Tensor) -> Iterator[torch.Tensor]:
        """Enlarge frames, one after the other.

        Args:
            frames: What the network drew (B, N, 3, H, W), in [0, 1], float32.
            flow: Positions in the portrait (B, N, h, w, 2) in grid_sample units.
            occlusion: Visibility (B, N, 1, h, w) in [0, 1].

        Yields:
            Frames (B, 1, 3, H', W') in [0, 1].
        """
        self._small, self._large = self._small.to(frames.device), self._large.to(frames.device)
        for each in zip(*(tensor.split(1, dim=1) for tensor in (frames, flow, occlusion)), strict=True):
            yield self._enlarge_one(*each)

    def _enlarge_one(self, frame: torch.Tensor, flow: torch.Tensor, occlusion: torch.Tensor) -> torch.Tensor:
        flow, occlusion, size = flow.to(frame.device), occlusion[:, 0].to(frame.device), self._large.shape[-2:]
        frame = frame[:, 0]
        positions = resize_flow(flow[:, 0], *frame.shape[-2:], self._border)
        moved = warp_frames(self._small, positions[:, None], self._sampling, self._border)[:, 0].clamp(0, 1)
        share = _same_share(frame, moved, frame.shape[-1] // flow.shape[-2])
        share *= _rising(_spacing(positions), STRETCHED, UNSTRETCHED)
        share *= _rising(_resized(occlusion, frame.shape[-2:], "bilinear"), HIDDEN, VISIBLE)
        detail = warp_frames(self._large, flow, "bicubic", self._border)[:, 0] - _resized(moved, size)
        detail *= _resized(share, size, "bilinear")
        return detail.add_(_resized(frame, size)).clamp_(0, 1)[:, None]


def _same_share(frame: torch.Tensor, moved: torch.Tensor, cell_px: int) -> torch.Tensor:
    """Say where a frame (B, 3, H, W) shows the moved portrait (B, 1, H, W): 1 where it does, 0 where it does not."""
    difference = (frame - moved).abs().amax(dim=1, keepdim=True)
    window = 2 * (cell_px // 2) + 1  # odd, so that it has a middle
    difference = functional.avg_pool2d(difference, window, 1, window // 2, count_include_pad=False)
    return 1 - _rising(difference, SAME_COLOUR, OTHER_COLOUR)


def _spacing(positions: torch.Tensor) -> torch.Tensor:
    """Measure how far neighbouring pixels lie apart in the portrait (B, 1, H, W) [px], where that is least."""
    height, width = positions.shape[1:3]
    # beyond the border there is nothing but its last pixels
    positions = positions.clamp(-1, 1) * positions.new_tensor((width / 2, height / 2))
    down, across = torch.gradient(positions, dim=(1, 2))
    return torch.minimum(down.norm(dim=-1), across.norm(dim=-1))[:, None]


def _resized(pictures: torch.Tensor, size: tuple[int, int], mode: str = "bicubic") -> torch.Tensor:
    return functional.interpolate(pictures, size, mode=mode, align_corners=False)


def _rising(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share**2 * (3 - 2 * share)
