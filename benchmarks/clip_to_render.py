"""What the benchmarks of the whole pipeline render: a trained checkpoint or random weights, files or noise."""

import argparse

import numpy as np
import torch

from diffusers_dawn import DAWNPipeline, FaceState, Portrait, Waveform
from diffusers_dawn.conversion.random_pipeline import SIZES, random_pipeline
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the functions here read."""
    parser.add_argument("--network", choices=SIZES, default="tiny", help="size of the random networks")
    parser.add_argument("--checkpoint", help="saved pipeline instead of random networks, whose motion says little")
    parser.add_argument("--image", help="portrait (default: noise)")
    parser.add_argument("--audio", help="recording, repeated as needed (default: noise)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())


def build_pipeline(args: argparse.Namespace) -> DAWNPipeline:
    """Load the checkpoint, or make a pipeline with random weights."""
    if args.checkpoint is None:
        pipe = random_pipeline(args.network, full=False)
        if args.dtype != torch.float32:
            pipe.to(args.dtype)
    else:
        pipe = DAWNPipeline.from_pretrained(args.checkpoint, dtype=args.dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(args.device)


def make_portrait(args: argparse.Namespace, pipe: DAWNPipeline) -> Portrait:
    """Find the face of the picture, or invent a picture of noise with a face in it."""
    if args.image is not None:
        return pipe.prepare_portrait(args.image)
    size = pipe.default_size
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    box_px = (0.27 * size, 0.74 * size, 0.31 * size, 0.86 * size)
    return Portrait(picture, FaceState(np.array([0, 0, 0, 4.8e-4, 60, 70]), np.full(2, 0.3), box_px, (size, size)))


def make_speech(args: argparse.Namespace, num_frames: int) -> Waveform:
    """Read as much of the recording as there is, again and again; or make noise that swells four times a second."""
    num_samples = num_frames * SAMPLE_RATE_HZ // FPS
    if args.audio is None:
        swelling = np.sin(np.arange(num_samples) * (4 * np.pi / SAMPLE_RATE_HZ)) ** 2
        return Waveform(
            (0.1 * swelling * np.random.default_rng(0).normal(size=num_samples)).astype(np.float32), 16_000
        )
    from diffusers_dawn.media.recordings import read_waveform, resample

    samples = resample(read_waveform(args.audio), SAMPLE_RATE_HZ).samples
    return Waveform(np.resize(samples, num_samples), SAMPLE_RATE_HZ)
