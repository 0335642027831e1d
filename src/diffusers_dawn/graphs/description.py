"""What a program without torch has to know beside the graphs: sizes, sampling, guidance, sound."""

from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..records import FPS
from ..sampling.guidance import guidance_of
from ..sampling.prediction import FLOW_PREDICTION, NoiseLevel, add_noise, prediction_target
from ..sampling.presets import PRESETS, choose_sampling
from ..sampling.scheduler_times import set_timesteps
from ..sampling.scheduler_training import follows_flow, trained_prediction
from ..speech.features import FRAMES_PER_PIECE, PUBLISHED_FRAMES, receptive_field

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

# of this description
FORMAT = 1


def describe(pipe: "DAWNPipeline") -> dict[str, Any]:
    """Say of a pipeline what `examples/animate_with_onnx.py` reads.

    Args:
        pipe: The pipeline.

    Returns:
        Numbers, texts, lists and dicts, for JSON. `samplers` has the steps of every preset: the time that the denoiser
        is told, the shares of motion and noise, and the weights of what the next noisy motion is a sum of.
    """
    reach, stride = receptive_field(pipe.audio_encoder)
    config = pipe.scheduler.config
    prediction, thresholds = trained_prediction(config), config.get("thresholding", False)
    # samplers of flow matching know no fixed range
    clips = config.get("clip_sample", False) and not thresholds and prediction != FLOW_PREDICTION
    return {
        "format": FORMAT,
        "written_by": f"diffusers_dawn {__version__}",
        "batch_size": 1,
        "image_size_px": pipe.default_size,
        "motion_stride_px": pipe.lfg.config.motion_stride,
        "frames_per_s": FPS,
        "temporal_window_frames": pipe.unet.config.temporal_window,
        "flow_scale": pipe.unet.config.flow_scale,
        "keeps_background": pipe.lfg.config.still_background,
        "speech": {
            "sample_rate_hz": pipe.feature_extractor.sampling_rate,
            "normalised": bool(getattr(pipe.feature_extractor, "do_normalize", False)),
            "samples_per_frame": stride,
            "samples_of_first_frame": reach,
            "frames_per_piece": FRAMES_PER_PIECE,
            "most_frames": PUBLISHED_FRAMES,
        },
        "noise_widths": list(pipe.pbnet.latent_dims.values()),
        "guidance": guidance_of({"speech": pipe.config.speech_guidance})._asdict(),
        "prediction": prediction,
        "threshold": {"quantile": config["dynamic_thresholding_ratio"], "most": config["sample_max_value"]}
        if thresholds
        else None,
        "bound": config["clip_sample_range"] if clips else None,
        "samplers": {name: _steps(pipe.scheduler, name) for name in PRESETS},
    }


def _steps(scheduler: Any, preset: str) -> list[dict[str, Any]]:
    """List the steps of a preset, with the weights of all that the next noisy motion is a sum of."""
    scheduler, num_steps, *_, eta = choose_sampling(scheduler, preset)
    # bounds of recovered motion are in the description: without them, one step of each unit says all weights
    scheduler.register_to_config(thresholding=False, clip_sample=False)
    timesteps = set_timesteps(scheduler, "cpu", num_steps)
    return _flow_steps(scheduler, timesteps) if follows_flow(scheduler) else _steps_of(scheduler, timesteps, eta)


def _steps_of(scheduler: Any, timesteps: torch.Tensor, eta: float) -> list[dict[str, Any]]:
    """List steps of DDIM: shares of motion and noise, and the weights of both, and of fresh noise, in what is next."""
    prediction_type = trained_prediction(scheduler.config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    clean, noise, fresh = torch.eye(3, dtype=torch.float64)[:, None]
    steps = []
    for time in timesteps.tolist():
        share = scheduler.alphas_cumprod[time].item()
        level = NoiseLevel(share**0.5, (1 - share) ** 0.5)
        answer, motion = prediction_target(prediction_type, clean, noise, level), add_noise(clean, noise, level)
        following = scheduler.step(answer, time, motion, eta=eta, variance_noise=fresh, return_dict=False)[0]
        weights = dict(zip(("clean", "noise", "fresh"), following[0].tolist(), strict=True))
        steps.append({"time": time} | level._asdict() | weights)
    return steps


def _flow_steps(scheduler: Any, timesteps: torch.Tensor) -> list[dict[str, Any]]:
    """List steps of flow matching: the share of noise, and the weights of the first noise and all motions so far."""
    scheduler.sigmas = scheduler.sigmas.double()
    noise, *cleans = torch.eye(len(timesteps) + 1, dtype=torch.float64)[:, None]
    motion, steps = noise, []
    for index, (clean, time, sigma) in enumerate(zip(cleans, timesteps, scheduler.sigmas.tolist(), strict=False)):
        motion = scheduler.step((motion - clean) / sigma, time, motion, return_dict=False)[0]
        weights = motion[0, : index + 2].tolist()
        steps.append({"time": sigma * scheduler.config.num_train_timesteps, "sigma": sigma, "weights": weights})
    return steps
