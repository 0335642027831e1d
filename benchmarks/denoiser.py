"""Measure the denoiser and the decoder against plain formulations of the same weights: seconds, memory, error, shares.

The weights are random. "Plain" is `plain_denoiser.py` and `plain_decoder.py`, written from the definition of the
networks. One call of the denoiser is one step of sampling; what is constant over the steps (`prepare_context`) is
computed once per clip and listed by itself, while the plain formulation computes it in every call.
"""

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from diffusers_dawn import A2VFlowDiffusionModel, LatentFlowGenerator
from diffusers_dawn.geometry.flow import coordinate_grid
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.memory.estimate import denoising_bytes
from layer_kinds import KINDS_OF_DECODING, KINDS_OF_DENOISING, arithmetic_by_kind, by_kind
from plain_decoder import decode_motion
from plain_denoiser import PlainDenoiser
from report import (
    Table,
    add_allocator_option,
    add_clock_option,
    describe_rates,
    fitted_exponent,
    peak_bytes,
    read_seconds,
    reset_peak,
    set_up_process,
    synchronise,
    time_call,
    with_spread,
)

MIB = 2**20
TIMESTEP = 500
TINY_DENOISER = {
    "sample_size": 16,
    "reference_channels": 16,
    "face_location_channels": 4,
    "block_out_channels": (16, 32),
    "audio_dim": 12,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "condition_heads": 2,
    "condition_head_dim": 4,
    "temporal_window": 3,
    "norm_num_groups": 4,
}
TINY_DECODER = {"image_size": 64, "block_out_channels": (8, 16, 16), "num_bottleneck_blocks": 1}


def randomise(model: nn.Module) -> nn.Module:
    """Move gains, biases and running statistics off their initial values, where mistakes would not show."""
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.ndim == 1 and value.is_floating_point() and "frequencies" not in name:
                value.add_(torch.rand_like(value), alpha=0.2)
    return model.eval().requires_grad_(False)


def build_denoiser(args: argparse.Namespace) -> A2VFlowDiffusionModel:
    """Build the denoiser, published or tiny, with random weights."""
    torch.manual_seed(0)
    model = randomise(A2VFlowDiffusionModel(**(TINY_DENOISER if args.tiny else {})))
    rotary = copy.deepcopy(model.rotary)
    nn.Module.to(model, args.device, args.dtype)  # ModelMixin's own would warn about rotary
    model.rotary = rotary.to(args.device)  # its angles stay in float32
    return model


def build_decoder(args: argparse.Namespace) -> LatentFlowGenerator:
    """Build encoder and decoder, published or tiny, with random weights."""
    torch.manual_seed(0)
    model = randomise(LatentFlowGenerator(**(TINY_DECODER if args.tiny else {}), with_motion_estimator=False))
    return nn.Module.to(model, args.device, args.dtype)


class Comparison(NamedTuple):
    """Two formulations of one computation, on the same weights and inputs.

    Attributes:
        prepare: Computes what ours needs once per clip.
        ours: Takes the result of `prepare`.
        plain: Takes nothing.
        networks: Modules that the two run, "ours" and "plain".
        sample: The noise that a denoiser gets.
        shallow: Takes the result of `prepare`, returns ours on deep features of an earlier step; None: there are none.
    """

    prepare: Callable[[], object]
    ours: Callable[[object], torch.Tensor]
    plain: Callable[[], torch.Tensor]
    networks: dict[str, nn.Module]
    sample: torch.Tensor | None = None
    shallow: Callable[[object], Callable[[], torch.Tensor]] | None = None

    def formulations(self) -> dict[str, Callable[[], torch.Tensor]]:
        """Prepare ours, and return both as functions without arguments."""
        prepared = self.prepare()
        return {"ours": lambda: self.ours(prepared), "plain": self.plain}


def compare_denoisers(args: argparse.Namespace, num_frames: int, num_samples: int = 1) -> Comparison:
    """Set up one call of the denoiser for clips of random noise."""
    model = build_denoiser(args)
    plain = PlainDenoiser(model)
    config, latent = model.config, args.size // 4
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(num_samples, *shape, generator=generator).to(args.device, args.dtype)

    sample = noise(config.in_channels, num_frames, latent, latent)
    clip = (
        noise(config.reference_channels, latent, latent),
        noise(config.face_location_channels, latent, latent),
        *(noise(num_frames, width) for width in (config.audio_dim, config.pose_dim, config.blink_dim)),
    )

    def shallow(context: object) -> Callable[[], torch.Tensor]:
        deep = model(sample, TIMESTEP, context=context, return_deep_features=True).deep_features
        return lambda: model(sample, TIMESTEP, context=context, deep_features=deep).sample

    return Comparison(
        sample=sample,
        shallow=shallow,
        prepare=lambda: model.prepare_context(*clip),
        ours=lambda context: model(sample, TIMESTEP, context=context, return_dict=False)[0],
        plain=lambda: plain(sample, TIMESTEP, *clip),
        networks={"ours": model, "plain": plain},
    )


def compare_decoders(args: argparse.Namespace, num_frames: int) -> Comparison:
    """Set up encoding one image and decoding a clip from it; a flow around the identity."""
    model = build_decoder(args)
    latent = args.size // 4
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, args.size, args.size, generator=generator).to(args.device, args.dtype)
    flow = coordinate_grid(latent, latent) + 0.1 * torch.randn(1, num_frames, latent, latent, 2, generator=generator)
    occlusion = torch.rand(1, num_frames, 1, latent, latent, generator=generator)
    flow, occlusion = flow.to(args.device), occlusion.to(args.device)
    return Comparison(
        prepare=tuple,  # nothing
        ours=lambda _: model.decode_motion(model.encode_image(image), flow, occlusion),
        plain=lambda: decode_motion(model, image, flow, occlusion),
        networks={"ours": model, "plain": model},
    )


COMPARISONS = {"denoising": compare_denoisers, "decoding": compare_decoders}


def clip_lengths(args: argparse.Namespace, task: str) -> list[int]:
    """Tell the clip lengths at which a task is measured."""
    return args.frames if task == "denoising" else [args.decoded_frames]


def measure_memory(args: argparse.Namespace) -> int:
    """Measure how much the memory's peak grows in one call, context included; once per process [bytes]."""
    task, formulation = args.measure_memory
    comparison = COMPARISONS[task](args, args.frames[0])
    # the networks are made in float32, and may have taken more than they do now
    built = reset_peak(args.device)
    comparison.plain() if formulation == "plain" else comparison.formulations()["ours"]()
    synchronise(args.device)
    return peak_bytes(args.device) - built


def memory_in_new_process(args: argparse.Namespace, task: str, formulation: str, num_frames: int) -> int:
    """Run `measure_memory` in a process of its own.

    A new process inherits the peak of the one that starts it, so the caller must still be small.

    Args:
        args: Options of the command line.
        task: Key of COMPARISONS.
        formulation: "ours" or "plain".
        num_frames: Clip length F.

    Returns:
        Growth of the peak [bytes].
    """
    command = [sys.executable, __file__, "--measure-memory", task, formulation, "--frames", str(num_frames)]
    command += ["--size", str(args.size), "--dtype", str(args.dtype).removeprefix("torch."), "--device", args.device]
    command += ["--threads", str(args.threads), "--allocator", args.allocator] + ["--tiny"] * args.tiny
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def difference(outputs: dict[str, torch.Tensor], first: str, second: str) -> float | None:
    """Find the largest difference of two results, where there are both."""
    if first not in outputs or second not in outputs:
        return None
    return (outputs[first].float() - outputs[second].float()).abs().max().item()


def in_float32(args: argparse.Namespace, task: str, num_frames: int) -> torch.Tensor:
    """Compute ours with the same weights and inputs in float32."""
    exact = argparse.Namespace(**vars(args) | {"dtype": torch.float32})
    return COMPARISONS[task](exact, num_frames).formulations()["ours"]()


def time_pairs(args: argparse.Namespace, functions: dict[str, Callable]) -> tuple[dict[str, list[float]], dict]:
    """Time the formulations in turn, until repeats or seconds are used up, but at least twice.

    Returns:
        The seconds of every call, and the results, both by formulation.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    outputs = {}
    started_s = time.perf_counter()
    for index in range(args.repeats):
        if index > 1 and time.perf_counter() - started_s > args.seconds:
            break
        for name, function in functions.items():
            if name == "ours":
                function()  # not timed: steps of a clip follow each other, and find the memory as their like left it

            def call(name: str = name, function: Callable = function) -> None:
                outputs[name] = function()

            seconds[name].append(time_call(call, args.device))
    return seconds, outputs


def print_task(args: argparse.Namespace, task: str, memory: dict[tuple, float], peak_gflops: float) -> None:
    """Measure one task at every clip length and print its tables."""
    kinds = KINDS_OF_DENOISING if task == "denoising" else KINDS_OF_DECODING
    pair = ("ours s", "plain s", "plain / ours", "ours MiB", "plain MiB", "plain / ours")
    calls = Table(f"{task}: one call", ["frames", *pair, "difference", "from float32", "largest value"])
    shares = Table(
        f"{task}: our call by kind; the fastest product measured here has {peak_gflops:.0f} GFLOP/s",
        ["frames", "", *kinds, "other", "sum"],
    )
    preparation = Table(
        "ours: prepare_context once per clip; peak of a call as measured, and as `memory.estimate` predicts it; a "
        "call on deep features of an earlier step",
        ["frames", "s", "MiB held", "peak MiB", "predicted MiB", "predicted / peak", "s on deep features"],
    )
    ours_by_frames: dict[int, tuple[float, float | None]] = {}
    for num_frames in clip_lengths(args, task):
        comparison = COMPARISONS[task](args, num_frames)
        functions = comparison.formulations()
        if num_frames > args.skip_plain_above:
            del functions["plain"]
        seconds, outputs = time_pairs(args, functions)
        if args.dtype != torch.float32:
            outputs["float32"] = in_float32(args, task, num_frames)
        ours_s, plain_s = seconds["ours"], seconds.get("plain")
        ratio = with_spread([b / a for a, b in zip(ours_s, plain_s, strict=True)]) if plain_s else None
        ours_mib, plain_mib = (memory[task, num_frames].get(name) for name in ("ours", "plain"))
        calls.add(
            num_frames,
            with_spread(ours_s),
            with_spread(plain_s) if plain_s else None,
            ratio,
            ours_mib,
            plain_mib,
            plain_mib / ours_mib if ours_mib and plain_mib else None,
            difference(outputs, "ours", "plain"),
            difference(outputs, "ours", "float32"),
            outputs["ours"].abs().max().item(),
        )
        ours_by_frames[num_frames] = median(ours_s), ours_mib
        network, ours = comparison.networks["ours"], functions["ours"]
        arithmetic = arithmetic_by_kind(network, ours, kinds)
        taken_s = by_kind(network, ours, kinds, partial(read_seconds, args.device))
        shares.add(num_frames, "GFLOP", *arithmetic)
        shares.add(num_frames, "s", *taken_s)
        shares.add(num_frames, "of the time", *(part / taken_s[-1] for part in taken_s))
        rates = [count / part / peak_gflops if part else None for count, part in zip(arithmetic, taken_s, strict=True)]
        shares.add(num_frames, "of the peak", *rates[:-1], arithmetic[-1] / median(ours_s) / peak_gflops)
        if task == "denoising":
            preparation.add(num_frames, *_preparation_figures(args, comparison, num_frames, memory))
    print(calls)
    if len(ours_by_frames) > 2:
        for name, column in (("time", 0), ("memory", 1)):
            amounts = [figures[column] for figures in ours_by_frames.values()]
            if all(amounts):
                print(f"our {name} grows with frames ** {fitted_exponent(list(ours_by_frames), amounts):.2f}")
    print(shares)
    if task == "denoising":
        print(preparation)
    sys.stdout.flush()


def _preparation_figures(
    args: argparse.Namespace, comparison: Comparison, num_frames: int, memory: dict[tuple, float]
) -> list[float | None]:
    held_mib = sum(tensor.nbytes for tensor in tree_leaves(comparison.prepare())) / MIB
    seconds = time_call(comparison.prepare, args.device)
    latent, peak_mib = args.size // 4, memory["denoising", num_frames].get("ours")
    predicted_mib = denoising_bytes(comparison.networks["ours"], num_frames, latent, latent) / MIB
    ratio = predicted_mib / peak_mib if peak_mib else None
    shallow = comparison.shallow(comparison.prepare())
    return [seconds, held_mib, peak_mib, predicted_mib, ratio, time_call(shallow, args.device)]


def add_network_options(parser: argparse.ArgumentParser, allocator: str = "default") -> None:
    """Add the options of `build_denoiser` and of timed calls; `allocator` is the default of that option."""
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each; the median is printed")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--size", type=int, default=128, help="height and width of the image [px]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    add_allocator_option(parser, default=allocator)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[200], help="lengths of the clips that are denoised")
    parser.add_argument(
        "--decoded-frames", type=int, default=40, help="length of the clip that is drawn, whose frames cost the same"
    )
    parser.add_argument("--seconds", type=float, default=30, help="start no third pair of calls after so long")
    parser.add_argument("--tasks", nargs="+", choices=[*COMPARISONS], default=[*COMPARISONS])
    parser.add_argument(
        "--skip-plain-above", type=int, default=200, help="skip plain for clips longer than this [frames]"
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    add_clock_option(parser)
    parser.add_argument("--measure-memory", nargs=2, help=argparse.SUPPRESS)
    add_network_options(parser)
    args = parser.parse_args(arguments)
    args.dtype = getattr(torch, args.dtype)
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    set_up_process(args.threads, args.allocator, args.processor_time)
    if args.measure_memory:
        print(measure_memory(args))
        return
    print(describe_machine())
    networks = "tiny networks" if args.tiny else "networks of the published size"
    clock = ", seconds of processor time" if args.processor_time else ""
    print(
        f"{networks}, random weights, {args.size} px, {args.dtype}, {args.device}, {args.allocator} allocator{clock}; "
        f"medians of 2 to {args.repeats} calls, smallest and largest in brackets"
    )
    memory = {(task, num_frames): {} for task in args.tasks for num_frames in clip_lengths(args, task)}
    for (task, num_frames), measured in memory.items():  # first, while this process is small
        skipped = num_frames > args.skip_plain_above
        for formulation in [] if args.no_memory else ["ours"] if skipped else ["ours", "plain"]:
            measured[formulation] = memory_in_new_process(args, task, formulation, num_frames) / MIB
    words, peak_gflops = describe_rates(args.dtype, args.device)
    print(words)
    for task in args.tasks:
        print_task(args, task, memory, peak_gflops)


if __name__ == "__main__":
    main()
