"""The options of the `dawn` command, and their checks."""

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import __version__, demo_checkpoint
from ..sampling.presets import PRESETS
from ..sharing.portable_folder import LAYOUTS, WHOLE
from .words import square_of, weights_of

LARGEST_SEED = 2**63 - 1
# options whose names differ from the pipeline's arguments
OPTION_NAMES = {
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance-scale",
    "head_motion": "--head-motion",
    "height": "--size",
    "cache_interval": "--cache-interval",
    "interval": "--cache-interval",
    "motion": "--motion",
    "window_frames": "--window-frames",
    "window_overlap": "--window-overlap",
}
COMMANDS = ("animate", "batch", "studio", "compare", "convert", "init", "export-community", "export-onnx")
# options of `dawn animate` that choose and place the model, and hold for all jobs of a batch
MODEL_OPTIONS = ("checkpoint", "lora", "device", "dtype")
WRITTEN_FILES = ("output", "preview_while", "save_motion")
# options that need no value, and the word for "no", if there is one
SWITCHES = {"full_image": None, "label": None, "transparent": None, "crop": "--no-crop"}
LABEL = "AI generated"
# of `--enhance`: what needs no function of the user's
DETAIL = "detail"
DTYPES = ("float32", "bfloat16", "float16")


def command_parser(
    run: Mapping[str, Callable[[argparse.Namespace], None]],
    parser_class: type[argparse.ArgumentParser] = argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Build the command's parser.

    Args:
        run: What each command does, by its name.
        parser_class: The parser's class, which says what becomes of words that it does not understand.

    Returns:
        A parser whose options hold, as `run`, what the chosen command does.
    """
    parser = parser_class(prog="dawn", description="Turn a portrait and a speech recording into a talking video.")
    parser.add_argument("--version", action="version", version=f"dawn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "animate", run, "render a talking video")
    command.add_argument("--image", required=True, help="portrait: any picture with a face")
    command.add_argument("--audio", required=True, help="speech: any file with sound, also a video")
    command.add_argument(
        "--audio-track",
        type=int,
        metavar="N",
        help="number of the file's sound track, from 0 (default: the file's default track)",
    )
    command.add_argument(
        "--audio-channel",
        type=lambda word: int(word) if word.isdecimal() else word,
        default=0,
        metavar="N",
        help="channel with the speech: a number from 0, mix (all) or loudest (default: 0)",
    )
    command.add_argument(
        "--output",
        "-o",
        required=True,
        help="the video to write: .mp4, .mov, .webm, .gif, or a folder for frames (a name without a suffix)",
    )
    command.add_argument(
        "--preview-while",
        metavar="VIDEO",
        help="before the rest is rendered, write the first 2 seconds here, by the preset fast",
    )
    command.add_argument(
        "--preset", choices=tuple(PRESETS), help="sampler and steps: quality, balanced (default), fast"
    )
    command.add_argument(
        "--steps",
        type=int,
        help="denoising steps, instead of a preset (default with `--scheduler`: those of balanced)",
    )
    command.add_argument(
        "--scheduler", help="sampler: dawn, ddim, dpm++, unipc, euler, flow-euler, or a class of diffusers by name"
    )
    command.add_argument(
        "--cache-interval",
        type=int,
        default=1,
        help="run the full network every N steps and reuse deep features in between (default: 1)",
    )
    command.add_argument(
        "--guidance-scale",
        type=weights_of,
        metavar="W",
        help="weight of speech, pose and blinks, or of each: speech=2,blink=1.5; costs calls per step (default: the "
        "checkpoint's)",
    )
    command.add_argument("--seed", type=int, default=0, help="same seed, same video (default: 0)")
    command.add_argument(
        "--head-motion",
        type=float,
        default=1.0,
        metavar="S",
        help="factor of the head motion, from 0 (still, but blinking) to 2 (default: 1)",
    )
    command.add_argument("--pose-from", metavar="VIDEO", action=_Renamed, dest="motion", help=argparse.SUPPRESS)
    command.add_argument(
        "--motion",
        metavar="FILE_OR_TEXT",
        help="what the head does: a saved track (.npz, .json), a video whose face is followed, or a text (.txt, or as"
        " it is) such as 'nod twice at 1.5 s, then look left; blink rate 0.3', see docs/motion.md",
    )
    command.add_argument("--save-motion", metavar="FILE", help="also write head pose and blinks (.npz or .json)")
    command.add_argument("--full-image", action="store_true", help="put the animated square back into the picture")
    command.add_argument(
        "--transparent",
        action="store_true",
        help="cut the person out: .mov (ProRes 4444), .webm (VP9) or a folder of pictures, with opacity",
    )
    command.add_argument(
        "--background",
        metavar="IMAGE_OR_COLOUR",
        help="cut the person out and lay them over a picture, or a colour such as white or #00ff00",
    )
    command.add_argument(
        "--enhance",
        metavar="detail|MODULE:FUNCTION",
        help="detail: up to 4 times larger, or with `--full-image` as sharp as the picture, by the portrait's own"
        " pixels; or your own function on frames, see docs/enhance.md",
    )
    command.add_argument(
        "--label",
        nargs="?",
        const=LABEL,
        help=f"write this text into a corner of the frames (without text: {LABEL!r})",
    )
    command.add_argument("--label-font", metavar="FILE", help="font file for labels with letters that are not English")
    command.add_argument("--face-index", type=int, help="number of the face, from 0, the largest (default: 0)")
    command.add_argument(
        "--crop",
        nargs="?",
        const=True,
        type=square_of,
        metavar="LEFT,TOP,SIDE",
        help="crop around the face (default: only if needed), or to this square of the upright picture [px]",
    )
    command.add_argument("--no-crop", dest="crop", action="store_const", const=False, help="take the whole picture")
    command.add_argument("--size", type=int, help="width and height of the video (default: the model's)")
    command.add_argument(
        "--window-frames", type=int, help="frames denoised at once (default: all, if they fit in memory)"
    )
    command.add_argument(
        "--window-overlap", type=int, default=40, help="frames that neighbouring windows share (default: 40)"
    )

    _add_model_options(command)

    command = _command(commands, "batch", run, "render many talking videos over one model load")
    command.add_argument(
        "jobs",
        help="one JSON object per line: the options of `dawn animate` by name, such as"
        ' {"image": "a.png", "audio": "a.wav", "output": "a.mp4"}, see docs/batch.md',
    )
    command.add_argument(
        "--output", "-o", required=True, metavar="FOLDER", help="folder for the videos and report.csv"
    )
    _add_model_options(command)

    command = _command(commands, "studio", run, "open a page in the browser that renders talking videos")
    command.add_argument("--host", help="address to listen at (default: 127.0.0.1, for this machine only)")
    command.add_argument("--port", type=int, help="port to listen at (default: the first free one from 7860)")
    command.add_argument("--max-seconds", type=float, metavar="S", help="longest recording (default: any)")
    command.add_argument("--max-size", type=int, metavar="PX", help="largest width of a video (default: any)")
    command.add_argument("--mcp", action="store_true", help="also serve the page's functions to agents (MCP)")
    _add_model_options(command)

    command = _command(commands, "compare", run, "say which differences between two evaluations are more than chance")
    command.add_argument("first", metavar="A", help="folder that training/evaluate.py wrote, or its report.json")
    command.add_argument("second", metavar="B", help="another one, of the same clips")

    command = _command(commands, "convert", run, "turn published checkpoints into a saved pipeline")
    command.add_argument("--dawn", required=True, help="DAWN_128.pth or DAWN_256.pth")
    command.add_argument("--lfg", required=True, help="LFG_128_1000ep.pth or LFG_256_400ep.pth")
    command.add_argument("--pbnet-pose", help="folder of the pose network: one *.pth.tar and opt.yaml")
    command.add_argument("--pbnet-blink", help="folder of the blink network")
    command.add_argument(
        "--hubert", default="facebook/hubert-large-ls960-ft", help="folder or Hub id of the audio encoder"
    )
    command.add_argument(
        "--size", type=int, choices=(128, 256), help="size of the video (default: from the file names)"
    )
    command.add_argument("--full", action="store_true", help="keep what only training needs")
    _add_saved_form(command)

    command = _command(commands, "init", run, "make a pipeline with random weights")
    command.add_argument(
        "--size",
        choices=("tiny", "128", "256"),
        default="tiny",
        help="of the video [px]; tiny: 64, with small networks (default: tiny)",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    _add_saved_form(command)

    command = _command(commands, "export-community", run, "write the file for diffusers' examples/community")
    command.add_argument(
        "output", help="the file to write, such as dawn.py; the lines for the README are written beside it"
    )

    command = _command(commands, "export-onnx", run, "write the networks as ONNX graphs, which run without torch")
    command.add_argument("output", metavar="DIR", help="new folder for the graphs and their description")
    _add_checkpoint(command)
    command.set_defaults(lora=None, dtype="float32")
    return parser


class _Renamed(argparse.Action):
    """Refuse an option's old name, and say its new one."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, values: object, option: str | None = None) -> None:
        parser.error(f"`{option}` is now `--{self.dest.replace('_', '-')}`")


def _add_saved_form(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--layout",
        choices=LAYOUTS,
        default=WHOLE,
        help="whole: with the pipeline's code (default); weights: without it, for `custom_pipeline`",
    )
    command.add_argument("--output", "-o", required=True, help="new folder for the pipeline")


def _command(
    commands: argparse._SubParsersAction, name: str, run: Mapping[str, Callable], summary: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    command.set_defaults(run=run[name])
    return command


def _add_model_options(command: argparse.ArgumentParser) -> None:
    """Add `MODEL_OPTIONS`."""
    _add_checkpoint(command)
    command.add_argument("--lora", metavar="FOLDER_OR_ID", help="LoRA adapter for the checkpoint's denoiser")
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps, ... (default: a GPU if there is one)")
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default: float32)")


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checkpoint",
        default=demo_checkpoint(),
        help="folder or Hub id of a saved pipeline (default: dawn-open, which ships: 256 px)",
    )


def check_options(options: argparse.Namespace) -> None:
    """Refuse options of `dawn animate` that cannot be followed, before anything is loaded.

    Args:
        options: The parsed options.

    Raises:
        ValueError: An option is out of range, names no file, or contradicts another.
    """
    from ..media.enhancers import read_enhancer
    from ..media.frame_label import label_text
    from ..media.sound_timeline import check_channel
    from ..motion.reading import track_files_of

    check_channel(options.audio_channel, "--audio-channel")
    if options.preset is not None and (options.steps, options.scheduler) != (None, None):
        raise ValueError("`--preset` has its own sampler and steps; give either it, or `--steps` and `--scheduler`")
    if not 0 <= options.seed <= LARGEST_SEED:
        raise ValueError(f"`--seed` is {options.seed}, must be from 0 to {LARGEST_SEED}")
    own_motion = [options.motion] if isinstance(options.motion, str | os.PathLike) else []
    with naming_options():
        _check_request(options)
        _check_motion(options)
    if options.label is not None:
        label_text(options.label, options.label_font)
    elif options.label_font is not None:
        raise ValueError("`--label-font` needs `--label`")
    check_model_options(options)
    _check_background(options)
    if options.enhance not in (None, DETAIL):
        read_enhancer(options.enhance, "--enhance")
    driving = [("motion", file) for file in (*own_motion, *track_files_of(options.motion))]
    behind = [] if options.background is None else [("background", options.background)]
    read = [("image", options.image), ("audio", options.audio), *driving, *behind]
    writes = [(name.replace("_", "-"), getattr(options, name)) for name in WRITTEN_FILES]
    for flag, place in writes:
        for other, given in [*read, *writes] if place is not None else ():
            if other != flag and given is not None and (what := _overwritten(place, given)):
                raise ValueError(f"`--{flag}` is {what} given as `--{other}`; it would be overwritten")


def _overwritten(place: str | os.PathLike, given: str | os.PathLike) -> str | None:
    """Say in words that a file is what will be written at a place, or lies in the folder that will be."""
    try:
        target, source = (Path(os.path.realpath(path)) for path in (place, given))
    except ValueError:  # a zero in the name, which is refused where it is read
        return None
    if target == source or (os.path.exists(place) and os.path.exists(given) and os.path.samefile(place, given)):
        return "the file"
    return "the folder of the file" if target in source.parents else None


def check_model_options(options: argparse.Namespace) -> None:
    """Refuse a model that cannot be found, or a precision that there is not.

    Args:
        options: Those of `dawn animate` or `dawn batch`.

    Raises:
        ValueError: An option is not allowed.
    """
    _check_place("--checkpoint", options.checkpoint)
    if options.lora is not None:
        _check_place("--lora", options.lora)
    if options.dtype not in DTYPES:
        raise ValueError(f"`--dtype` is {options.dtype!r}, must be one of {', '.join(DTYPES)}")


@contextmanager
def naming_options() -> Iterator[None]:
    """Make the pipeline's error messages name the command's options."""
    try:
        yield
    except ValueError as error:
        message = re.sub(r"`(\w+)`", lambda match: f"`{OPTION_NAMES.get(match[1], match[1])}`", str(error))
        raise ValueError(message) from error


def _check_request(options: argparse.Namespace) -> None:
    """Refuse what no pipeline can render; the checkpoint's own limits are checked once it is loaded."""
    from ..pipeline.request import MachineSettings, RenderRequest

    machine = MachineSettings(
        window_frames=options.window_frames,
        window_overlap=options.window_overlap,
        cache_interval=options.cache_interval,
    )
    request = RenderRequest(
        height=1 if options.size is None else options.size,
        width=1 if options.size is None else options.size,
        num_inference_steps=1 if options.steps is None else options.steps,
        guidance_scale=1.0 if options.guidance_scale is None else options.guidance_scale,
        machine=machine,
    )
    request.check()


def _check_motion(options: argparse.Namespace) -> None:
    """Understand what `--motion` says, which stays in the options; its files are looked at with the recording."""
    from ..motion.direction import check_head_motion
    from ..motion.reading import open_motion
    from ..motion.track_files import check_track_place

    if options.motion is not None:
        options.motion = open_motion(options.motion, "--motion")
    check_head_motion(options.head_motion)
    if options.save_motion is not None:
        check_track_place(options.save_motion, "--save-motion")


def _check_background(options: argparse.Namespace) -> None:
    from ..media.backgrounds import read_background

    if options.background is None:
        return
    if options.transparent:
        raise ValueError("`--background` fills what `--transparent` leaves free; give only one of them")
    read_background(options.background, 1, 1, "--background")


def _check_place(flag: str, given: str) -> None:
    """Refuse what is neither a folder nor a valid id on the Hub."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if os.path.isdir(given):
        return
    if os.path.exists(given):
        raise ValueError(f"`{flag}` is the file {given}, must be a folder or an id on the Hub")
    try:
        validate_repo_id(given)
    except HFValidationError as error:
        raise ValueError(f"`{flag}` is {given}, must be a folder or an id on the Hub") from error
