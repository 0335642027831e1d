"""How much memory there is, and whether a clip fits in one pass, in windows, or not at all."""

from collections.abc import Callable, Iterable

import psutil
import torch

from ..geometry.frame_windows import FrameWindows, check_windows, plan_windows
from ..machine.free_memory import free_bytes

# Frames per window, tried in this order where one pass does not fit. 200 are the 8 s that the published script renders
# at once; time per frame hardly depends on it, so shorter windows only waste more on their overlaps
WINDOW_FRAMES = (200, 100)
WINDOW_OVERLAP = 40
# the rest is left to other programs, and to what an estimate errs by
USABLE_SHARE = 0.9
GIB = 2**30


def available_bytes(device: torch.device, modules: Iterable[torch.nn.Module]) -> int | None:
    """Find how much memory rendering may take, that of the loaded weights included.

    Args:
        device: Where it runs.
        modules: Networks whose weights may be in that memory already.

    Returns:
        Bytes; None where it cannot be known.
    """
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    loaded = sum(tensor.nbytes for tensor in tensors if tensor.device.type == device.type)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return round(USABLE_SHARE * (free + cached)) + loaded
    if device.type in {"cpu", "mps"}:  # a Mac's GPU shares the memory
        # weights that are mapped from their files count as available, because the system may drop them again
        memory = psutil.Process().memory_info()
        held = min(loaded, memory.rss - getattr(memory, "shared", 0))
        return round(USABLE_SHARE * free_bytes()) + held
    return None


def choose_windows(
    num_frames: int,
    window_frames: int | None,
    window_overlap: int,
    needed_bytes: Callable[[int, int], int],
    budget: int | None,
) -> FrameWindows:
    """Choose how many frames are denoised at once: all where they fit, else windows.

    Args:
        num_frames: Length of the clip F.
        window_frames: Frames per window; None: all, or else one of `WINDOW_FRAMES`.
        window_overlap: Frames that neighbouring windows share at least.
        needed_bytes: Estimates the memory of a clip from its frames and those per window.
        budget: Memory there is [bytes]; None: enough.

    Returns:
        The windows; a single one stands for one pass.

    Raises:
        ValueError: The overlap is not shorter than a window, or the clip does not fit.
    """
    check_windows(WINDOW_FRAMES[0] if window_frames is None else window_frames, window_overlap)
    sizes = [window_frames] if window_frames is not None else [num_frames, *WINDOW_FRAMES]
    sizes = [size for size in sizes if size > window_overlap or size >= num_frames]

    def fits(frames: int) -> int | None:
        allowed = (size for size in sizes if budget is None or needed_bytes(frames, min(size, frames)) <= budget)
        return next(allowed, None)

    size = fits(num_frames)
    if size is not None:
        return plan_windows(num_frames, max(size, window_overlap + 1), window_overlap)
    smallest = min(*sizes, num_frames)
    longest = _largest(lambda frames: fits(frames) is not None, num_frames)
    enough_for = f"{longest} frames" if longest else "none: a smaller size or half precision needs less"
    raise ValueError(
        f"`num_frames` is {num_frames}, which needs {needed_bytes(num_frames, smallest) / GIB:.1f} GiB of memory even "
        f"{smallest} frames at a time, weights included; there are {budget / GIB:.1f} GiB, enough for {enough_for}"
    )


def _largest(holds: Callable[[int], bool], limit: int) -> int:
    # the largest number below the limit for which a condition holds that holds for all smaller ones; 0 if for none
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
