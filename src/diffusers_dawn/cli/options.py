"""The options of the `dawn` command, and which of them are refused."""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, demo_checkpoint
from ..records import FPS
from ..sampling.presets import PRESETS

if TYPE_CHECKING:
    import torch

LARGEST_SEED = 2**63 - 1
# the steps of training that DAWN's checkpoints count; the pipeline asks its own scheduler
TRAINING_STEPS = 1000
# what the pipeline calls otherwise
OPTION_NAMES = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "head_motion": "--head-motion",
    "cache_interval": "--cache-interval",
    "interval": "--cache-interval",
    "window_frames": "--window-frames",
    "window_overlap": "--window-overlap",
}
LABEL = "AI generated"
DTYPES = ("float32", "bfloat16", "float16")


def command_parser(run: Mapping[str, Callable[[argparse.Namespace], None]]) -> argparse.ArgumentParser:
    """Say what the command takes.

    Args:
        run: What each command does, by its name.

    Returns:
        A parser whose options hold, as `run`, what the chosen command does.
    """
    parser = argparse.ArgumentParser(prog="dawn", description="Talking-head video from a portrait and a recording.")
    parser.add_argument("--version", action="version", version=f"dawn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "animate", run, "render a talking video")
    command.add_argument("--image", required=True, help="portrait: any picture with a face")
    command.add_argument("--audio", required=True, help="speech: any file with sound, also a video")
    command.add_argument(
        "--audio-track", type=int, metavar="N", help="sound track of the file, from 0 (default: its default one)"
    )
    command.add_argument(
        "--audio-channel",
        type=lambda word: int(word) if word.isdecimal() else word,
        default=0,
        metavar="N",
        help="channel that speaks, from 0; mix: all; loudest: the one with the most sound (default: 0)",
    )
    command.add_argument("--output", "-o", required=True, help="the video to write, .mp4 or .mov")
    command.add_argument(
        "--checkpoint",
        default=demo_checkpoint(),
        help="folder or Hub id of a saved pipeline (default: dawn-demo, which ships: 128 px, for drawn faces)",
    )
    command.add_argument("--lora", metavar="FOLDER_OR_ID", help="adapter for the checkpoint's denoiser (LoRA)")
    command.add_argument(
        "--preset", choices=tuple(PRESETS), help="sampler and steps: quality, balanced (default), fast"
    )
    command.add_argument(
        "--steps", type=int, help="denoising steps, instead of a preset; of `--scheduler` by default as balanced"
    )
    command.add_argument("--scheduler", help="sampler: dawn, ddim, dpm++, unipc, euler, ... or a class of diffusers")
    command.add_argument(
        "--cache-interval", type=int, default=1, help="run the full network every N steps, reuse deep features between"
    )
    command.add_argument("--guidance-scale", type=float, default=1.0, help="weight of the speech (default: 1)")
    command.add_argument("--seed", type=int, default=0, help="same seed, same video (default: 0)")
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: a GPU if there is one)")
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default: float32)")
    command.add_argument(
        "--head-motion",
        type=float,
        default=1.0,
        metavar="S",
        help="how much the head moves: 0 (still, but blinking) to 2 (default: 1)",
    )
    command.add_argument("--pose-from", metavar="VIDEO", help="take head pose and blinks from this video's face")
    command.add_argument("--full-image", action="store_true", help="put the animated square back into the picture")
    command.add_argument(
        "--label", nargs="?", const=LABEL, help=f"write this into the frames' corner (without text: {LABEL!r})"
    )
    command.add_argument("--label-font", metavar="FILE", help="font of the label, where its letters are not English")
    command.add_argument("--face-index", type=int, help="which face, 0 is the largest (default)")
    command.add_argument(
        "--crop", action=argparse.BooleanOptionalAction, help="crop around the face (default: when it is needed)"
    )
    command.add_argument("--size", type=int, help="width and height of the video (default: the model's)")
    command.add_argument(
        "--window-frames", type=int, help="frames denoised at once (default: all where they fit in the memory)"
    )
    command.add_argument(
        "--window-overlap", type=int, default=40, help="frames that neighbouring windows share (default: 40)"
    )

    command = _command(commands, "convert", run, "turn published checkpoints into a saved pipeline")
    command.add_argument("--dawn", required=True, help="DAWN_128.pth or DAWN_256.pth")
    command.add_argument("--lfg", required=True, help="LFG_128_1000ep.pth or LFG_256_400ep.pth")
    command.add_argument("--pbnet-pose", help="folder of the pose network: one *.pth.tar and opt.yaml")
    command.add_argument("--pbnet-blink", help="folder of the blink network")
    command.add_argument("--hubert", default="facebook/hubert-large-ls960-ft", help="folder or Hub id")
    command.add_argument("--size", type=int, choices=(128, 256), help="size of the video (default: from file names)")
    command.add_argument("--full", action="store_true", help="keep what only training needs")
    command.add_argument("--output", "-o", required=True, help="new folder for the pipeline")

    command = _command(commands, "init", run, "make a pipeline with random weights")
    command.add_argument("--size", choices=("tiny", "128", "256"), default="tiny", help="(default: tiny)")
    command.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    command.add_argument("--output", "-o", required=True, help="new folder for the pipeline")

    command = _command(commands, "export-community", run, "write the file for diffusers' examples/community")
    command.add_argument("output", help="the file to write, such as dawn.py; its README lines go beside it")
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, run: Mapping[str, Callable], summary: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(run=run[name])
    return command


def check_options(options: argparse.Namespace) -> None:
    """Refuse options of `dawn animate` that cannot be followed, before anything is loaded.

    Args:
        options: The parsed options.

    Raises:
        ValueError: An option is out of range, names no file, or contradicts another.
    """
    from ..media.frame_label import label_text
    from ..media.sound_timeline import check_channel

    check_channel(options.audio_channel, "--audio-channel")
    if options.preset is not None and (options.steps, options.scheduler) != (None, None):
        raise ValueError("`--preset` has its own sampler and steps; leave out `--steps` and `--scheduler`, or it")
    if not 0 <= options.seed <= LARGEST_SEED:
        raise ValueError(f"`--seed` is {options.seed}, must be from 0 to {LARGEST_SEED}")
    if options.size is not None and options.size < 1:
        raise ValueError(f"`--size` is {options.size}, must be positive")
    with naming_options():
        _check_request(options)
    if options.label is not None:
        label_text(options.label, options.label_font)
    elif options.label_font is not None:
        raise ValueError("`--label-font` is of use with `--label` only")
    _check_place("--checkpoint", options.checkpoint)
    if options.lora is not None:
        _check_place("--lora", options.lora)
    for name in ("image", "audio", "pose_from"):
        given, flag = getattr(options, name), name.replace("_", "-")
        if given is None:
            continue
        if name == "pose_from" and not Path(given).is_file():
            raise ValueError(f"`--{flag}` is not a file: {given}")
        if Path(options.output).exists() and Path(given).exists() and Path(options.output).samefile(given):
            raise ValueError(f"`--output` is the file given as `--{flag}`; it would be overwritten")


def check_driving_video(video: str, num_frames: int) -> None:
    """Refuse a video of `--pose-from` that is shorter than the recording, without decoding it.

    Args:
        video: The file.
        num_frames: Frames of the recording.

    Raises:
        ValueError: It is shorter, or cannot be read.
    """
    from ..face.track import check_track_length
    from ..media.videos import count_video_frames

    check_track_length(count_video_frames(video, FPS, name="--pose-from"), num_frames, name="--pose-from")


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


@contextmanager
def naming_options() -> Iterator[None]:
    """Let refusals of the pipeline name the command's options."""
    try:
        yield
    except ValueError as error:
        message = re.sub(r"`(\w+)`", lambda match: f"`{OPTION_NAMES.get(match[1], match[1])}`", str(error))
        raise ValueError(message) from error


def _check_request(options: argparse.Namespace) -> None:
    """Refuse what no pipeline can render; the checkpoint's own limits are asked when it is loaded."""
    from ..pipeline.request import MachineSettings, RenderRequest

    machine = MachineSettings(
        window_frames=options.window_frames,
        window_overlap=options.window_overlap,
        cache_interval=options.cache_interval,
    )
    request = RenderRequest(
        height=1,
        width=1,
        num_inference_steps=1 if options.steps is None else options.steps,
        guidance_scale=options.guidance_scale,
        head_motion=options.head_motion,
        machine=machine,
    )
    request.check(size_multiple=1, most_steps=TRAINING_STEPS - 1)


def _check_place(flag: str, given: str) -> None:
    """Refuse what is neither a folder nor may be an id on the Hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if Path(given).is_dir():
        return
    if Path(given).exists():
        raise ValueError(f"`{flag}` is a file, must be a folder or an id on the Hub: {given}")
    try:
        validate_repo_id(given)
    except HFValidationError as error:
        raise ValueError(f"`{flag}` is no folder, nor an id on the Hub: {given}") from error
