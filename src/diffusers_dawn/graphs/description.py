"""What a program without torch has to know beside the graphs: sizes, sampling, guidance, sound."""

from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..records import FPS
from ..sampling.guidance import guidance_of
from ..sampling.presets import PRESETS, choose_sampling
from ..sampling.scheduler_training import trained_prediction
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
        Numbers, texts, lists and dicts, for JSON. `samplers` has the presets that DDIM without fresh noise samples,
        with the time of every step and the shares of the motion's variance before and after it.
    """
    reach, stride = receptive_field(pipe.audio_encoder)
    config = pipe.scheduler.config
    thresholds = config.get("thresholding", False)
    return {
        "format": FORMAT,
        "written_by": f"diffusers_dawn {__version__}",
        "batch_size": 1,
        "image_size_px": pipe.default_size,
        "motion_stride_px": pipe.lfg.config.motion_stride,
        "frames_per_s": FPS,
        "temporal_window_frames": pipe.unet.config.temporal_window,
        "flow_scale": pipe.unet.config.flow_scale,
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
        "prediction": trained_prediction(config),
        "threshold": {"quantile": config["dynamic_thresholding_ratio"], "most": config["sample_max_value"]}
        if thresholds
        else None,
        "bound": None if thresholds or not config.get("clip_sample", False) else config["clip_sample_range"],
        "samplers": {name: steps for name in PRESETS if (steps := _steps(pipe.scheduler, name)) is not None},
    }


def _steps(scheduler: Any, preset: str) -> list[dict[str, float]] | None:
    """List the steps of a preset; None where it is not DDIM without fresh noise."""
    sampling = choose_sampling(scheduler, preset)
    if type(sampling.scheduler).__name__ != "DDIMScheduler" or sampling.eta:
        return None
    ddim, num_steps = sampling.scheduler, sampling.num_inference_steps
    ddim.set_timesteps(num_steps)
    hop = ddim.config.num_train_timesteps // num_steps
    shares = ddim.alphas_cumprod.to(torch.float64)
    return [
        {
            "time": time,
            "share": float(shares[time]),
            "next_share": float(shares[time - hop] if time >= hop else ddim.final_alpha_cumprod),
        }
        for time in ddim.timesteps.tolist()
    ]
