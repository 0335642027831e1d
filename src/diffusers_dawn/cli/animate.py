"""`dawn animate`: a talking video from a portrait and a recording."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.stage_timer import timed
from ..records import FPS, FaceState, Portrait, SquareCrop, Waveform
from .checkpoint import check_makes_motion, choose_device, load_pipeline, makes_motion
from .finishing import HeldBytes, check_label, choose_detail_side, finished_frames, held_bytes
from .inputs import Inputs, keeps_opacity, read_inputs
from .messages import quiet_libraries, say
from .options import naming_options

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..motion.script import MotionScript
    from ..motion.track import MotionTrack
    from ..pipeline.pipeline_dawn import DAWNPipeline
    from ..pipeline.request import RenderPlan


def animate(options: argparse.Namespace) -> None:
    """Render a talking video from a portrait and a recording; see `dawn animate --help`.

    Args:
        options: The parsed options.
    """
    # refuse whatever does not need the model before it is loaded
    inputs = read_inputs(options)
    device = choose_device(options.device)
    _say_channels(options.audio, options.audio_channel, options.audio_track)
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        quiet_libraries()
        check_makes_motion(options, makes_motion(options.checkpoint))
        pipe = load_pipeline(options).to(device)
    say(f"computing {_described_device(device)}")
    if options.preview_while is not None:
        _render_beginning(options, inputs, pipe)
    render(options, inputs, pipe, seconds, say)


def render(
    options: argparse.Namespace,
    inputs: Inputs,
    pipe: "DAWNPipeline",
    seconds: dict[str, float],
    tell: Callable[[str], None],
    memory_share: int = 1,
    follow: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> None:
    """Render a job to its file.

    Args:
        options: The job, as the options of `dawn animate`.
        inputs: What `read_inputs` read for it.
        pipe: The pipeline, on its device; sampler and memory settings are left as the job needs them.
        seconds: Seconds by stage; changed.
        tell: Called with what is worth knowing.
        memory_share: How many processes share the free memory.
        follow: Called before the first step of the stage "denoising", after each, and after each frame of the stage
            "frames", with how many are done and how many there are. What it or `tell` raises ends the job, which then
            leaves no file.

    Raises:
        ValueError: The job cannot be rendered; the message says why.
        OSError: Writing fails.
    """
    import numpy as np

    from ..face.opacity import cut_out, upright_opacity
    from ..media.video_writer import SYNTHETIC_COMMENT, VideoWriter
    from ..motion.direction import with_head_motion
    from ..motion.track_files import save_track

    output, (waveform, picture, own_opacity, num_frames) = Path(options.output), inputs
    is_cut_out = options.background is not None or keeps_opacity(options, own_opacity)
    size = pipe.default_size if options.size is None else options.size
    steps = _choose_steps(options, pipe)
    settings = {"height": size, "width": size, "output_type": "stream", "preset": options.preset}
    settings |= {"num_inference_steps": steps, "guidance_scale": options.guidance_scale}
    with naming_options():
        pipe.enable_windows(options.window_frames, options.window_overlap)
        pipe.enable_step_cache(options.cache_interval)
    held = held_bytes(options, picture.shape[:2], size, num_frames, waveform.sample_rate_hz, is_cut_out)
    plan = _plan(pipe, num_frames, settings, held, memory_share)
    with timed(seconds, "face"):
        portrait = pipe.prepare_portrait(picture, face_index=options.face_index, crop=options.crop)
    picture = np.ascontiguousarray(np.rot90(picture, portrait.quarter_turns))
    if is_cut_out:
        with timed(seconds, "opacity"):
            opacity = upright_opacity(picture, own_opacity, portrait.quarter_turns, pipe.segment_person)
        portrait = cut_out(portrait, opacity, is_over_white=own_opacity is not None)
        tell(f"cut out by {'the person found in the picture' if own_opacity is None else 'its own opacity'}")
    side = choose_detail_side(options, portrait, size)
    check_label(options, picture.shape[:2], side or size)
    tell(_described_face(portrait))
    tell(f"{num_frames} frames at {size}x{size}, {num_frames / FPS:.2f} s; {_described(plan)}, seed {options.seed}")
    if side is not None:
        tell(f"enhanced to {side}x{side} by the portrait's own detail")
    motion = None
    if options.motion is not None:
        with timed(seconds, "motion"):
            motion = _read_motion(options.motion, pipe, waveform, num_frames)
    motion = with_head_motion(motion, options.head_motion)

    follow("denoising", 0, plan.request.num_inference_steps)
    with naming_options():
        talk = pipe(
            portrait,
            waveform,
            **settings,
            num_frames=num_frames,
            generator=_generator(options.seed),
            motion=motion,
            callback_on_step_end=lambda call, step, *_: follow("denoising", step + 1, call.num_timesteps),
        )
    seconds |= pipe.stage_seconds
    # only the folder's name, not its path: the video is shared with others
    model = Path(options.checkpoint).resolve().name if os.path.exists(options.checkpoint) else options.checkpoint
    metadata = {"comment": f"{SYNTHETIC_COMMENT} with {model}, seed {options.seed}"}
    if options.full_image and is_cut_out:
        picture = _with_opacity(picture, opacity, own_opacity is not None)
    frames = finished_frames(talk.frames[0], options, picture, portrait, side)
    with timed(seconds, "frames"), VideoWriter(output, waveform=waveform, metadata=metadata) as writer:
        for done, frame in enumerate(_with_progress(pipe, frames, num_frames), 1):
            writer.write(frame)
            follow("frames", done, num_frames)
    if options.save_motion is not None:
        save_track(talk.motion(), options.save_motion, "--save-motion")
        tell(f"wrote {options.save_motion}")
    tell("seconds: " + ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items()))
    tell(f"wrote {output}")


def _render_beginning(options: argparse.Namespace, inputs: Inputs, pipe: "DAWNPipeline") -> None:
    from .beginning import BEGINNING_PRESET, BEGINNING_S, beginning_of

    first, inputs = beginning_of(options, inputs, pipe)
    first.output, first.save_motion = options.preview_while, None
    render(first, inputs, pipe, {}, lambda line: None)
    say(
        f"wrote {first.output}: the first {BEGINNING_S:g} s by the preset {BEGINNING_PRESET}; the rest is rendered now"
    )


def _described_device(device: "torch.device") -> str:
    import torch

    if device.type != "cpu":
        return f"on {device}"
    num_threads = torch.get_num_threads()
    waiting = " that sleep while they wait" if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" else ""
    return f"on the CPU, {num_threads} thread{'s' * (num_threads > 1)}{waiting}"


def _described_face(portrait: Portrait) -> str:
    face, crop = portrait.face, portrait.crop
    x_min, x_max, y_min, y_max = face.box_px
    offset = (0, 0) if crop is None else (crop.left, crop.top)
    yaw, pitch, roll = map(round, face.pose[:3].tolist())  # without "-0"
    others = "" if face.num_faces == 1 else f" (1 of {face.num_faces}; --face-index chooses)"
    return (
        f"face{others}: {x_max - x_min:.0f}x{y_max - y_min:.0f} px at {x_min + offset[0]:.0f}, "
        f"{y_min + offset[1]:.0f}; yaw {yaw}, pitch {pitch}, roll {roll} degrees; "
        f"animating {describe_square(crop)}"
    )


def describe_square(crop: SquareCrop | None) -> str:
    """Say in words which part of a picture is animated; None: all of it."""
    return "the whole picture" if crop is None else f"the square of {crop.side} px at {crop.left}, {crop.top}"


def _say_channels(audio: str, channel: int | str, track: int | None) -> None:
    from ..media.recordings import read_sound_layout

    if not os.path.isfile(audio):  # a pipe can be read only once
        return
    num_channels = read_sound_layout(audio, track=track).num_channels
    if num_channels > 1:
        heard = {0: "the first", "mix": "the mean", "loudest": "the loudest"}.get(channel, f"number {channel}")
        say(
            f"sound: {heard} of {num_channels} channels is used"
            " (choose another with --audio-channel: a number, mix or loudest)"
        )


def _choose_steps(options: argparse.Namespace, pipe: "DAWNPipeline") -> int | None:
    """Give the pipeline the sampler of that name; return the steps, or None if a preset sets them."""
    from ..sampling.presets import DEFAULT_PRESET, presets_of
    from ..sampling.scheduler_choice import make_scheduler
    from ..sampling.scheduler_training import training_config

    if options.scheduler is None:
        return options.steps
    pipe.scheduler = make_scheduler(options.scheduler, training_config(pipe.scheduler))
    # a sampler given by name is not a preset, even if it is the checkpoint's own
    return presets_of(pipe.scheduler)[DEFAULT_PRESET].num_inference_steps if options.steps is None else options.steps


def _plan(
    pipe: "DAWNPipeline", num_frames: int, settings: dict[str, Any], held: HeldBytes, memory_share: int
) -> "RenderPlan":
    """Refuse what cannot be rendered, or does not fit in memory beside what the command itself holds."""
    # decide once: the later call, after reading the face and another video, must plan with the same number
    pipe.set_memory_budget(None)
    budget = pipe.available_memory()
    if budget is not None:
        budget //= memory_share
    held_bytes = held.on_device
    if _shares_memory(pipe.device):
        held_bytes += held.by_process
    elif held.by_process:
        _check_beside_gpu(held)
    pipe.set_memory_budget(budget)
    with naming_options():
        try:
            plan = pipe.plan(num_frames, **settings, held_bytes=held_bytes)
        except ValueError as error:
            if held_bytes and str(error).startswith("`num_frames`"):
                raise ValueError(f"{error}; {held.reasons} takes {held_bytes / 2**30:.1f} GiB of it") from error
            raise
    pipe.set_memory_budget(None if budget is None else budget - held_bytes)
    return plan


def _described(plan: "RenderPlan") -> str:
    """Describe a plan: sampler, frames per window and memory."""
    request, windows = plan.request, plan.windows.slices
    steps = f"{request.num_inference_steps} step{'s' * (request.num_inference_steps > 1)}"
    mode = "one pass" if len(windows) == 1 else f"{len(windows)} overlapping windows of {windows[0].stop} frames"
    return f"{steps} of {type(request.scheduler).__name__}; {mode}, about {plan.num_bytes / 2**30:.1f} GiB of memory"


def _with_opacity(picture: "np.ndarray", opacity: "np.ndarray", is_over_white: bool) -> "np.ndarray":
    """Join a picture and its opacity to (H, W, 4), without the white that shows through."""
    import numpy as np

    from ..media.backgrounds import colours_without_white

    if is_over_white:
        shares = opacity[..., None].astype(np.float32) / 255
        picture = np.rint(255 * colours_without_white(picture.astype(np.float32) / 255, shares)).astype(np.uint8)
    return np.dstack([picture, opacity])


def _shares_memory(device: "torch.device") -> bool:
    """Tell whether a device uses the process's own memory."""
    return device.type in ("cpu", "mps")


def _check_beside_gpu(held: HeldBytes) -> None:
    """Refuse what the process must hold beside a GPU with a memory of its own."""
    import torch

    from ..memory.budget import available_bytes

    available = available_bytes(torch.device("cpu"), ())
    if available is not None and held.by_process > available:
        raise ValueError(
            f"{held.reasons} needs {held.by_process / 2**30:.1f} GiB of memory beside the GPU for frames of this size;"
            f" there are {available / 2**30:.1f} GiB"
        )


def _generator(seed: int) -> "torch.Generator":
    import torch

    # on the CPU, so that every device gets the same noise
    return torch.Generator().manual_seed(seed)


def _read_motion(
    motion: "MotionTrack | MotionScript", pipe: "DAWNPipeline", waveform: Waveform, num_frames: int
) -> "MotionTrack | MotionScript":
    """Read the files that are named and find the words; of videos, which take a while, show how far it is."""
    from ..motion.reading import read_motion, videos_of

    with pipe.progress_bar(total=num_frames) if videos_of(motion) else nullcontext() as progress_bar:

        def detect(picture: "np.ndarray") -> list[FaceState]:
            progress_bar.update()
            return pipe.detect_faces(picture)

        return read_motion(motion, waveform, num_frames, detect, name="--motion")


def _with_progress(pipe: "DAWNPipeline", frames: Iterator["np.ndarray"], num_frames: int) -> Iterator["np.ndarray"]:
    with pipe.progress_bar(total=num_frames) as progress_bar:
        for frame in frames:
            yield frame
            progress_bar.update()
