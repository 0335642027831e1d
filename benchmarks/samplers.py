"""Measure quality against the number of denoising calls, for every suitable scheduler.

Clips of a prepared data set that the training has not seen are denoised with their own speech, pose and blinks, and
the motion is compared with the true one, which LFG estimates from the filmed frames:

    python benchmarks/samplers.py --pipeline runs/a2v/pipeline --dataset clips
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `training` lies beside this folder

from diffusers_dawn import DAWNPipeline, LatentFlowGenerator
from diffusers_dawn.metrics import pearson_correlation
from diffusers_dawn.motion_latents import motion_from_latents
from diffusers_dawn.scheduler_choice import SCHEDULERS, make_scheduler, training_config
from report import describe_machine
from training.diffusion_targets import mouth_box_mask
from training.motion_cache import estimate_motion
from training.validation import TruthClip, validation_clips

# scheduler, share of fresh noise: the published sampler, and all without fresh noise of ours
SAMPLERS = (("dawn", 1.0), *((name, 0.0) for name in SCHEDULERS))


class Motion(NamedTuple):
    """Motion of a clip on the CPU.

    Attributes:
        flow_px: Displacements (F, h, w, 2) [px of the image].
        occlusion: Visibility (F, h, w).
    """

    flow_px: torch.Tensor
    occlusion: torch.Tensor


def as_motion(flow: torch.Tensor, occlusion: torch.Tensor, size: int) -> Motion:
    """Take one clip's flow (1, F, h, w, 2) [grid_sample units] and occlusion (1, F, 1, h, w)."""
    return Motion(flow[0].float().cpu() * (size / 2), occlusion[0, :, 0].float().cpu())


def true_motion(lfg: LatentFlowGenerator, clip: TruthClip) -> Motion:
    """Estimate how a filmed clip moves against its first frame."""
    frames = torch.from_numpy(clip.frames).to(lfg.device).permute(0, 3, 1, 2).float()[None] / 255
    parts = [estimate_motion(lfg, frames[:, 0], part) for part in frames.split(8, dim=1)]
    return as_motion(*motion_from_latents(torch.cat(parts, dim=2)), frames.shape[-1])


def sampled_motion(
    pipe: DAWNPipeline, clip: TruthClip, eta: float, steps: int, seed: int, cache_interval: int
) -> Motion:
    """Sample the motion of a clip, given its speech, pose and blinks."""
    latents = pipe(
        image=clip.portrait(),
        audio_embeds=torch.from_numpy(clip.labels["audio_features"].astype(np.float32)),
        pose=torch.from_numpy(clip.labels["pose"]),
        blink=torch.from_numpy(clip.labels["blink"]),
        num_inference_steps=steps,
        eta=eta,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
        cache_interval=cache_interval,
    ).frames
    return as_motion(*motion_from_latents(latents, pipe.unet.config.flow_scale), clip.frames.shape[1])


def compare(made: Motion, truth: Motion, mouth: torch.Tensor) -> dict[str, float]:
    """Compare two motions of one clip.

    Args:
        made: The sampled one.
        truth: The true one.
        mouth: Whether a pixel belongs to the mouth's box (F, h, w).

    Returns:
        Correlation in time of displacements and of occlusion inside the mouth's box, root mean square difference of
        displacements there and everywhere [px], and how restless the motion is: the mean size of second differences
        in time, over that of the truth.
    """
    inside = mouth.amax(dim=0) > 0
    figures = {}
    for name, first, second in (
        ("mouth r", made.flow_px[:, inside].flatten(1), truth.flow_px[:, inside].flatten(1)),
        ("open r", made.occlusion[:, inside], truth.occlusion[:, inside]),
    ):
        # what stands still in time says nothing
        first, second = first - first.mean(dim=0), second - second.mean(dim=0)
        figures[name] = pearson_correlation(first.flatten(), second.flatten()).item()
    difference = (made.flow_px - truth.flow_px).square().sum(dim=-1)
    figures["mouth px"] = difference[:, inside].mean().sqrt().item()
    figures["all px"] = difference.mean().sqrt().item()
    restless = [motion.flow_px.diff(n=2, dim=0).norm(dim=-1).mean() for motion in (made, truth)]
    figures["restless"] = (restless[0] / restless[1]).item()
    return figures


def measure(
    pipe: DAWNPipeline,
    clips: Sequence[tuple[TruthClip, Motion]],
    name: str,
    eta: float,
    steps: int,
    seed: int,
    cache_interval: int,
) -> dict[str, float]:
    """Sample all clips by one sampler; returns the means over the clips, the calls, and the seconds per clip."""
    rows = []
    for index, (clip, truth) in enumerate(clips):
        pipe.scheduler = make_scheduler(name, training_config(pipe.scheduler))
        size = truth.flow_px.shape[1:3]
        mouth = mouth_box_mask(torch.from_numpy(clip.labels["mouth_px"])[None], clip.frames.shape[1:3], *size)
        made = sampled_motion(pipe, clip, eta, steps, seed + index, cache_interval)
        rows.append(
            {"calls": pipe.num_timesteps, "s": pipe.stage_seconds["denoising"]} | compare(made, truth, mouth[0, 0])
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def row_of(*values: object) -> str:
    """Lay out a row of the table, which is printed as it grows."""
    return "".join(f"{f'{value:.3g}' if isinstance(value, float) else value:>10}" for value in values)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, required=True, help="folder of a trained pipeline")
    parser.add_argument("--lfg", type=Path, help="folder of its LFG with motion estimator (default: the pipeline's)")
    parser.add_argument("--dataset", required=True, help="folder of a prepared data set")
    parser.add_argument("--num-clips", type=int, default=16)
    parser.add_argument("--max-frames", type=int, default=100)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 8, 10, 15, 20])
    parser.add_argument("--samplers", nargs="+", choices=SCHEDULERS, help="(default: all)")
    parser.add_argument("--cache-interval", type=int, default=1, help="see DAWNPipeline.__call__")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    pipe = DAWNPipeline.from_pretrained(args.pipeline).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    lfg = pipe.lfg if args.lfg is None else LatentFlowGenerator.from_pretrained(args.lfg).eval().to(args.device)
    clips = validation_clips(args.dataset, args.num_clips, args.max_frames)
    pairs = [(clip, true_motion(lfg, clip)) for clip in clips]
    print(describe_machine())
    settings = f"seed {args.seed}, cache interval {args.cache_interval}"
    print(f"{args.pipeline}, {len(pairs)} clips of up to {args.max_frames} frames, {settings}")
    names = ("calls", "s", "mouth r", "open r", "mouth px", "all px", "restless")
    print("means over the clips, against the motion of the film")
    print(row_of("sampler", "eta", *names))
    chosen = [pair for pair in SAMPLERS if args.samplers is None or pair[0] in args.samplers]
    for name, eta in chosen:
        for steps in args.steps:
            try:
                figures = measure(pipe, pairs, name, eta, steps, args.seed, args.cache_interval)
            except ValueError as error:
                print(f"{name} in {steps}: {error}")
                continue
            print(row_of(name, eta, *(figures[column] for column in names)), flush=True)


if __name__ == "__main__":
    main()
