"""Measure speech that arrives while it is animated: latency, real-time factor (RTF), seams, lips, and long streams.

The RTF is the seconds of work per second of video; below 1, a stream keeps up with the talker.

Speech is handed over in chunks of a fiftieth of a second, as fast as they are taken; the clock of a talker who speaks
at the usual pace is worked out from the time that rendering took.

    python benchmarks/stream.py --checkpoint FOLDER --image portrait.png --audio speech.wav
    python benchmarks/stream.py --tasks long --minutes 60 --preset fast --checkpoint FOLDER --image portrait.png
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from statistics import mean, median

import numpy as np
import psutil
import torch

from clip_to_render import add_options, build_pipeline, make_portrait, make_speech
from diffusers_dawn import DAWNPipeline, Portrait, StreamWindows, Waveform
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.records import FPS
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS
from report import Table, add_allocator_option, set_up_process, synchronise

CHUNK_S = 0.02
STAGES = ("speech features", "pose and blink", "conditions", "denoising", "frames")


class Talker:
    """Hands a recording over in small chunks and remembers how much was taken.

    Args:
        speech: The recording.
    """

    def __init__(self, speech: Waveform) -> None:
        self.taken_s, self._speech = 0.0, speech

    def __iter__(self) -> Iterator[np.ndarray]:
        """Give the chunks."""
        samples, rate_hz = self._speech.samples, self._speech.sample_rate_hz
        length = round(CHUNK_S * rate_hz)
        for first in range(0, len(samples), length):
            chunk = samples[first : first + length]
            self.taken_s += len(chunk) / rate_hz
            yield chunk


class Rendering:
    """One stream, with what its frames show and when they would have been there.

    Args:
        args: Options of the command line.
        pipe: The pipeline.
        portrait: Whom to animate.
        speech: The recording.
        windows: How it is cut.
        motion: What is said about the head's motion.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        pipe: DAWNPipeline,
        portrait: Portrait,
        speech: Waveform,
        windows: StreamWindows,
        motion: str | None = None,
    ) -> None:
        talker = Talker(speech)
        stream = pipe.stream(
            portrait,
            talker,
            speech.sample_rate_hz,
            preset=args.preset,
            generator=torch.Generator().manual_seed(0),
            motion=motion,
            windows=windows,
            height=args.size,
            width=args.size,
        )
        frames, self.latencies_s, self.work_s, free_at_s = [], [], 0.0, 0.0
        start_s = time.perf_counter()
        for piece in stream:
            synchronise(args.device)
            worked_s = time.perf_counter() - start_s
            # rendering begins when the speech is there and the frames before are done
            free_at_s = max(free_at_s, talker.taken_s) + worked_s
            self.latencies_s.append(free_at_s - piece.start_s)
            self.work_s += worked_s
            frames.append(piece.frames)
            start_s = time.perf_counter()
        self.stage_seconds = dict(stream.stage_seconds)
        self.frames, self.hop = np.concatenate(frames).astype(np.float32), windows.hop_frames

    def seams(self) -> float | None:
        """Mean change from frame to frame where hops meet, over that elsewhere; None: no hops meet."""
        steps = np.abs(np.diff(self.frames, axis=0)).mean((1, 2, 3))
        joints = np.arange(self.hop - 1, len(steps), self.hop)
        return float(steps[joints].mean() / np.delete(steps, joints).mean()) if len(joints) else None


def print_time(args: argparse.Namespace, pipe: DAWNPipeline, portrait: Portrait) -> None:
    """Measure every way of cutting and print the tables."""
    speech = make_speech(args, round(args.seconds * FPS))
    table = Table(
        f"{args.seconds:g} s of speech, preset {args.preset}: latency as stated, without rendering, and as found by"
        " the talker's clock; seams: change from frame to frame where hops meet, over that elsewhere",
        ["hop", "ahead", "past", "stated s", "first frame s", "median s", "longest s", "RTF", "seams"],
    )
    stages = Table("seconds of work per second of video", ["hop", "ahead", "past", *STAGES])
    for hop, ahead, past in args.windows:
        windows = StreamWindows(hop, ahead, past)
        done = Rendering(args, pipe, portrait, speech, windows)
        cut = (hop, ahead, past)
        found_s = done.latencies_s[0], median(done.latencies_s), max(done.latencies_s)
        table.add(*cut, windows.latency_s, *found_s, done.work_s / args.seconds, done.seams())
        stages.add(*cut, *(done.stage_seconds[stage] / args.seconds for stage in STAGES))
    print(table)
    print(stages, flush=True)


def print_lips(args: argparse.Namespace, pipe: DAWNPipeline, portrait: Portrait) -> None:
    """Let a still head listen in the middle of its speech, and print how much its lips move."""
    num_frames = round(args.seconds * FPS)
    speech = make_speech(args, 2 * num_frames)
    samples = speech.samples.copy()
    part = len(samples) // 2
    samples[part // 2 : part // 2 + part] = 0
    quiet = Waveform(samples, speech.sample_rate_hz)
    done = Rendering(args, pipe, portrait, quiet, StreamWindows(*args.windows[0]), motion="head motion 0")
    top, bottom, left, right = mouth_box(portrait, done.frames.shape[1])
    mouth = done.frames[:, top:bottom, left:right]
    steps = np.abs(np.diff(mouth, axis=0)).mean((1, 2, 3))
    begin, end = num_frames // 2, num_frames // 2 + num_frames
    settled = slice(min(begin + FPS // 2, end - 2), end - FPS // 5)
    spoken = np.r_[0:begin, end : len(steps)]
    table = Table(
        f"{args.seconds:g} s of silence within {args.seconds:g} s of speech, head still: the mouth's pixels, of 255",
        ["", "change per frame", "from their mean in silence"],
    )
    rest = mouth[settled].mean(0)
    for name, where in (("speech", spoken), ("silence, from half a second on", settled)):
        table.add(name, float(steps[where].mean()), float(np.abs(mouth[where] - rest).mean()))
    print(table, flush=True)


class Stretch:
    """Some frames of a long stream, of which only sums are kept.

    Args:
        hop: Frames of a hop.
    """

    def __init__(self, hop: int) -> None:
        self._hop, self._total, self._steps = hop, 0.0, {True: [], False: []}
        self._num_frames, self._start_s = 0, time.perf_counter()

    def add(self, frames: np.ndarray, first: int, before: np.ndarray | None) -> None:
        """Look at frames (N, H, W, 3), the number of the first of them, and the frame (1, H, W, 3) before them."""
        shown = frames if before is None else np.concatenate([before, frames])
        steps = np.abs(np.diff(shown, axis=0)).mean((1, 2, 3))
        for number, step in enumerate(steps, first + len(frames) - len(steps)):
            self._steps[number % self._hop == 0].append(float(step))
        self._total, self._num_frames = self._total + frames.sum(0), self._num_frames + len(frames)

    @property
    def mean_picture(self) -> np.ndarray:
        """Mean of the frames (H, W, 3)."""
        return self._total / self._num_frames

    def work(self) -> float:
        """Seconds since its begin, per second of video."""
        return (time.perf_counter() - self._start_s) * FPS / self._num_frames

    def seams(self) -> float | None:
        """Mean change from frame to frame where hops meet, over that elsewhere; None: no hops meet."""
        return mean(self._steps[True]) / mean(self._steps[False]) if all(self._steps.values()) else None


def print_long(args: argparse.Namespace, pipe: DAWNPipeline, portrait: Portrait) -> None:
    """Let it talk for minutes, and print for every tenth of them what must not grow."""
    windows, speech = StreamWindows(*args.windows[0]), make_speech(args, round(args.seconds * FPS))
    rounds = max(round(60 * args.minutes / args.seconds), 1)
    settings = {"preset": args.preset, "height": args.size, "width": args.size, "windows": windows}
    stream = pipe.stream(
        portrait,
        chain.from_iterable(repeat(Talker(speech), rounds)),
        speech.sample_rate_hz,
        generator=torch.Generator().manual_seed(0),
        **settings,
    )
    table = Table(
        f"{args.minutes:g} minutes of speech, {args.seconds:g} s again and again; how far the mean picture of each"
        " tenth is from the first tenth's, of 255",
        ["to minute", "memory MiB", "samples held", "frames held", "RTF", "seams", "mean picture"],
    )
    tenth_frames, memory = rounds * args.seconds * FPS / 10, psutil.Process().memory_info
    stretch, first_mean, last = Stretch(windows.hop_frames), None, None
    for piece in stream:
        frames = piece.frames.astype(np.float32)
        stretch.add(frames, piece.first_frame, last)
        last, end = frames[-1:], piece.first_frame + len(frames)
        if end < tenth_frames * len(table.rows):  # of which the first has the names of the columns
            continue
        first_mean = stretch.mean_picture if first_mean is None else first_mean
        differs = float(np.abs(stretch.mean_picture - first_mean).mean())
        minutes, held_mib = end / FPS / 60, memory().rss / 2**20
        table.add(minutes, round(held_mib), *stream.num_held, stretch.work(), stretch.seams(), differs)
        stretch = Stretch(windows.hop_frames)
    print(table, flush=True)


def mouth_box(portrait: Portrait, size_px: int) -> tuple[int, int, int, int]:
    """Say where the portrait's mouth lies in the video: top, bottom, left, right [px]."""
    face, scale = portrait.face, size_px / portrait.face.image_size[0]
    if face.mouth_px is None:
        left, right, top, bottom = face.box_px
        return tuple(round(scale * side) for side in ((2 * bottom + top) / 3, bottom, left, right))
    (left, top), (right, bottom) = face.mouth_px.min(0), face.mouth_px.max(0)
    margin = (right - left) / 5
    return tuple(round(scale * side) for side in (top - margin, bottom + margin, left - margin, right + margin))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--tasks", nargs="+", choices=["time", "lips", "long"], default=["time", "lips"])
    parser.add_argument("--seconds", type=float, default=8, help="length of the speech, and of the silence in it")
    parser.add_argument("--minutes", type=float, default=10, help="how long it talks in the task `long`")
    parser.add_argument("--preset", choices=[*PRESETS], default=DEFAULT_PRESET)
    parser.add_argument("--size", type=int, help="width and height of the video (default: the checkpoint's)")
    usual = StreamWindows()
    parser.add_argument(
        "--windows",
        type=lambda text: tuple(int(number) for number in text.split(",")),
        nargs="+",
        default=[(usual.hop_frames, usual.ahead_frames, usual.past_frames)],
        metavar="HOP,AHEAD,PAST",
        help="frames, see StreamWindows",
    )
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
    print(f"{networks}, {args.size or pipe.default_size} px, {args.dtype}, {args.device}, {args.allocator} allocator")
    # the first call of everything is not timed
    usual = StreamWindows(*args.windows[0])
    Rendering(args, pipe, portrait, make_speech(args, usual.hop_frames + usual.ahead_frames), usual)
    if "time" in args.tasks:
        print_time(args, pipe, portrait)
    if "lips" in args.tasks:
        print_lips(args, pipe, portrait)
    if "long" in args.tasks:
        print_long(args, pipe, portrait)


if __name__ == "__main__":
    main()
