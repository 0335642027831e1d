"""DAWN's studio as a Space of Hugging Face: on ZeroGPU, or on any other hardware, also without a GPU."""

import math
import os
from collections.abc import Callable
from pathlib import Path

try:
    import spaces  # goes before torch; ZeroGPU's images bring it
except ImportError:
    spaces = None

from diffusers_dawn import Studio, launch_page, make_page, read_waveform

HERE = Path(__file__).parent
MAX_SECONDS, MAX_SIZE = 20, 256
# of a GPU: what every job takes, and what each second of video takes
START_S, S_PER_VIDEO_S = 15, 3


def gpu_seconds(image: str | None, audio: str | None, *others: object) -> int:
    """Say for how long a job needs the GPU, which depends on its recording.

    Args:
        image: File of the portrait.
        audio: File of the recording.
        *others: What else the page's functions take.

    Returns:
        Seconds, generously.
    """
    try:
        duration_s = min(read_waveform(audio).duration_s, MAX_SECONDS) if audio else 0
    except (ValueError, OSError):
        duration_s = 0  # the job itself says what is wrong with it
    return math.ceil(START_S + S_PER_VIDEO_S * duration_s)


def on_gpu(function: Callable) -> Callable:
    """Let ZeroGPU lend a GPU for each call of a function; elsewhere, leave the function as it is."""
    return function if spaces is None else spaces.GPU(duration=gpu_seconds)(function)


studio = Studio(os.environ.get("DAWN_CHECKPOINT"), max_seconds=MAX_SECONDS, max_size=MAX_SIZE)
examples = HERE / "examples"
page = make_page(studio, examples if examples.is_dir() else None, on_gpu)

if __name__ == "__main__":
    launch_page(page, studio)
