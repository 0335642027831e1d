"""Compare the graphs that `dawn export-onnx` writes, run by onnxruntime, with the pipeline, run by torch.

Speech features, one call of the denoiser, eight frames and a whole clip, in turn by both, several times:

    python benchmarks/onnx_graphs.py --threads 1 --processor-time
    python benchmarks/onnx_graphs.py --checkpoint FOLDER --image portrait.png --audio speech.wav --seconds 8
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from clip_to_render import add_options, build_pipeline, make_portrait, make_speech
from diffusers_dawn.graphs.export import export_onnx
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.records import FPS
from report import Table, add_clock_option, set_up_process, time_call

EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMES_AT_ONCE = 8


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=4, help="length of the clip")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; medians are printed")
    add_clock_option(parser)
    args = parser.parse_args(arguments)
    if args.dtype != "float32" or args.device != "cpu":
        parser.error("graphs are compared in float32 on the CPU: leave out `--dtype` and `--device`")
    args.dtype = torch.float32
    return args


def tasks(args: argparse.Namespace, graphs_folder: Path) -> dict[str, tuple[Callable, Callable]]:
    """Put what is measured into pairs of functions, of torch and of onnxruntime, which return the same array."""
    sys.path.append(str(EXAMPLES))
    from animate_with_onnx import OnnxPipeline

    pipe = build_pipeline(args)
    export_onnx(pipe, graphs_folder)
    graphs = OnnxPipeline(graphs_folder, args.threads)
    portrait, speech = make_portrait(args, pipe), make_speech(args, round(args.seconds * FPS))
    features = pipe.encode_audio(speech)[None]
    tracks = [torch.zeros(1, features.shape[1], width) for width in (6, 2)]
    relative = [
        track - torch.tensor(state, dtype=torch.float32)
        for track, state in zip(tracks, (portrait.face.pose, portrait.face.blink), strict=True)
    ]
    side = pipe.default_size // pipe.lfg.config.motion_stride
    motion = torch.randn((1, 3, features.shape[1], side, side), generator=torch.Generator().manual_seed(0))
    (context, *_) = pipe.prepare_conditions([portrait], features, *tracks).of_window(slice(None))
    image, mask = graphs.image_of(portrait), graphs.face_mask_of(portrait)
    encoded = graphs.run("portrait", image)
    given = [part.numpy() for part in (features, *relative)]

    def denoise() -> np.ndarray:
        with torch.no_grad():
            return pipe.unet(motion, 500, context=context, return_dict=False)[0].numpy()

    def render() -> np.ndarray:
        return pipe(portrait, speech, generator=torch.Generator().manual_seed(0), output_type="np").frames[0]

    few = 0.1 * motion[:, :, :FRAMES_AT_ONCE]
    time = np.array([500], np.float32)
    return {
        "speech features": (lambda: pipe.encode_audio(speech)[None].numpy(), lambda: graphs.encode_audio(speech)),
        "denoising call": (
            denoise,
            lambda: graphs.run("denoiser", motion.numpy(), time, encoded[-1], mask, *given)[0],
        ),
        f"{FRAMES_AT_ONCE} frames": (
            lambda: next(iter(pipe.decode_motion(few, [portrait]))).numpy(),
            lambda: graphs.run("frames", few.numpy(), image, *encoded, *graphs.person_of(portrait))[0],
        ),
        "whole clip": (render, lambda: np.concatenate(list(graphs.render(portrait, speech)))),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    set_up_process(args.threads, "default", args.processor_time)
    print(describe_machine())
    networks = args.checkpoint or f"random weights, {args.network}"
    print(f"{networks}, {args.seconds:g} s of speech, {args.threads} threads; medians of {args.repeats} runs")
    table = Table("onnxruntime beside torch", ["", "torch s", "onnx s", "torch / onnx", "largest difference"])
    with tempfile.TemporaryDirectory() as folder:
        for name, pair in tasks(args, Path(folder, "graphs")).items():
            ours, theirs = (function() for function in pair)  # the first call is not timed
            seconds = [[time_call(function, "cpu") for function in pair] for _ in range(args.repeats)]
            ratio = median(with_torch / with_onnx for with_torch, with_onnx in seconds)
            table.add(name, *map(median, zip(*seconds, strict=True)), ratio, float(np.abs(ours - theirs).max()))
    print(table)


if __name__ == "__main__":
    main()
