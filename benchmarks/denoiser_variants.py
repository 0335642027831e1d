"""Measure other ways to call the denoiser: compiled, and for several samples at once.

The first table compares levels compiled by `compile_repeated_blocks` with the network as it is. The second calls it
for several samples at once: what predicting several steps in parallel could gain at most, before anything is lost to
steps that do not know their predecessors.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch

from denoiser import TIMESTEP, add_network_options, build_denoiser, compare_denoisers
from diffusers_dawn.machine.description import describe_machine
from report import Table, set_up_process, synchronise, time_call


def print_compiled(args: argparse.Namespace) -> None:
    """Compare compiled levels with eager ones at every clip length, and print the table."""
    torch._dynamo.reset()
    compiled_model = copy.deepcopy(build_denoiser(args))
    compiled_model.compile_repeated_blocks(fullgraph=True, backend=args.backend)
    table = Table(
        f"denoising: one call with levels compiled by {args.backend}; the first call compiles",
        ["frames", "eager s", "compiled s", "eager / compiled", "first call s", "difference", "largest value"],
    )
    for num_frames in args.frames:
        comparison = compare_denoisers(args, num_frames)
        context = comparison.prepare()
        eager = partial(comparison.ours, context)
        compiled = partial(compiled_model, comparison.sample, TIMESTEP, context=context, return_dict=False)
        start_s = time.perf_counter()
        (found,) = compiled()
        synchronise(args.device)
        first_s = time.perf_counter() - start_s
        wanted = eager()
        seconds = {"eager": [], "compiled": []}
        for _ in range(args.repeats):
            seconds["eager"].append(time_call(eager, args.device))
            seconds["compiled"].append(time_call(compiled, args.device))
        eager_s, compiled_s = map(median, seconds.values())
        difference = (found.float() - wanted.float()).abs().max().item()
        table.add(
            num_frames, eager_s, compiled_s, eager_s / compiled_s, first_s, difference, wanted.abs().max().item()
        )
    print(table, flush=True)


def print_batches(args: argparse.Namespace) -> None:
    """Call the denoiser for several samples at once at every clip length, and print the table."""
    table = Table(
        "denoising: seconds per sample of calls for several at once",
        ["frames", *(f"{count} at once" for count in args.samples), f"1 / {args.samples[-1]} at once"],
    )
    for num_frames in args.frames:
        calls = {}
        for count in args.samples:
            comparison = compare_denoisers(args, num_frames, count)
            calls[count] = partial(comparison.ours, comparison.prepare())
            calls[count]()
        seconds = {count: [] for count in calls}
        for _ in range(args.repeats):
            for count, call in calls.items():
                seconds[count].append(time_call(call, args.device) / count)
        per_sample = [median(values) for values in seconds.values()]
        table.add(num_frames, *per_sample, per_sample[0] / per_sample[-1])
    print(table, flush=True)


TASKS = {"compiled": print_compiled, "batches": print_batches}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--frames", type=int, nargs="+", default=[44, 100, 200], help="clip lengths")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 4], help="samples in one call")
    parser.add_argument("--backend", default="inductor", help="compiler of the levels")
    add_network_options(parser, allocator="kept")
    args = parser.parse_args(arguments)
    args.dtype = getattr(torch, args.dtype)
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    set_up_process(args.threads, args.allocator)
    print(describe_machine())
    networks = "tiny network" if args.tiny else "network of the published size"
    print(f"{networks}, random weights, {args.size} px, {args.dtype}, {args.device}; median of {args.repeats} calls")
    for task in args.tasks:
        TASKS[task](args)


if __name__ == "__main__":
    main()
