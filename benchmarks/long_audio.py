"""Measure long recordings: peak memory against length, and what denoising in windows changes.

The first table renders recordings of growing length, frames drawn and thrown away, each in a process of its own, and
compares the growth of the memory's peak with the estimate. The second renders one clip in one pass and in windows: how
much the two differ, against two seeds, and how much moves where windows meet, against elsewhere. The third encodes one
recording at once, in pieces as published, and in overlapping ones. The fourth estimates the memory on CPUs and GPUs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from unittest.mock import patch

import torch

from clip_to_render import add_options, build_pipeline, make_portrait, make_speech
from denoiser import MIB
from diffusers_dawn import DAWNPipeline
from diffusers_dawn.geometry.frame_windows import FrameWindows, plan_windows
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.memory.budget import GIB, WINDOW_FRAMES, WINDOW_OVERLAP
from diffusers_dawn.memory.estimate import stage_bytes
from diffusers_dawn.records import FPS
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS, choose_sampling
from diffusers_dawn.speech import features as speech_features
from report import Table, peak_bytes, reset_peak, synchronise

# longer clips in one pass are of no interest to anyone
LONGEST_PASS = 1000


def describe(windows: FrameWindows) -> str:
    """Name the way of denoising in a word."""
    count = len(windows.slices)
    return "one pass" if count == 1 else f"{count} x {windows.slices[0].stop}"


def build_sampler(args: argparse.Namespace) -> tuple[DAWNPipeline, dict]:
    """Build the pipeline with a preset's sampler in place; returns it and the arguments of a call that uses it."""
    pipe = build_pipeline(args)
    sampling = choose_sampling(pipe.scheduler, args.preset)
    pipe.scheduler = sampling.scheduler
    return pipe, {"num_inference_steps": sampling.num_inference_steps, "eta": sampling.eta}


def measure_length(args: argparse.Namespace) -> dict:
    """Render one recording; once per process."""
    num_frames = args.frames[0]
    pipe, sampler = build_sampler(args)
    portrait, speech = make_portrait(args, pipe), make_speech(args, num_frames)
    size = args.size or pipe.default_size
    settings = {"height": size, "width": size, "output_type": "stream", "guidance_scale": args.guidance_scale}
    pipe.enable_windows(args.window_frames, args.window_overlap)
    pipe.set_memory_budget(args.memory_budget)
    request, windows, _ = pipe.plan(num_frames, **settings, **sampler)
    clip_size = request.clip_size(num_frames, windows.slices[0].stop)
    expected = stage_bytes(pipe.unet, pipe.lfg, pipe.audio_encoder, clip_size, torch.device(args.device))
    held = reset_peak(args.device)
    start_s = time.perf_counter()
    out = pipe(
        portrait,
        speech,
        generator=torch.Generator().manual_seed(0),
        **sampler,
        **settings,
    )
    for _ in out.frames[0]:
        pass
    synchronise(args.device)
    return {
        "mode": describe(windows),
        "seconds": time.perf_counter() - start_s,
        "peak": peak_bytes(args.device) - held,
        "expected": max(expected.values()),
        "stage": max(expected, key=expected.get),
        "stages": pipe.stage_seconds,
    }


def measure_in_new_process(args: argparse.Namespace, num_frames: int) -> dict:
    """Run `measure_length` in a process of its own."""
    command = [sys.executable, __file__, *args.words, "--measure", "--frames", str(num_frames)]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def print_memory(args: argparse.Namespace) -> None:
    """Measure every length and print the table."""
    table = Table(
        f"recordings, preset {args.preset}: growth of the memory's peak beside the weights, measured and estimated",
        ["frames", "minutes", "denoised in", "peak MiB", "estimate MiB", "estimate / peak", "at", "s", "s per frame"],
    )
    points = []
    for num_frames in args.frames:
        found = measure_in_new_process(args, num_frames)
        peak, expected = found["peak"] / MIB, found["expected"] / MIB
        points.append((num_frames, peak, expected))
        table.add(
            num_frames,
            num_frames / FPS / 60,
            found["mode"],
            round(peak),
            round(expected),
            expected / peak,
            found["stage"],
            found["seconds"],
            found["seconds"] / num_frames,
        )
    print(table, flush=True)
    if args.plot is not None:
        plot_memory(args.plot, points)


def plot_memory(path: str, points: Sequence[tuple[int, float, float]]) -> None:
    """Draw measured and estimated memory [MiB] against length [frames] into a file."""
    from matplotlib.figure import Figure

    lengths, measured, estimated = zip(*points, strict=True)
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(lengths, measured, "o-", label="measured")
    axes.plot(lengths, estimated, "x--", label="estimated")
    axes.set(xscale="log", xlabel=f"frames, {FPS} a second", ylabel="memory beside the weights, MiB", ylim=(0, None))
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


class SeamClip:
    """One clip, rendered in several ways with the same speech, pose and blinks.

    Args:
        args: Options of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.pipe, self.sampler = build_sampler(args)
        self.portrait = make_portrait(args, self.pipe)
        speech = make_speech(args, args.seam_frames)
        self.features = self.pipe.encode_audio(speech)[None]
        pose, blink = torch.from_numpy(self.portrait.face.pose), torch.from_numpy(self.portrait.face.blink)
        initial = (pose[None].float(), blink[None].float())
        self.tracks = self.pipe.predict_motion(self.features, *initial, generator=torch.Generator().manual_seed(0))

    def render(self, seed: int, windows: FrameWindows | None = None) -> torch.Tensor:
        """Denoise the clip: latents (3, F, h, w)."""
        size = self.args.size or self.pipe.default_size
        self.pipe.enable_windows(
            windows.slices[0].stop if windows else self.args.seam_frames + self.args.window_overlap,
            windows.overlap if windows else self.args.window_overlap,
        )
        out = self.pipe(
            self.portrait,
            audio_embeds=self.features,
            pose=self.tracks[0],
            blink=self.tracks[1],
            height=size,
            width=size,
            **self.sampler,
            guidance_scale=self.args.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        )
        return out.frames[0].cpu()

    def frame_difference(self, one: torch.Tensor, other: torch.Tensor) -> float:
        """Mean absolute difference of the drawn frames, of 255."""
        pairs = zip(
            *(self.pipe.decode_motion(latents[None], [self.portrait]) for latents in (one, other)), strict=True
        )
        differences = [(first - second).abs().mean((0, 2, 3, 4)) for first, second in pairs]
        return 255 * torch.cat(differences).mean().item()


def where_windows_meet(windows: FrameWindows, num_frames: int) -> torch.Tensor:
    """Mark the steps between frames (F - 1,) over which one window passes into the next."""
    meeting = torch.zeros(num_frames - 1, dtype=torch.bool)
    reach = max(windows.overlap // 2, 1)
    for one, other in zip(windows.slices, windows.slices[1:], strict=False):
        middle = (one.stop + other.start) // 2
        meeting[max(middle - reach, 0) : middle + reach] = True
    return meeting


def print_seams(args: argparse.Namespace) -> None:
    """Compare windows with one pass and print the table."""
    clip = SeamClip(args)
    one_pass, other_seed = clip.render(0), clip.render(1)
    title = (
        f"a clip of {args.seam_frames} frames, preset {args.preset}, against one pass with the same seed: difference "
        "of latents (rms) and of frames (mean, of 255); motion (mean difference of latents between frames)"
    )
    columns = ["denoised in", "overlap", "latents", "frames", "motion at seams", "one pass there"]
    table = Table(title, [*columns, "motion elsewhere", "one pass there"])

    def motion(latents: torch.Tensor, steps: torch.Tensor) -> float | None:
        return latents.diff(dim=1).abs().mean((0, 2, 3))[steps].mean().item() if steps.any() else None

    every = torch.ones(args.seam_frames - 1, dtype=torch.bool)
    plans = [plan_windows(args.seam_frames, size, args.window_overlap) for size in args.seam_windows]
    plans += [plan_windows(args.seam_frames, args.seam_windows[0], 0)]
    for name, latents, windows in (
        ("one pass", one_pass, None),
        ("another seed", other_seed, None),
        *((describe(windows), clip.render(0, windows), windows) for windows in plans),
    ):
        meeting = ~every if windows is None else where_windows_meet(windows, args.seam_frames)
        table.add(
            name,
            None if windows is None else windows.overlap,
            (latents - one_pass).square().mean().sqrt().item(),
            clip.frame_difference(latents, one_pass),
            motion(latents, meeting),
            motion(one_pass, meeting),
            motion(latents, ~meeting),
            motion(one_pass, ~meeting),
        )
    print(table, flush=True)


def print_features(args: argparse.Namespace) -> None:
    """Compare the audio encoder's frames in pieces with those of the recording at once and print the table."""
    pipe, recording = build_pipeline(args), make_speech(args, args.feature_frames)
    parts = (recording, pipe.audio_encoder, pipe.feature_extractor)
    endless = args.feature_frames * 10
    with patch.multiple(speech_features, FRAMES_PER_PIECE=endless):
        at_once = speech_features.hidden_states(*parts)
    spread = at_once.square().mean().sqrt().item()
    title = f"{recording.duration_s:.0f} s of sound: rms difference to its features at once, whose rms is {spread:.3g}"
    table = Table(title, ["pieces", "all", "near their meetings", "elsewhere", "largest"])
    for name, published_frames in (("as published", endless), ("overlapping", 0)):
        with patch.multiple(speech_features, PUBLISHED_FRAMES=published_frames):
            difference = (speech_features.hidden_states(*parts) - at_once).square().mean(1).sqrt()
            meeting = where_windows_meet(speech_features._pieces(len(at_once))._replace(overlap=20), len(at_once) + 1)
        mean = (part.mean().item() for part in (difference, difference[meeting], difference[~meeting]))
        table.add(name, *mean, difference.max().item())
    print(table, flush=True)


def print_estimates(args: argparse.Namespace) -> None:
    """Estimate the memory of every length on CPUs and GPUs, weights included, and print the table."""
    pipe = build_pipeline(args)
    size = args.size or pipe.default_size
    places = [(device, dtype) for device in ("cpu", "cuda") for dtype in (torch.float32, torch.bfloat16)]
    names = [f"{device} {str(dtype).removeprefix('torch.')}" for device, dtype in places]
    table = Table(f"estimates at {size} px, weights included [GiB]; frames are streamed", ["frames", "in", *names])
    for num_frames in args.frames:
        # in one pass, and in the shortest windows that are chosen where memory is short
        passes = [size for size in (num_frames, WINDOW_FRAMES[-1]) if size <= min(num_frames, LONGEST_PASS)]
        for window_frames in dict.fromkeys(passes):
            windows = plan_windows(num_frames, window_frames, args.window_overlap)
            estimates = [
                pipe.estimate_memory(
                    num_frames,
                    height=size,
                    width=size,
                    guidance_scale=args.guidance_scale,
                    output_type="stream",
                    window_frames=window_frames,
                    dtype=dtype,
                    device=device,
                    preset=args.preset,
                )
                / GIB
                for device, dtype in places
            ]
            table.add(num_frames, describe(windows), *estimates)
    print(table, flush=True)


TASKS = {"memory": print_memory, "seams": print_seams, "features": print_features, "estimates": print_estimates}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(parser)
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 300, 1000, 3000], help="lengths to measure")
    parser.add_argument("--preset", choices=[*PRESETS], default=DEFAULT_PRESET, help="sampler and its steps")
    parser.add_argument("--size", type=int, help="height and width of the video [px] (default: the networks')")
    parser.add_argument("--guidance-scale", type=float, default=1.0)
    parser.add_argument("--window-frames", type=int, help="frames denoised at once (default: what fits in memory)")
    parser.add_argument("--window-overlap", type=int, default=WINDOW_OVERLAP)
    parser.add_argument("--memory-budget", type=int, help="memory budget [bytes] (default: what is free)")
    parser.add_argument("--seam-frames", type=int, default=240, help="length of the clip of the second table")
    parser.add_argument("--seam-windows", type=int, nargs="+", default=[80, 120], help="frames per window there")
    parser.add_argument("--feature-frames", type=int, default=2200, help="length of the recording of the third table")
    parser.add_argument("--plot", help="picture of the first table to write (PNG or SVG; needs matplotlib)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    args.words, args.dtype = words, getattr(torch, args.dtype)
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    if args.measure:
        print(json.dumps(measure_length(args)))
        return
    print(describe_machine())
    networks = (
        f"{args.network} networks, random weights" if args.checkpoint is None else os.path.basename(args.checkpoint)
    )
    print(f"{networks}, {args.dtype}, {args.device}")
    for task in args.tasks:
        TASKS[task](args)


if __name__ == "__main__":
    main()
