"""The checkpoint of a command: what it can do, loading it, and the device that it goes to."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..records import BLINK_DIM, POSE_DIM

if TYPE_CHECKING:
    import torch

    from ..pipeline.pipeline_dawn import DAWNPipeline


def check_makes_motion(options: argparse.Namespace, checkpoint_does: bool) -> None:
    """Refuse a job whose head and eyes nothing moves.

    Args:
        options: The job, as the options of `dawn animate`.
        checkpoint_does: Whether its checkpoint makes head pose and blinks, see `makes_motion`.

    Raises:
        ValueError: Neither the checkpoint nor the job brings head pose and blinks.
    """
    from ..motion.direction import parts_of

    if not checkpoint_does and parts_of(options.motion) != {"head", "blinks"}:
        raise ValueError(
            f"`--checkpoint` {options.checkpoint} has no PBNet that makes head pose and blinks; give"
            " `--motion FILE`, a video or a track, or another checkpoint"
        )


def load_pipeline(options: argparse.Namespace) -> "DAWNPipeline":
    """Load checkpoint and adapter.

    Args:
        options: Those of `dawn animate` or `dawn batch`.

    Returns:
        The pipeline, on the CPU.

    Raises:
        ValueError: They cannot be loaded.
    """
    import torch

    from ..pipeline.pipeline_dawn import DAWNPipeline

    with _loading("--checkpoint", options.checkpoint):
        pipe = DAWNPipeline.from_pretrained(options.checkpoint, dtype=getattr(torch, options.dtype))
    if options.lora is not None:
        with _loading("--lora", options.lora):
            pipe.load_lora_weights(options.lora)
    return pipe


def makes_motion(checkpoint: str) -> bool:
    """Tell from the configs, without the weights, whether a checkpoint makes head pose and blinks.

    Args:
        checkpoint: Folder or Hub id.

    Returns:
        Whether it does; True where only its weights would tell.

    Raises:
        ValueError: It cannot be loaded.
    """
    from ..models.pbnet import NETWORK_STATES, PoseBlinkNet
    from ..pipeline.pipeline_dawn import DAWNPipeline

    with _loading("--checkpoint", checkpoint):
        if DAWNPipeline.load_config(checkpoint).get("pbnet", ("", ""))[1] is None:
            return False
        if not Path(checkpoint, "pbnet").is_dir():  # on the Hub, or broken
            return True
        networks = PoseBlinkNet.load_config(checkpoint, subfolder="pbnet").get("networks")
    return sum(NETWORK_STATES[networks].values()) == POSE_DIM + BLINK_DIM if networks in NETWORK_STATES else True


@contextmanager
def _loading(flag: str, place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # a damaged folder can raise anything: KeyError, SafetensorError, JSONDecodeError, ...
        where = "" if os.path.exists(place) else " is no folder here, and"
        raise ValueError(f"`{flag}` {place}{where} cannot be loaded: {str(error) or type(error).__name__}") from error


def choose_device(name: str | None) -> "torch.device":
    """Find the device that `--device` names.

    Args:
        name: Its name; None: a GPU if there is one.

    Returns:
        The device.

    Raises:
        ValueError: There is no such device.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"`--device` is {name!r}, must be a device of torch such as cpu, cuda or mps") from error
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise ValueError(f"`--device` is {name!r}, must be cpu, cuda, mps or xpu")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"`--device` is {name}, but torch finds {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("`--device` is mps, but torch finds no such device here")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`--device` is {name}, which torch cannot use here") from error
    return device
