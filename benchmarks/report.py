"""What measurements share: tables, time and memory of calls."""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import log
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional

from diffusers_dawn.machine.allocator import keep_freed_memory

SELF = Path("/proc/self")
# what measures the machine: sides of a matrix, pictures of a convolution, floats that are copied; what is enough for a
# CPU takes a GPU less time than its start
MATRIX_SIDE_CPU, MATRIX_SIDE_GPU = 2048, 8192
NUM_PICTURES = 200
NUM_COPIED = 64 * 2**20
_read_s: Callable[[], float] = time.perf_counter  # the clock, see `set_up_process`


class Table:
    """Rows of text under a title, aligned when printed.

    Args:
        title: Line above.
        columns: Names of the columns.
    """

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.title, self.rows = title, [list(columns)]

    def add(self, *values: object) -> None:
        """Append a row; floats get three digits, None a dash."""
        self.rows.append(["-" if v is None else f"{v:.3g}" if isinstance(v, float) else str(v) for v in values])

    def __str__(self) -> str:
        """Lay the table out."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = ("  ".join(map(str.rjust, row, widths)) for row in self.rows)
        return "\n".join(["", self.title, *lines])


def add_allocator_option(parser: argparse.ArgumentParser, default: str = "default") -> None:
    """Add the option that `set_up_process` reads."""
    text = "kept: freed memory is kept, as by the `dawn` command"
    parser.add_argument("--allocator", choices=["default", "kept"], default=default, help=text)


def add_clock_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that `set_up_process` takes beside the allocator."""
    text = "count processor time, which other work on the machine hardly changes; takes --threads 1"
    parser.add_argument("--processor-time", action="store_true", help=text)


def set_up_process(num_threads: int, allocator: str, processor_time: bool = False) -> None:
    """Set threads, allocator and clock of this process, before anything is measured."""
    global _read_s
    if processor_time and num_threads != 1:
        raise SystemExit(f"--processor-time takes --threads 1, not {num_threads}: that of several threads adds up")
    _read_s = time.process_time if processor_time else time.perf_counter
    torch.set_num_threads(num_threads)
    if allocator == "kept" and not keep_freed_memory():
        raise SystemExit("--allocator kept: the C library is not glibc, or the environment sets its allocator")


def synchronise(device: str) -> None:
    """Wait until the device has done all work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def time_call(function: Callable[[], object], device: str) -> float:
    """Measure one call [s]."""
    synchronise(device)
    start_s = _read_s()
    function()
    synchronise(device)
    return _read_s() - start_s


def read_seconds(device: str) -> float:
    """Read the clock that calls are timed by, once the device has done all work [s]."""
    synchronise(device)
    return _read_s()


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Write down what the code inside takes on the CPU [s]."""
    start_s = _read_s()
    yield
    seconds[name] = _read_s() - start_s


def reset_peak(device: str) -> int:
    """Forget the largest memory held so far; returns what is held now [bytes]."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if (SELF / "clear_refs").exists():
        (SELF / "clear_refs").write_text("5")
    return peak_bytes(device)


def peak_bytes(device: str) -> int:
    """Read the largest memory held since `reset_peak`: on a CPU by the process, else by tensors on the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (SELF / "status").exists():
        line = next(line for line in (SELF / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matrix_peak(dtype: torch.dtype, device: str, repeats: int = 5) -> float:
    """Measure the fastest matrix product or, on a CPU, convolution that torch does here [GFLOP/s]."""
    on_cpu = torch.device(device).type == "cpu"
    side = MATRIX_SIDE_CPU if on_cpu else MATRIX_SIDE_GPU
    square = torch.randn(side, side, device=device).to(dtype)
    candidates = [(lambda: square @ square, 2 * side**3)]
    if on_cpu:  # a GPU may round the inputs of convolutions to TF32, and not those of products
        image, kernel = (torch.randn(shape).to(dtype) for shape in ((NUM_PICTURES, 512, 4, 4), (512, 512, 3, 3)))
        image = image.contiguous(memory_format=torch.channels_last)
        candidates.append((lambda: functional.conv2d(image, kernel, padding=1), 2 * NUM_PICTURES * 16 * 512 * 512 * 9))
    rates = []
    for function, num_operations in candidates:
        function()  # the first call is not timed
        rates += [num_operations / time_call(function, device) / 1e9 for _ in range(repeats)]
    return max(rates)


def memory_bandwidth(device: str, repeats: int = 5) -> float:
    """Measure how fast a large tensor is copied, bytes read and written together [GB/s]."""
    source = torch.ones(NUM_COPIED, device=device)
    target = torch.empty_like(source)
    target.copy_(source)  # the first copy is not timed: its pages are new
    seconds = min(time_call(lambda: target.copy_(source), device) for _ in range(repeats))
    return 2 * source.nbytes / seconds / 1e9


def describe_rates(dtype: torch.dtype, device: str) -> tuple[str, float]:
    """Measure what this machine can do at most; returns it in words, and the fastest product [GFLOP/s]."""
    gflops = matrix_peak(dtype, device)
    words = f"fastest product {gflops:.0f} GFLOP/s, copies in memory {memory_bandwidth(device):.0f} GB/s"
    return words, gflops


def with_spread(values: Sequence[float]) -> str:
    """Write the median, and the smallest and the largest where there are several."""
    middle = f"{median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g} to {max(values):.3g})"


def fitted_exponent(lengths: Sequence[float], amounts: Sequence[float]) -> float:
    """Fit amount = c * length ** p by least squares of the logarithms; returns p."""
    x, y = ([log(value) for value in values] for values in (lengths, amounts))
    mean_x, mean_y = (sum(values) / len(values) for values in (x, y))
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
