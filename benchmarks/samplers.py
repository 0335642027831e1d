"""Measure quality against the number of denoising calls, for samplers that suit the pipeline.

Clips of a prepared data set that the training has not seen are rendered with their own speech, pose and blinks, faces
are read from the pictures, and compared with the labels:

    python benchmarks/samplers.py --pipeline runs/a2v/pipeline --dataset clips
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `training` lies beside this folder

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS, make_scheduler
from diffusers_dawn.sampling.scheduler_training import training_config
from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import FaceReader, labelled_opening
from training.evaluation.figures import face_sharpness, finite_mean, opening_correlation
from training.evaluation.sections.guided import FOLLOWED, followed
from training.evaluation.settings import EvaluationSettings
from training.evaluation.strategies import Stretch

COLUMNS = ("calls", "s", "mouth r", *(f"{name} r" for name in FOLLOWED), "sharp", "restless")


def restlessness(pictures: np.ndarray) -> float:
    """Measure how restless pictures (F, H, W, 3) are: the mean size of second differences in time [8-bit steps]."""
    return float(np.abs(np.diff(pictures.astype(np.float32), n=2, axis=0)).mean())


def measure_clip(evaluation: Evaluation, place: int, cache_interval: int) -> dict[str, float]:
    """Render a clip with the pipeline's scheduler and compare it with the truth.

    Args:
        evaluation: The pipeline and the clips.
        place: Which clip.
        cache_interval: See `DAWNPipeline.enable_step_cache`.

    Returns:
        Calls, seconds of denoising, correlations with the labels, and sharpness and restlessness over the truth's.
    """
    pipe, labels, portrait = evaluation.pipe, evaluation.labels(place), evaluation.portrait(place)
    pipe.enable_step_cache(cache_interval)
    latents = pipe(
        image=portrait,
        audio_embeds=evaluation.speech(place),
        pose=torch.from_numpy(labels["pose"]),
        blink=torch.from_numpy(labels["blink"]),
        num_inference_steps=evaluation.settings.num_inference_steps,
        generator=evaluation.random(place),
        output_type="latent",
    ).frames
    seconds = pipe.stage_seconds["denoising"]
    pictures, truth = evaluation.pictures([Stretch(latents, portrait)]), evaluation.truth(place).frames
    read = evaluation.needed_reader()(pictures)
    figures = {
        "calls": pipe.num_timesteps,
        "s": seconds,
        "mouth r": opening_correlation(labelled_opening(labels), read),
        **{f"{name} r": r for name, r in zip(FOLLOWED, followed(labels, read), strict=True)},
    }
    boxes = labels["face_box_px"]
    figures["sharp"] = face_sharpness(pictures, boxes) / face_sharpness(truth, boxes)
    figures["restless"] = restlessness(pictures) / restlessness(truth)
    return figures


def row_of(*values: object) -> str:
    """Lay out a row of the table, which is printed as it grows."""
    first, *others = values
    return f"{first:<34}" + "".join(f"{f'{value:.3g}' if isinstance(value, float) else value:>13}" for value in others)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, required=True, help="folder of a trained pipeline")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a prepared data set")
    parser.add_argument("--num-clips", type=int, default=16)
    parser.add_argument("--clip-seconds", type=float, default=4.0)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 5, 10, 20])
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=list(SCHEDULERS),
        help="short names, or classes of diffusers (default: the former)",
    )
    parser.add_argument("--cache-interval", type=int, default=1, help="see DAWNPipeline.__call__")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--reader-processes", type=int, default=1, help="processes that read faces (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    pipe = DAWNPipeline.from_pretrained(args.pipeline).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    config = training_config(pipe.scheduler)
    print(describe_machine())
    with FaceReader(args.reader_processes) as reader:
        for number, steps in enumerate(args.steps):
            settings = EvaluationSettings(
                num_clips=args.num_clips,
                clip_seconds=args.clip_seconds,
                num_inference_steps=steps,
                seed=args.seed,
            )
            evaluation = Evaluation(pipe, args.dataset, settings, reader)
            if number == 0:
                print(
                    f"{args.pipeline}, {len(evaluation)} clips of up to {args.clip_seconds:g} s, seed {args.seed}, "
                    f"cache interval {args.cache_interval}"
                )
                print("means over the clips; r against the labels, sharpness and restlessness over the truth's")
                print(row_of("sampler", "steps", *COLUMNS))
            for name in args.samplers:
                try:
                    pipe.scheduler = make_scheduler(name, config)
                    clips = [measure_clip(evaluation, place, args.cache_interval) for place in range(len(evaluation))]
                except ValueError as error:
                    print(f"{name} in {steps}: {error}")
                    continue
                means = [finite_mean(clip[column] for clip in clips) for column in COLUMNS]
                print(row_of(name, steps, *means), flush=True)


if __name__ == "__main__":
    main()
