"""Measure jobs per minute: one command per job, one model for all jobs, and clips that share a denoising pass.

    python benchmarks/batch.py
    python benchmarks/batch.py --checkpoint runs/a2v/pipeline --image portrait.png --device cuda --jobs 16

Everything runs in one process and thread. The commands include the start of Python; videos are written in all three.
Seconds of the processor are printed beside those of the clock, which on a busy machine say little. The last two
columns say how many times as many jobs are done in the same time as by the first way, by clock and by processor.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch

from diffusers_dawn import DAWNPipeline, JobRenderer, VideoWriter, Waveform, demo_checkpoint, read_waveform
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.records import FPS
from report import Table, set_up_process, synchronise

EXAMPLES = Path(__file__).parents[1] / "examples"


def write_speech(path: Path, source: Path, duration_s: float) -> None:
    """Write the beginning of a recording, repeated where it is too short."""
    speech = read_waveform(source)
    samples = np.resize(speech.samples, round(duration_s * speech.sample_rate_hz)) * 32767
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=speech.sample_rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples.astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = speech.sample_rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def by_command(jobs: list[dict], folder: Path, options: argparse.Namespace) -> None:
    """Run `dawn animate` for every job."""
    for job in jobs:
        job = job | {"output": str(folder / job["output"]), "checkpoint": options.checkpoint, "device": options.device}
        words = [f"--{name}={value}" for name, value in job.items()]
        command = [sys.executable, "-m", "diffusers_dawn", "animate", *words]
        subprocess.run(command, check=True, capture_output=True)


def by_one_model(jobs: list[dict], folder: Path, options: argparse.Namespace) -> None:
    """Run the jobs as `dawn batch` does, the model's load included."""
    render = JobRenderer(folder, options.checkpoint, device=options.device)
    for job in jobs:
        row = render(job)
        if row["status"] != "done":
            raise SystemExit(row["reason"])


def by_shared_passes(jobs: list[dict], folder: Path, options: argparse.Namespace) -> None:
    """Run the jobs in calls of several clips, the model's load included."""
    pipe = DAWNPipeline.from_pretrained(options.checkpoint).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    folder.mkdir()
    for first in range(0, len(jobs), options.clips_per_pass):
        part = jobs[first : first + options.clips_per_pass]
        out = pipe(
            [job["image"] for job in part],
            [job["audio"] for job in part],
            generator=[torch.Generator().manual_seed(job["seed"]) for job in part],
            output_type="stream",
            preset=options.preset,
        )
        for index, job in enumerate(part):
            sound = Waveform(out.audio[index], out.sampling_rate[index])
            with VideoWriter(folder / job["output"], waveform=sound) as writer:
                for frames in out.frames[index]:
                    writer.write(frames)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="(default: the one that ships)")
    parser.add_argument("--image", default=str(EXAMPLES / "portrait_1.png"), help="(default: examples/portrait_1.png)")
    parser.add_argument(
        "--audio", type=Path, default=EXAMPLES / "speech_1.wav", help="(default: examples/speech_1.wav)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of every clip (default: 2)")
    parser.add_argument("--jobs", type=int, default=8, help="how many (default: 8)")
    parser.add_argument("--clips-per-pass", type=int, default=4, help="clips of a shared pass (default: 4)")
    parser.add_argument("--preset", default="balanced", help="sampler and steps (default: balanced)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=[*WAYS], help="what to measure (default: all)")
    return parser.parse_args(arguments)


WAYS: dict[str, Callable[[list[dict], Path, argparse.Namespace], None]] = {
    "commands": by_command,
    "one-model": by_one_model,
    "shared-passes": by_shared_passes,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    options = parse_arguments(arguments)
    set_up_process(1, "kept")
    print(describe_machine())
    title = f"{options.jobs} clips of {options.seconds:g} s, preset {options.preset}, {options.device}"
    columns = ["way", "clips per pass", "seconds", "of the processor", "jobs per minute", "s per s of video"]
    table = Table(title, [*columns, f"times {options.ways[0]}", "by the processor"])
    first = None
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder, "speech.wav")
        write_speech(speech, options.audio, round(options.seconds * FPS) / FPS)
        common = {"image": options.image, "audio": str(speech), "preset": options.preset}
        jobs = [common | {"seed": seed, "output": f"{seed}.mp4"} for seed in range(options.jobs)]
        for way in options.ways:
            start_s, start_work_s = time.perf_counter(), sum(os.times()[:4])
            place = Path(folder, way)
            if way == "commands":
                place.mkdir()
            WAYS[way](jobs, place, options)
            synchronise(options.device)
            taken_s, work_s = time.perf_counter() - start_s, sum(os.times()[:4]) - start_work_s
            together = options.clips_per_pass if way == "shared-passes" else 1
            rate = 60 * options.jobs / taken_s
            first = first or (taken_s, work_s)
            ratios = first[0] / taken_s, first[1] / work_s
            table.add(way, together, taken_s, work_s, rate, taken_s / (options.jobs * options.seconds), *ratios)
    print(table)


if __name__ == "__main__":
    main()
