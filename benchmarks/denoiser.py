"""Measure the denoiser and the decoder against plain formulations of the same weights: seconds, memory, error, shares.

The weights are random. "Plain" is `plain_denoiser.py` and `plain_decoder.py`, written from the definition of the
networks. One call of the denoiser is one step of sampling; what is constant over the steps (`prepare_context`) is
computed once per clip and listed by itself, while the plain formulation computes it in every call.
"""

import argparse
import copy
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from diffusers_dawn import A2VFlowDiffusionModel, LatentFlowGenerator
from diffusers_dawn.flow_geometry import coordinate_grid
from diffusers_dawn.memory_estimate import denoising_bytes
from plain_decoder import decode_motion
from plain_denoiser import PlainDenoiser

MIB = 2**20
TIMESTEP = 500
ENVIRONMENT = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD", "OMP_WAIT_POLICY")
KIND_OF_FUNCTION = {
    torch.conv2d: "convolutions",
    torch.conv3d: "convolutions",
    torch.conv_transpose2d: "convolutions",
    torch.conv_transpose3d: "convolutions",
    F.linear: "convolutions",  # by itself it is a 1x1 convolution; those inside attentions count as attention
    F.batch_norm: "norms",
    F.grid_sample: "warping",
}
KIND_OF_CLASS = {
    "TemporalAttention": "temporal attention",
    "SpatialAttention": "spatial attention",
    "SpatialLinearAttention": "spatial attention",
    "ConditionMixer": "cross-attention",
    "ClipGroupNorm": "norms",
    "PlainTemporalAttention": "temporal attention",
    "PlainSpatialAttention": "spatial attention",
    "PlainCrossAttention": "cross-attention",
    "PlainGroupNorm": "norms",
}
KINDS_OF_DENOISING = ("convolutions", "temporal attention", "spatial attention", "cross-attention", "norms")
KINDS_OF_DECODING = ("convolutions", "warping", "norms")
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
    """

    prepare: Callable[[], object]
    ours: Callable[[object], torch.Tensor]
    plain: Callable[[], torch.Tensor]
    networks: dict[str, nn.Module]

    def formulations(self) -> dict[str, Callable[[], torch.Tensor]]:
        """Prepare ours, and return both as functions without arguments."""
        prepared = self.prepare()
        return {"ours": lambda: self.ours(prepared), "plain": self.plain}


def compare_denoisers(args: argparse.Namespace, num_frames: int) -> Comparison:
    """Set up one call of the denoiser for one clip of random noise."""
    model = build_denoiser(args)
    plain = PlainDenoiser(model)
    config, latent = model.config, args.size // 4
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator).to(args.device, args.dtype)

    sample = noise(config.in_channels, num_frames, latent, latent)
    clip = (
        noise(config.reference_channels, latent, latent),
        noise(config.face_location_channels, latent, latent),
        *(noise(num_frames, width) for width in (config.audio_dim, config.pose_dim, config.blink_dim)),
    )
    return Comparison(
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


def synchronise(device: str) -> None:
    """Wait until the device has done all work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def time_call(function: Callable[[], object], device: str) -> float:
    """Measure one call [s]."""
    synchronise(device)
    start_s = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start_s


def peak_memory_bytes(device: str) -> int:
    """Read the largest memory this process has held so far: on a CPU all of it, else its tensors on the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_memory(args: argparse.Namespace) -> int:
    """Measure how much the memory's peak grows in one call, context included; once per process [bytes]."""
    task, formulation = args.measure_memory
    comparison = COMPARISONS[task](args, args.frames[0])
    built = peak_memory_bytes(args.device)
    comparison.plain() if formulation == "plain" else comparison.formulations()["ours"]()
    synchronise(args.device)
    return peak_memory_bytes(args.device) - built


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
    command += ["--threads", str(args.threads)] + ["--tiny"] * args.tiny
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class KindTimer(TorchFunctionMode):
    """Add up the time spent in each kind of layer; the outermost kind counts.

    Args:
        network: Module whose layers are watched while the mode is active.
        device: Device it runs on.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self._device = device
        self._open: list[tuple[str, float]] = []
        self._handles = []
        for module in network.modules():
            if kind := KIND_OF_CLASS.get(type(module).__name__):
                self._handles.append(module.register_forward_pre_hook(lambda *_, kind=kind: self._enter(kind)))
                self._handles.append(module.register_forward_hook(lambda *_: self._leave()))

    def __exit__(self, *exception: object) -> None:
        """Stop watching."""
        super().__exit__(*exception)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        """Call a torch function, timed if it is a layer by itself."""
        kind = KIND_OF_FUNCTION.get(function)
        if kind is None or self._open:
            return function(*args, **(kwargs or {}))
        self._enter(kind)
        result = function(*args, **(kwargs or {}))
        self._leave()
        return result

    def _enter(self, kind: str) -> None:
        if not self._open:
            synchronise(self._device)
        self._open.append((kind, time.perf_counter()))

    def _leave(self) -> None:
        kind, start_s = self._open.pop()
        if not self._open:
            synchronise(self._device)
            self.seconds[kind] += time.perf_counter() - start_s


def seconds_by_kind(network: nn.Module, function: Callable[[], object], kinds: Sequence[str], device: str) -> list:
    """Measure one call with every layer timed; returns the seconds of each kind, of all others, and their sum."""
    with KindTimer(network, device) as timer:
        total_s = time_call(function, device)
    by_kind_s = [timer.seconds[kind] for kind in kinds]
    return [*by_kind_s, total_s - sum(by_kind_s), total_s]


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


def describe_machine() -> str:
    """Name the processor, the versions and the settings of allocator and threads in one line."""
    cpu_info = Path("/proc/cpuinfo")
    names = [line for line in cpu_info.read_text().splitlines() if "model name" in line] if cpu_info.exists() else []
    processor = names[0].split(":")[1].strip() if names else platform.processor()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "diffusers", "numpy"))
    settings = ", ".join(f"{name} {os.environ.get(name, 'not set')}" for name in ENVIRONMENT)
    return (
        f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {memory_gib:.0f} GiB, "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()} {packages}; {settings}"
    )


def print_task(args: argparse.Namespace, task: str, memory: dict[tuple, float]) -> None:
    """Measure one task at every clip length and print its tables."""
    kinds = KINDS_OF_DENOISING if task == "denoising" else KINDS_OF_DECODING
    pair = ("ours s", "plain s", "plain / ours", "ours MiB", "plain MiB", "plain / ours")
    calls = Table(f"{task}: one call", ["frames", *pair, "largest difference", "largest value"])
    preparation = Table(
        "ours: prepare_context once per clip; peak of a call as measured, and as `memory_estimate` predicts it",
        ["frames", "s", "MiB held", "peak MiB", "predicted MiB", "predicted / peak"],
    )
    shares = Table(f"{task}: seconds by kind", ["frames", "", *kinds, "other", "sum"])
    for num_frames in args.frames:
        comparison = COMPARISONS[task](args, num_frames)
        held_mib = sum(tensor.nbytes for tensor in tree_leaves(comparison.prepare())) / MIB
        preparation_s = [time_call(comparison.prepare, args.device) for _ in range(args.repeats)]
        if task == "denoising":
            latent, peak_mib = args.size // 4, memory[task, num_frames].get("ours")
            predicted_mib = denoising_bytes(comparison.networks["ours"], num_frames, latent, latent) / MIB
            ratio = predicted_mib / peak_mib if peak_mib else None
            preparation.add(num_frames, median(preparation_s), held_mib, peak_mib, predicted_mib, ratio)
        functions = comparison.formulations()
        if num_frames > args.skip_plain_above:
            del functions["plain"]
        outputs = {name: function() for name, function in functions.items()}  # the first call is not timed
        seconds = {name: [] for name in functions}
        for _ in range(args.repeats):
            for name, function in functions.items():
                seconds[name].append(time_call(function, args.device))
        row = []
        for measured in ({name: median(values) for name, values in seconds.items()}, memory[task, num_frames]):
            ours, plain = measured.get("ours"), measured.get("plain")
            row += [ours, plain, plain / ours if ours and plain else None]
        errors = [None, None]
        if "plain" in outputs:
            errors = [(outputs["ours"] - outputs["plain"]).abs().max().item(), outputs["plain"].abs().max().item()]
        calls.add(num_frames, *row, *errors)
        for name, function in functions.items():
            by_kind_s = seconds_by_kind(comparison.networks[name], function, kinds, args.device)
            shares.add(num_frames, name, *by_kind_s)
    print(calls)
    if task == "denoising":
        print(preparation)
    print(shares, flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[40, 100, 200], help="clip lengths")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each; the median is printed")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--size", type=int, default=128, help="height and width of the image [px]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", nargs="+", choices=[*COMPARISONS], default=[*COMPARISONS])
    parser.add_argument("--skip-plain-above", type=int, default=200, help="longer clips: ours only [frames]")
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--measure-memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.dtype = getattr(torch, args.dtype)
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    if args.measure_memory:
        print(measure_memory(args))
        return
    print(describe_machine())
    networks = "tiny networks" if args.tiny else "networks of the published size"
    print(f"{networks}, random weights, {args.size} px, {args.dtype}, {args.device}; median of {args.repeats} calls")
    memory = {(task, num_frames): {} for task in args.tasks for num_frames in args.frames}
    for (task, num_frames), measured in memory.items():  # first, while this process is small
        skipped = num_frames > args.skip_plain_above
        for formulation in [] if args.no_memory else ["ours"] if skipped else ["ours", "plain"]:
            measured[formulation] = memory_in_new_process(args, task, formulation, num_frames) / MIB
    for task in args.tasks:
        print_task(args, task, memory)


if __name__ == "__main__":
    main()
