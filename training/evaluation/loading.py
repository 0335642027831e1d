"""Load the pipeline that is evaluated, with another adapter, sampler or window."""

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sampling.scheduler_choice import make_scheduler
from diffusers_dawn.sampling.scheduler_training import training_config


def load_pipeline(
    name: str,
    device: torch.device,
    lora: str | None = None,
    scheduler: str | None = None,
    attention_window: int | str | None = None,
) -> DAWNPipeline:
    """Load what is evaluated.

    Args:
        name: Folder or Hub id of the pipeline.
        device: Where it runs.
        lora: Folder or Hub id of an adapter of its denoiser.
        scheduler: Another sampler, by name as `dawn animate` knows it.
        attention_window: So many frames see each other in time, both sides together as the paper counts; "none": all;
            None: as the denoiser's config says.

    Returns:
        The pipeline in float32.

    Raises:
        ValueError: One of them cannot be loaded, or the sampler cannot sample DAWN.
    """
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    # a damaged folder fails in any way: KeyError, SafetensorError, JSONDecodeError, ...
    try:
        pipe = DAWNPipeline.from_pretrained(name, dtype=torch.float32)
    except Exception as error:
        raise ValueError(f"`pipeline` {name} cannot be loaded: {str(error) or type(error).__name__}") from error
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        try:
            pipe.load_lora_weights(lora)
        except Exception as error:
            raise ValueError(f"`lora` {lora} cannot be loaded: {str(error) or type(error).__name__}") from error
    if scheduler is not None:
        pipe.scheduler = make_scheduler(scheduler, training_config(pipe.scheduler))
    if attention_window is not None:
        pipe.unet.register_to_config(temporal_window=None if attention_window == "none" else attention_window // 2)
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` is {device}, which torch cannot use here") from error
