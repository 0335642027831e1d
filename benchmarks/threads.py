"""Measure how many threads a call of the denoiser should have, and how they should wait: alone, and beside other work.

OpenMP's threads spin while they wait for each other, unless `OMP_WAIT_POLICY` is passive. The other work is a process
that keeps one processor busy. Every setting runs in a process of its own, because OpenMP reads it when it is loaded.

    python benchmarks/threads.py
    python benchmarks/threads.py --tiny --frames 5 --repeats 1     # to try the script
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch

from denoiser import compare_denoisers
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.machine.threads import COUNT, WAITING, usable_cores
from report import Table, time_call, with_spread

BUSY = "while True: pass"
# by what the table calls them
POLICIES = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "passive"}}


@contextmanager
def other_work(num_processes: int) -> Iterator[None]:
    """Keep so many processors busy."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(args: argparse.Namespace) -> list[float]:
    """Time calls in this process [s]; an untimed one goes before."""
    call = compare_denoisers(args, args.frames).formulations()["ours"]
    call()
    return [time_call(call, args.device) for _ in range(args.repeats)]


def measure_in_new_process(arguments: Sequence[str], num_threads: int, policy: str) -> list[float]:
    """Time calls in a process with these threads [s]."""
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, COUNT)}
    environment |= {COUNT: str(num_threads), **POLICIES[policy]}
    command = [sys.executable, __file__, *arguments, "--measure"]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [float(word) for word in run.stdout.split()]


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = usable_cores()
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores, 2 * cores}))
    parser.add_argument("--repeats", type=int, default=3, help="calls of each setting; medians are printed")
    parser.add_argument("--size", type=int, default=128, help="side of the video [px]")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try the script")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.device, args.dtype = "cpu", torch.float32
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse_arguments(arguments)
    if args.measure:
        print(*measure(args))
        return
    print(describe_machine())
    table = Table(
        f"a call of {args.frames} frames, medians of {args.repeats} [s]; and those of threads that spin, over these",
        ["threads", "they wait by", "alone", "beside other work", "ratio alone", "ratio beside"],
    )
    for num_threads in args.threads:
        spinning: list[float] = []
        for policy in POLICIES if num_threads > 1 else ["spin"]:
            seconds = []
            for num_processes in (0, 1):
                with other_work(num_processes):
                    seconds.append(measure_in_new_process(arguments, num_threads, policy))
            middles = [median(times) for times in seconds]
            spinning = spinning or middles
            ratios = [before / now for before, now in zip(spinning, middles, strict=True)]
            table.add(num_threads, policy if num_threads > 1 else "-", *map(with_spread, seconds), *ratios)
    print(table)


if __name__ == "__main__":
    main()
