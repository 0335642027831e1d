"""Write a denoiser's version of a data set's known motion beside it, for `train_lfg.py --denoised_share`.

    python training/add_denoised_motion.py --dataset DATA --pipeline runs/a2v/pipeline

What a denoiser says about lids and lips is softer than the motion itself, and hides more of the portrait. The exact
motion gets the noise of a middle step, so that head and lips lie where the frames show them, and the denoiser takes it
away in two calls. The same command goes on after a stop; motion of another denoiser or seed is replaced.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from diffusers_dawn.geometry.flow import face_box_mask
from diffusers_dawn.geometry.motion_latents import latents_from_motion, motion_from_latents
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sampling.conditions import relative_conditions
from diffusers_dawn.sampling.prediction import add_noise, clean_from_prediction
from diffusers_dawn.sampling.scheduler_training import trained_prediction
from training.data.clip_shards import ClipShards
from training.data.datasets import blinking_frames
from training.data.denoised_motion import DenoisedMotion, denoised_path, is_denoised_by, write_denoised
from training.data.known_motion import KnownMotion
from training.data.mouth import mouth_track
from training.data.steady_pose import steady_pose
from training.engine import commands
from training.engine.processes import device_of_process
from training.evaluation.loading import load_pipeline
from training.evaluation.provenance import weights_digest
from training.objectives.noise_levels import noise_levels

NUM_FRAMES = 32
# of 1,000 steps: with less noise the denoiser would hand the motion on, with more heads would lie elsewhere
BEGIN_STEPS, LAST_STEP = (600, 800), 333
# as the denoiser's own training smoothed the poses of films
POSE_SMOOTHING_S = 0.4


def add_denoised_motion(folder: Path, pipeline: Path, device: str | None = None, seed: int = 0) -> None:
    """Write the denoised motion of all training clips; see `add_denoised_motion.py --help`.

    Args:
        folder: The data set's folder.
        pipeline: Folder of the pipeline whose denoiser it is.
        device: Where it runs; None: a GPU if there is one.
        seed: Another seed, other frames and noise.

    Raises:
        ValueError: There is no such data set or pipeline, or the data set does not know its motion.
    """
    clips = ClipShards(folder)
    known = KnownMotion(clips)
    pipe = load_pipeline(str(pipeline), device_of_process(device, 0))
    origin = f"{weights_digest(pipe.unet)} {seed}"
    for shard in tqdm(sorted({entry.shard for entry in clips.entries}), desc="shards", unit="shard"):
        path = denoised_path(clips.folder / shard)
        if is_denoised_by(path, origin):
            continue
        of_shard = [(index, entry) for index, entry in enumerate(clips.entries) if entry.shard == shard]
        found = {
            entry.clip_id: denoise_known(pipe, clips, known, index, np.random.default_rng((seed, index)))
            for index, entry in of_shard
        }
        write_denoised(path, found, origin)


@torch.no_grad()
def denoise_known(
    pipe: DAWNPipeline, clips: ClipShards, known: KnownMotion, index: int, rng: np.random.Generator
) -> DenoisedMotion:
    """Let a denoiser say a clip's known motion again.

    Args:
        pipe: The pipeline.
        clips: The clips.
        known: Their motion.
        index: Which clip.
        rng: Chooses the reference, the frames, which hold a blink if the clip has one, and the noise.

    Returns:
        The denoiser's version.
    """
    unet, device = pipe.unet, pipe.unet.device
    labels = clips.read_labels(index)
    num_frames = min(NUM_FRAMES, clips.entries[index].num_frames)
    last = clips.entries[index].num_frames - num_frames
    blinks = blinking_frames(clips, index)
    first = int(rng.integers(last + 1))
    if len(blinks):
        first = int(np.clip(rng.choice(blinks) - rng.integers(num_frames), 0, last))
    which = int(rng.integers(len(labels["motion_references"])))
    reference = int(labels["motion_references"][which])
    labels["pose"] = steady_pose(clips, index, labels["pose"], POSE_SMOOTHING_S)
    frames = slice(first, first + num_frames)
    tracks = {name: torch.from_numpy(labels[name].astype(np.float32)).to(device) for name in ("pose", "blink")}
    speech = torch.from_numpy(labels["audio_features"][frames].astype(np.float32)).to(device)
    conditions = relative_conditions(
        speech[None],
        *(track[None, frames] for track in tracks.values()),
        *(track[None, reference] for track in tracks.values()),
    )
    mouth = None
    if unet.mouth_reader is not None:
        mouth = mouth_track(labels["mouth_px"], labels["face_box_px"])[None, frames].to(device)
    picture = torch.from_numpy(clips.read_frames(index, [reference])).to(device).permute(0, 3, 1, 2).float() / 255
    size = picture.shape[-2:]
    box_px = torch.from_numpy(labels["face_box_px"][reference : reference + 1].astype(np.float32)).to(device)
    face_mask = face_box_mask(box_px, box_px.new_tensor([size]), *size)
    inputs = (pipe.lfg.encode_image(picture).features.to(unet.dtype), face_mask.to(unet.dtype))
    flow, occlusion = motion_from_latents(known.read(index, reference, first, num_frames)[None].to(device))
    clean = latents_from_motion(flow, occlusion, unet.config.flow_scale)
    prediction_type = trained_prediction(pipe.scheduler.config)
    for step in (int(rng.integers(*BEGIN_STEPS)), LAST_STEP):
        level, time = noise_levels(prediction_type, pipe.scheduler, torch.tensor([step]))
        level, time = type(level)(*(share.to(device) for share in level)), time.to(device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        noisy = add_noise(clean, noise, level).to(unet.dtype)
        prediction = unet(noisy, time, *inputs, *conditions, mouth).sample.float()
        clean = clean_from_prediction(prediction_type, prediction, noisy.float(), level)
    flow, occlusion = motion_from_latents(clean, unet.config.flow_scale)
    motion = torch.cat((flow[0].permute(0, 3, 1, 2), occlusion[0]), dim=1)
    return DenoisedMotion(which, first, motion.cpu().numpy())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description="Write a denoiser's version of a data set's known motion beside it.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a data set that knows its motion")
    parser.add_argument("--pipeline", type=Path, required=True, help="folder of the pipeline whose denoiser it is")
    parser.add_argument("--device", help="where the denoiser runs (default: a GPU if there is one)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other frames and noise (default: 0)")
    options = parser.parse_args(arguments)
    return commands.run(
        "add_denoised_motion",
        lambda: add_denoised_motion(options.dataset, options.pipeline, options.device, options.seed),
    )


if __name__ == "__main__":
    commands.program(main)
