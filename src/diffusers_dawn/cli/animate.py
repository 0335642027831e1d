"""`dawn animate`: a talking video from a portrait and a recording."""

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import demo_checkpoint
from ..machine.stage_timer import timed
from ..records import BLINK_DIM, FPS, POSE_DIM, Portrait, SquareCrop
from .messages import quiet_libraries, say
from .options import check_driving_video, check_options, choose_device, naming_options

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..pipeline.pipeline_dawn import DAWNPipeline
    from ..pipeline.request import RenderPlan


def animate(options: argparse.Namespace) -> None:
    """Render a talking video from a portrait and a recording; see `dawn animate --help`.

    Args:
        options: The parsed options.
    """
    import numpy as np

    from ..face.crop import paste_each
    from ..media.frame_label import FrameLabel
    from ..media.pictures import read_image
    from ..media.recordings import read_waveform
    from ..media.video_writer import SYNTHETIC_COMMENT, VideoWriter, check_frame_size, check_output_path
    from ..speech.features import num_video_frames

    # what can be refused without the model is refused before it is loaded
    output = Path(options.output)
    check_output_path(output)
    check_options(options)
    device = choose_device(options.device)
    waveform = read_waveform(
        options.audio,
        channel=options.audio_channel,
        track=options.audio_track,
        choice_names=("--audio-channel", "--audio-track"),
    )
    num_frames = num_video_frames(len(waveform.samples), waveform.sample_rate_hz)
    if options.pose_from is not None:
        check_driving_video(options.pose_from, num_frames)
    picture = read_image(options.image)
    if options.full_image:
        check_frame_size(*picture.shape[:2], name="--full-image")
    _say_channels(options.audio, options.audio_channel, options.audio_track)

    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        pipe = _load_pipeline(options).to(device)
    size = _choose_size(options, pipe)
    steps = _choose_steps(options, pipe)
    settings = {"height": size, "width": size, "output_type": "stream", "preset": options.preset}
    settings |= {"num_inference_steps": steps, "guidance_scale": options.guidance_scale}
    with naming_options():
        pipe.enable_windows(options.window_frames, options.window_overlap)
        pipe.enable_step_cache(options.cache_interval)
    # one decision: the call, which comes after the face and another video were read, plans by the same number
    budget = pipe.available_memory()
    held_bytes = _bytes_of_full_image(picture, num_frames) if options.full_image else 0
    if held_bytes and not _shares_memory(device):
        _check_beside_gpu(held_bytes)
        held_bytes = 0
    pipe.set_memory_budget(budget)
    plan = _plan(pipe, num_frames, settings, held_bytes)
    pipe.set_memory_budget(None if budget is None else budget - held_bytes)
    label = None
    if options.label is not None:
        label_size = picture.shape[:2] if options.full_image else (size, size)
        label = FrameLabel(options.label, *label_size, font=options.label_font)
    with timed(seconds, "face"):
        portrait = pipe.prepare_portrait(picture, face_index=options.face_index, crop=options.crop)
    picture = np.ascontiguousarray(np.rot90(picture, portrait.quarter_turns))
    if label is not None and options.full_image:
        label = FrameLabel(options.label, *picture.shape[:2], font=options.label_font)
    _say_face(portrait)
    say(f"{num_frames} frames at {size}x{size}, {num_frames / FPS:.2f} s; {_described(plan)}, seed {options.seed}")
    motion = {} if options.head_motion == 1.0 else {"head_motion": options.head_motion}
    if options.pose_from is not None:
        with timed(seconds, "driving video"):
            motion |= _driving_tracks(options.pose_from, pipe, portrait, num_frames)

    talk = pipe(
        portrait,
        waveform,
        **motion,
        **settings,
        num_frames=num_frames,
        generator=_generator(options.seed),
    )
    seconds |= pipe.stage_seconds
    # a folder's name, not where it lies: the video goes to other people
    model = Path(options.checkpoint).resolve().name if Path(options.checkpoint).exists() else options.checkpoint
    metadata = {"comment": f"{SYNTHETIC_COMMENT} with {model}, seed {options.seed}"}
    frames = (frame for piece in talk.frames[0] for frame in piece)
    if options.full_image:
        frames = paste_each(picture, frames, portrait.crop or SquareCrop(0, 0, len(picture)))
    with timed(seconds, "frames"), VideoWriter(output, waveform=waveform, metadata=metadata) as writer:
        for frame in _with_progress(pipe, frames, num_frames):
            writer.write(frame[None] if label is None else label.draw(frame[None]))
    say("seconds: " + ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items()))
    say(f"wrote {output}")


def _say_face(portrait: Portrait) -> None:
    face, crop = portrait.face, portrait.crop
    x_min, x_max, y_min, y_max = face.box_px
    offset = (0, 0) if crop is None else (crop.left, crop.top)
    place = "the whole picture" if crop is None else f"the square of {crop.side} px at {crop.left}, {crop.top}"
    others = "" if face.num_faces == 1 else f" (1 of {face.num_faces}; --face-index chooses)"
    say(
        f"face{others}: {x_max - x_min:.0f}x{y_max - y_min:.0f} px at {x_min + offset[0]:.0f}, "
        f"{y_min + offset[1]:.0f}; yaw {face.pose[0]:.0f}, pitch {face.pose[1]:.0f}, roll {face.pose[2]:.0f} degrees; "
        f"animating {place}"
    )


def _say_channels(audio: str, channel: int | str, track: int | None) -> None:
    from ..media.recordings import read_sound_layout

    if not Path(audio).is_file():  # a pipe can be read only once
        return
    num_channels = read_sound_layout(audio, track=track).num_channels
    if num_channels > 1:
        heard = {0: "the first", "mix": "the mean", "loudest": "the loudest"}.get(channel, f"number {channel}")
        say(f"sound: {heard} of {num_channels} channels is heard (--audio-channel takes another, mix or loudest)")


def _choose_size(options: argparse.Namespace, pipe: "DAWNPipeline") -> int:
    multiple = pipe.unet.size_multiple * pipe.lfg.config.motion_stride
    size = pipe.default_size if options.size is None else options.size
    if size % multiple:
        raise ValueError(f"`--size` is {size}, must be a multiple of {multiple} with this checkpoint")
    return size


def _choose_steps(options: argparse.Namespace, pipe: "DAWNPipeline") -> int | None:
    """Give the pipeline the sampler that is asked for by name; returns the steps, None where a preset has them."""
    from ..sampling.presets import DEFAULT_PRESET, presets_of
    from ..sampling.scheduler_choice import make_scheduler
    from ..sampling.scheduler_training import training_config

    if options.scheduler is None:
        return options.steps
    pipe.scheduler = make_scheduler(options.scheduler, training_config(pipe.scheduler))
    # a sampler by name is not a preset, also where it is that of the checkpoint
    return presets_of(pipe.scheduler)[DEFAULT_PRESET].num_inference_steps if options.steps is None else options.steps


def _plan(pipe: "DAWNPipeline", num_frames: int, settings: dict[str, Any], held_bytes: int) -> "RenderPlan":
    """Refuse what cannot be rendered, or does not fit in the memory beside what the command itself holds."""
    with naming_options():
        try:
            plan = pipe.plan(num_frames, **settings, held_bytes=held_bytes)
        except ValueError as error:
            if held_bytes and str(error).startswith("`num_frames`"):
                raise ValueError(f"{error}; `--full-image` takes {held_bytes / 2**30:.1f} GiB of it") from error
            raise
    return plan


def _described(plan: "RenderPlan") -> str:
    """Say by what, and how many frames at a time, a plan denoises, and what it needs."""
    request, windows = plan.request, plan.windows.slices
    steps = f"{request.num_inference_steps} step{'s' * (request.num_inference_steps > 1)}"
    mode = "one pass" if len(windows) == 1 else f"{len(windows)} overlapping windows of {windows[0].stop} frames"
    return f"{steps} of {type(request.scheduler).__name__}; {mode}, about {plan.num_bytes / 2**30:.1f} GiB of memory"


def _bytes_of_full_image(picture: "np.ndarray", num_frames: int) -> int:
    from ..face.crop import PASTE_BYTES_PER_PX
    from ..media.video_writer import writer_bytes

    height, width = picture.shape[:2]
    # a label makes another copy
    return (PASTE_BYTES_PER_PX + 3) * height * width + writer_bytes(height, width, num_frames)


def _shares_memory(device: "torch.device") -> bool:
    """Tell whether a device works in the memory of the process."""
    return device.type in ("cpu", "mps")


def _check_beside_gpu(held_bytes: int) -> None:
    """Refuse what the process must hold beside a GPU with a memory of its own."""
    import torch

    from ..memory.budget import available_bytes

    available = available_bytes(torch.device("cpu"), ())
    if available is not None and held_bytes > available:
        raise ValueError(
            f"`--full-image` needs {held_bytes / 2**30:.1f} GiB of memory beside the GPU for a picture of this size;"
            f" there are {available / 2**30:.1f} GiB"
        )


def _generator(seed: int) -> "torch.Generator":
    import torch

    # on the CPU, so that every device gets the same noise
    return torch.Generator().manual_seed(seed)


def _load_pipeline(options: argparse.Namespace) -> "DAWNPipeline":
    import torch

    from ..pipeline.pipeline_dawn import DAWNPipeline

    quiet_libraries()
    if options.checkpoint == demo_checkpoint():
        say("checkpoint: dawn-demo, which ships and knows drawn faces only; --checkpoint takes another")
    with _loading("--checkpoint", options.checkpoint):
        makes_motion = _makes_motion(options.checkpoint)
    if not makes_motion and options.pose_from is None:
        raise ValueError(
            f"`--checkpoint` {options.checkpoint} has no PBNet that makes head pose and blinks; give"
            " `--pose-from VIDEO`, or another checkpoint"
        )
    with _loading("--checkpoint", options.checkpoint):
        pipe = DAWNPipeline.from_pretrained(options.checkpoint, dtype=getattr(torch, options.dtype))
    if options.lora is not None:
        with _loading("--lora", options.lora):
            pipe.load_lora_weights(options.lora)
    return pipe


def _makes_motion(checkpoint: str) -> bool:
    """Tell from the configs alone whether a checkpoint makes head pose and blinks."""
    from ..models.pbnet import NETWORK_STATES, PoseBlinkNet
    from ..pipeline.pipeline_dawn import DAWNPipeline

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
        # a damaged folder fails in any way: KeyError, SafetensorError, JSONDecodeError, ...
        where = "" if Path(place).exists() else " is no folder here, and"
        raise ValueError(f"`{flag}` {place}{where} cannot be loaded: {str(error) or type(error).__name__}") from error


def _driving_tracks(video: str, pipe: "DAWNPipeline", portrait: Portrait, num_frames: int) -> dict[str, Any]:
    from ..face.track import track_face, transfer_track
    from ..media.videos import stream_video

    frames = islice(stream_video(video, FPS, name="--pose-from"), num_frames)
    track = track_face(_with_progress(pipe, frames, num_frames), pipe.detect_faces, name="--pose-from")
    if track.missing:
        say(f"driving video: the face is missing in {len(track.missing)} frames, which are interpolated")
    pose, blink = transfer_track(track, portrait.face, num_frames, name="--pose-from")
    return {"pose": pose, "blink": blink}


def _with_progress(pipe: "DAWNPipeline", frames: Iterable["np.ndarray"], num_frames: int) -> Iterator["np.ndarray"]:
    with pipe.progress_bar(total=num_frames) as progress_bar:
        for frame in frames:
            yield frame
            progress_bar.update()
