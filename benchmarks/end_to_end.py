"""Compare a whole clip with the plain pipeline: seconds by stage, and memory, from a recording to a video file.

"Plain" is the published setting: 20 steps of `plain_denoiser.py`, and `plain_decoder.py`, which encodes the portrait
again for every frame. Ours is measured in that setting, too, with the same noise, and with the default preset. Weights
and inputs are random and seeded. Every run is a process of its own.

    python benchmarks/end_to_end.py                                # 8 s at 128 px: plain takes a quarter of an hour
    python benchmarks/end_to_end.py --timed-steps 1                # minutes: one step is run, and counts for all
    python benchmarks/end_to_end.py --network tiny --seconds 0.4   # seconds, to try the script
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

import plain_decoder
from clip_to_render import build_pipeline, make_portrait, make_speech
from diffusers_dawn import DAWNPipeline, Portrait, Waveform
from diffusers_dawn.conversion.random_pipeline import SIZES
from diffusers_dawn.geometry.motion_latents import motion_from_latents
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.media.video_writer import VideoWriter
from diffusers_dawn.pipeline.clip_tensors import face_masks, image_tensor, initial_states
from diffusers_dawn.records import FPS
from diffusers_dawn.sampling.conditions import relative_conditions
from diffusers_dawn.sampling.denoising import step_arguments
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, choose_sampling
from plain_denoiser import PlainDenoiser
from report import (
    Table,
    add_allocator_option,
    add_clock_option,
    describe_rates,
    peak_bytes,
    reset_peak,
    set_up_process,
    timed,
    with_spread,
)

PUBLISHED = "quality"
# how a clip is rendered, and by which preset
WAYS = {"ours": DEFAULT_PRESET, "ours as published": PUBLISHED, "plain": PUBLISHED}
STAGES = ("speech, pose, blinks", "conditions", "denoising", "frames")
MIB = 2**20


def denoise_plainly(
    pipe: DAWNPipeline,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    inputs: Sequence[torch.Tensor],
    step_kwargs: dict,
) -> torch.Tensor:
    """Run the steps; each computes everything again."""
    denoiser = PlainDenoiser(pipe.unet)
    for timestep in timesteps:
        prediction = denoiser(latents, int(timestep), *inputs)
        latents = pipe.scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
    return latents


def render(args: argparse.Namespace, pipe: DAWNPipeline, way: str, folder: Path) -> dict[str, float]:
    """Render the clip to a file, and keep its frames; returns the seconds of every stage, and the number of steps."""
    portrait: Portrait = make_portrait(args, pipe)
    speech: Waveform = make_speech(args, round(args.clip_seconds * FPS))
    seconds: dict[str, float] = {}
    size = pipe.default_size, pipe.default_size
    generator = torch.Generator().manual_seed(0)
    sampling = choose_sampling(pipe.scheduler, WAYS[way])
    pipe.scheduler = deepcopy(sampling.scheduler)
    pipe.scheduler.set_timesteps(sampling.num_inference_steps)
    num_steps = len(pipe.scheduler.timesteps)
    timesteps = pipe.scheduler.timesteps[-(args.timed_steps or num_steps) :]
    step_kwargs = step_arguments(pipe.scheduler, generator, sampling.eta)

    with timed(seconds, "speech, pose, blinks"):
        states = initial_states([portrait], pipe.device)
        features = pipe.encode_audio(speech)[None]
        pose, blink = pipe.predict_motion(features, *states, generator)
    latents = pipe.prepare_latents(1, features.shape[1], *size, pipe.device, generator)
    image = image_tensor([portrait], *size)
    with timed(seconds, "conditions"):
        if way == "plain":
            inputs: Any = (
                pipe.lfg.encode_image(image).features,
                pipe.unet.encode_face_location(face_masks([portrait], *size)),
                *relative_conditions(features, pose, blink, *states),
            )
        else:
            inputs = pipe.prepare_conditions([portrait], features, pose, blink, *size)
    with timed(seconds, "denoising"):
        denoise = denoise_plainly if way == "plain" else DAWNPipeline.denoise
        motion = denoise(pipe, latents, timesteps, inputs, step_kwargs)
    seconds["denoising"] *= num_steps / len(timesteps)
    with timed(seconds, "frames"), VideoWriter(folder / f"{way}.mp4", waveform=speech) as writer:
        if way == "plain":
            flow, occlusion = motion_from_latents(motion, pipe.unet.config.flow_scale)
            pieces = (
                plain_decoder.decode_motion(pipe.lfg, image, *pair)
                for pair in zip(flow.split(1, dim=1), occlusion.split(1, dim=1), strict=True)
            )
        else:
            pieces = pipe.decode_motion(motion, [portrait])
        drawn = []
        for piece in pieces:
            drawn.append((piece[0] * 255).round().byte().permute(0, 2, 3, 1).numpy())
            writer.write(drawn[-1])
    np.save(folder / f"{way}.npy", np.concatenate(drawn))
    return seconds | {"steps": num_steps}


def measure(args: argparse.Namespace) -> None:
    """Render one way in this process, and print seconds and the growth of the memory's peak as JSON."""
    pipe = build_pipeline(args)
    built = reset_peak("cpu")
    figures = render(args, pipe, args.way, Path(args.folder))
    print(json.dumps(figures | {"MiB": (peak_bytes("cpu") - built) / MIB}))


def measure_in_new_process(arguments: Sequence[str], way: str, folder: str) -> dict[str, float]:
    """Run `measure` in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--way", way, "--folder", folder]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SIZES, default="128", help="size of the random networks")
    parser.add_argument("--seconds", type=float, default=8, dest="clip_seconds", help="length of the clip")
    parser.add_argument("--timed-steps", type=int, help="run so many of the last steps, and count them for all")
    parser.add_argument("--repeats", type=int, default=1, help="clips in each way; medians are printed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    add_allocator_option(parser)
    add_clock_option(parser)
    args = parser.parse_args(arguments)
    # what `clip_to_render` reads
    args.checkpoint = args.image = args.audio = None
    args.dtype, args.device = torch.float32, "cpu"
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parse_arguments(arguments)
    set_up_process(args.threads, args.allocator, args.processor_time)
    if args.way:
        measure(args)
        return
    print(describe_machine())
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeats):
            for way, runs in measured.items():  # before anything large is held here
                runs.append(measure_in_new_process(arguments, way, folder))
        ours, plain = (np.load(Path(folder, f"{way}.npy")).astype(int) for way in ("ours as published", "plain"))
    print(describe_rates(args.dtype, args.device)[0])
    steps = f"{args.timed_steps} step(s) run for all" if args.timed_steps else "all steps run"
    table = Table(
        f"a clip of {args.clip_seconds:g} s, random weights, {args.network}, float32, {args.allocator} allocator, "
        f"{steps}; seconds{' of processor time' if args.processor_time else ''}",
        ["", "steps", *STAGES, "all", "plain / this", "MiB", "plain / this"],
    )
    totals = {way: [sum(run[stage] for stage in STAGES) for run in runs] for way, runs in measured.items()}
    mib = {way: max(run["MiB"] for run in runs) for way, runs in measured.items()}
    for way, runs in measured.items():
        ratios = [b / a for a, b in zip(totals[way], totals["plain"], strict=True)]
        stages = [with_spread([run[stage] for run in runs]) for stage in STAGES]
        figures = with_spread(totals[way]), with_spread(ratios), mib[way], mib["plain"] / mib[way]
        table.add(way, runs[0]["steps"], *stages, *figures)
    print(table)
    print(f"ours as published and plain: pictures differ by at most {np.abs(ours - plain).max()} of 255")


if __name__ == "__main__":
    main()
