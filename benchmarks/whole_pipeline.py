"""Measure the whole pipeline: seconds of work per second of video, by stage and preset.

Recordings of each length are rendered and written to a video file, in turn by every preset, several times:

    python benchmarks/whole_pipeline.py --network 128
    python benchmarks/whole_pipeline.py --checkpoint runs/a2v/pipeline --image portrait.png --audio speech.wav
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from clip_to_render import add_options, build_pipeline, make_portrait, make_speech
from diffusers_dawn import DAWNPipeline, Portrait, Waveform
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.machine.stage_timer import timed
from diffusers_dawn.media.video_writer import VideoWriter
from diffusers_dawn.records import FPS
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS, presets_of
from report import Table, add_allocator_option, set_up_process, synchronise

STAGES = ("speech features", "pose and blink", "conditions", "denoising", "frames")


def render(
    args: argparse.Namespace, pipe: DAWNPipeline, portrait: Portrait, speech: Waveform, preset: str, path: Path
) -> dict[str, float]:
    """Render one recording to a file; returns the seconds of every stage, and of all of it."""
    size = args.size or pipe.default_size
    pipe.enable_step_cache(args.cache_interval)
    start_s = time.perf_counter()
    out = pipe(
        portrait,
        speech,
        height=size,
        width=size,
        preset=preset,
        generator=torch.Generator().manual_seed(0),
        output_type="stream",
    )
    seconds = dict(pipe.stage_seconds)
    with timed(seconds, "frames"), VideoWriter(path, waveform=speech) as writer:
        for frames in out.frames[0]:
            writer.write(frames)
    synchronise(args.device)
    return seconds | {"all": time.perf_counter() - start_s}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seconds", type=float, nargs="+", default=[8, 60], help="lengths of the recordings")
    parser.add_argument("--presets", nargs="+", choices=[*PRESETS], default=[DEFAULT_PRESET, "fast"])
    parser.add_argument("--cache-interval", type=int, default=1, help="see DAWNPipeline.enable_step_cache")
    parser.add_argument("--size", type=int, help="height and width of the video [px] (default: the networks')")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; medians are printed")
    add_allocator_option(parser, default="kept")
    args = parser.parse_args(arguments)
    args.dtype = getattr(torch, args.dtype)
    return args


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    set_up_process(args.threads, args.allocator)
    pipe = build_pipeline(args)
    portrait = make_portrait(args, pipe)
    print(describe_machine())
    networks = args.checkpoint or f"random weights, {args.network}"
    print(
        f"{networks}, {args.size or pipe.default_size} px, {args.dtype}, {args.device}, {args.allocator} allocator, "
        f"cache interval {args.cache_interval}; medians of {args.repeats} renderings, seconds per second of video"
    )
    table = Table("whole pipeline, file included", ["speech s", "preset", "calls", *STAGES, "other", "all"])
    for duration_s in args.seconds:
        speech = make_speech(args, round(duration_s * FPS))
        measured: dict[str, list[dict[str, float]]] = {preset: [] for preset in args.presets}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.repeats):
                for preset, rows in measured.items():
                    rows.append(render(args, pipe, portrait, speech, preset, Path(folder, "talking.mp4")))
        for preset, rows in measured.items():
            middle = {name: median(row[name] for row in rows) / duration_s for name in (*STAGES, "all")}
            other = middle["all"] - sum(middle[stage] for stage in STAGES)
            stages = [middle[stage] for stage in STAGES]
            calls = presets_of(pipe.scheduler)[preset].num_inference_steps
            table.add(duration_s, preset, calls, *stages, other, middle["all"])
    print(table)


if __name__ == "__main__":
    main()
