"""Arguments of a pipeline call, sorted into one record per clip."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..media.recordings import read_waveform
from ..motion.direction import Direction, motion_of_call
from ..motion.script import MotionScript
from ..motion.track import LARGEST_NUMBER, MotionTrack
from ..ranges import is_whole_number
from ..records import BLINK_DIM, POSE_DIM, FaceState, Portrait, Waveform
from ..speech.features import num_video_frames
from .finite_numbers import check_given

MOST_VIDEOS_PER_PROMPT = 1000
# where a call's user chooses what of a file is heard
CHOICE_NAMES = ("read_waveform(channel=...)", "read_waveform(track=...)")


@dataclass(frozen=True)
class ClipInput:
    """What a call says about one clip.

    Attributes:
        image: Whatever `DAWNPipeline.prepare_portrait` takes.
        audio: Whatever `recordings.read_waveform` takes; None with `audio_embeds`.
        sampling_rate: Rate of an audio array [Hz].
        face: State of the portrait's face, when it is known.
        pose: Pose per frame (F, 6), when it is given.
        blink: Eye openness per frame (F, 2), when it is given.
        audio_embeds: Speech features (F, D), when they are given.
        motion: What is said about its motion otherwise.
        direction: What that means for this clip, see `direct_clips`.
    """

    image: Any
    audio: Any = None
    sampling_rate: int | None = None
    face: FaceState | None = None
    pose: torch.Tensor | None = None
    blink: torch.Tensor | None = None
    audio_embeds: torch.Tensor | None = None
    motion: MotionTrack | MotionScript | None = None
    direction: Direction = Direction()


def collect_clips(
    image: Any,
    audio: Any,
    sampling_rate: int | list[int] | None = None,
    face: FaceState | list[FaceState] | None = None,
    pose: Any = None,
    blink: Any = None,
    audio_embeds: Any = None,
    num_videos_per_prompt: int = 1,
    motion: Any = None,
) -> list[ClipInput]:
    """Sort the arguments of a call into clips: lists are batches, a single value serves every clip of a batch.

    Args:
        image: One picture or a list; arrays and tensors of four axes are batches.
        audio: One recording or a list; a tuple is (array, rate); None with `audio_embeds`.
        sampling_rate: Rate of audio arrays [Hz], one or a list.
        face: One state or a list.
        pose: Array (F, 6) or (B, F, 6), or a list of the former.
        blink: Array (F, 2) or (B, F, 2), or a list of the former.
        audio_embeds: Features (F, D) or (B, F, D), or a list of the former.
        num_videos_per_prompt: How many clips of each.
        motion: What `motion.direction.motion_of_call` takes, or a list.

    Returns:
        The clips, those of one prompt next to each other.

    Raises:
        ValueError: Something is missing, of the wrong shape, or lists differ in length; one array of samples with two
            axes is given to several pictures, which may be channels or a batch.
    """
    if image is None:
        raise ValueError("`image` is missing: a path, PIL image, array or tensor, or a list of them")
    if (audio is None) == (audio_embeds is None):
        raise ValueError("give either `audio` or `audio_embeds`")
    if not is_whole_number(num_videos_per_prompt) or not 1 <= num_videos_per_prompt <= MOST_VIDEOS_PER_PROMPT:
        raise ValueError(
            f"`num_videos_per_prompt` is {num_videos_per_prompt!r}, must be a whole number from 1 to"
            f" {MOST_VIDEOS_PER_PROMPT}"
        )
    columns = {
        "image": batch_of(image, 4),
        "audio": batch_of(audio, 3),
        "sampling_rate": batch_of(sampling_rate, 1),
        "face": batch_of(face, None),
        "pose": tracks_of("pose", pose, POSE_DIM),
        "blink": tracks_of("blink", blink, BLINK_DIM),
        "audio_embeds": tracks_of("audio_embeds", audio_embeds, None),
        "motion": [None if one is None else motion_of_call(one) for one in batch_of(motion, None)],
    }
    for name, values in (("image", columns["image"]), ("audio", columns["audio"])):
        if any(value is None for value in values) and (name == "image" or audio is not None):
            raise ValueError(f"`{name}` is a list that holds None; every clip needs one")
    for state in columns["face"]:
        if state is not None and not isinstance(state, FaceState | dict):
            raise ValueError(f"`face` is {state!r}, must be a `FaceState`, a dict of its fields, or a list of them")
    if len(columns["image"]) > 1 and len(columns["audio"]) == 1:
        _refuse_batch_of_samples(columns["audio"][0], len(columns["image"]))
    lengths = {name: len(values) for name, values in columns.items() if len(values) != 1}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        given = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise ValueError(f"batches must be equally long and not empty: {given}")
    size = max(lengths.values(), default=1)
    rows = zip(*(values * size if len(values) == 1 else values for values in columns.values()), strict=True)
    clips = [ClipInput(**dict(zip(columns, row, strict=True))) for row in rows]
    return [clip for clip in clips for _ in range(num_videos_per_prompt)]


def prepare_clips(clips: list[ClipInput], prepare_portrait: Callable[[ClipInput], Portrait]) -> list[ClipInput]:
    """Read the pictures and recordings of clips, once for clips of one prompt, which follow each other.

    Args:
        clips: The clips.
        prepare_portrait: Turns a clip's picture into a portrait.

    Returns:
        Clips whose image is a `Portrait` and whose audio is a `Waveform` or None.
    """
    prepared: list[ClipInput] = []
    previous: ClipInput | None = None
    for clip in clips:
        if previous is not None and previous.image is clip.image and previous.face is clip.face:
            portrait = prepared[-1].image
        else:
            portrait = prepare_portrait(clip)
        same_audio = previous is not None and previous.audio is clip.audio
        if same_audio and previous.sampling_rate == clip.sampling_rate:
            waveform = prepared[-1].audio
        else:
            waveform = None if clip.audio is None else read_recording(clip.audio, clip.sampling_rate)
        prepared.append(replace(clip, image=portrait, audio=waveform, sampling_rate=None, face=None))
        previous = clip
    return prepared


def read_recording(audio: Any, sampling_rate: int | None = None) -> Waveform:
    """Read a recording from whatever a call may give.

    Args:
        audio: Path, bytes, array, tensor, (array, rate) or `Waveform`.
        sampling_rate: Rate of an array or tensor [Hz].

    Returns:
        The recording.

    Raises:
        ValueError: It cannot be used, or an array comes without its rate.
    """
    if isinstance(audio, np.ndarray | torch.Tensor) and sampling_rate is None:
        raise ValueError("`sampling_rate` is missing: an `audio` array or tensor needs its rate [Hz]")
    given_rate = None if isinstance(audio, Waveform) else sampling_rate
    return read_waveform(audio, given_rate, rate_name="sampling_rate", choice_names=CHOICE_NAMES)


def generators_of(generator: Any, num_clips: int) -> torch.Generator | list[torch.Generator] | None:
    """Tidy the sources of noise, and refuse those that do not suit the clips.

    Args:
        generator: One generator, or one per clip; None: torch's own.
        num_clips: Number of clips.

    Returns:
        The same, with a list for a tuple.

    Raises:
        ValueError: It is something else, such as a seed, or there is another number of them.
    """
    several = list(generator) if isinstance(generator, list | tuple) else None
    for source in [generator] if several is None else several:
        if not (isinstance(source, torch.Generator) or (source is None and several is None)):
            raise ValueError(
                f"`generator` is {generator!r}, must be a torch.Generator, such as torch.Generator().manual_seed(0),"
                " or a list of one per clip"
            )
    if several is not None and len(several) != num_clips:
        raise ValueError(f"`generator` has {len(several)} entries, must have one per clip: {num_clips}")
    return generator if several is None else several


def count_frames(clip: ClipInput, num_frames: int | None = None) -> int:
    """Count the frames of a prepared clip.

    Args:
        clip: The clip, see `prepare_clips`.
        num_frames: Wanted frames; None: as many as the recording lasts.

    Returns:
        Number of frames F.

    Raises:
        ValueError: More are wanted than the recording lasts, or a track has another number of frames.
    """
    if clip.audio_embeds is not None:
        name, available = "audio_embeds", len(clip.audio_embeds)
    else:
        name, available = "audio", num_video_frames(len(clip.audio.samples), clip.audio.sample_rate_hz)
    if num_frames is not None and not (is_whole_number(num_frames) and 1 <= num_frames <= available):
        raise ValueError(
            f"`num_frames` is {num_frames!r}, must be a whole number in [1, {available}], what `{name}` lasts"
        )
    num_frames = num_frames or available
    for name in ("pose", "blink"):
        track = getattr(clip, name)
        if track is not None and len(track) != num_frames:
            raise ValueError(f"`{name}` has {len(track)} frames, the clip has {num_frames}; they must be equal")
    return num_frames


def batches_of(frame_counts: list[int], latents: torch.Tensor | None) -> list[list[int]]:
    """Put clips of one length together; others go one by one, because norms run over all frames of a clip.

    Args:
        frame_counts: Frames of each clip.
        latents: Initial noise of all clips, when it is given.

    Returns:
        Numbers of the clips of each batch.

    Raises:
        ValueError: Noise is given for clips of different lengths.
    """
    if len(set(frame_counts)) == 1:
        return [list(range(len(frame_counts)))]
    if latents is not None:
        raise ValueError("`latents` can be given only when all clips have the same number of frames")
    return [[index] for index in range(len(frame_counts))]


def batch_of(value: Any, batch_axes: int | None) -> list:
    """List what an argument says about the clips of a batch.

    Args:
        value: A list, which is a batch; or one value.
        batch_axes: Axes of an array or tensor that is a batch, too; None: none is.

    Returns:
        The values.
    """
    if isinstance(value, list):
        return value
    if batch_axes is not None and isinstance(value, np.ndarray | torch.Tensor) and value.ndim == batch_axes:
        return list(value)
    return [value]


def _refuse_batch_of_samples(audio: Any, num_pictures: int) -> None:
    samples = audio[0] if isinstance(audio, tuple) and audio else audio
    if isinstance(samples, np.ndarray | torch.Tensor) and samples.ndim == 2 and min(samples.shape) > 1:
        raise ValueError(
            f"`audio` is one array {tuple(samples.shape)} for {num_pictures} pictures, which would be the channels of"
            " one recording: pass one recording per picture, or one 1-D array shared by all"
        )


def tracks_of(name: str, value: Any, width: int | None) -> list[torch.Tensor | None]:
    """List the tracks of the clips of a batch.

    Args:
        name: What they are called.
        value: Numbers (F, D) or (B, F, D), or a list of the former; None: not given.
        width: Numbers of a frame D; None: any.

    Returns:
        Tensors (F, D) of float32, where they were; None: not given.

    Raises:
        ValueError: They are no finite numbers, or of another shape.
    """
    if value is None:
        return [None]
    if isinstance(value, list) and not value:
        return []
    parts = value if isinstance(value, list) and _num_axes(value[0]) == 2 else [value]
    tracks = [_track_tensor(name, part, width) for part in parts]
    if len(tracks) == 1 and tracks[0].ndim == 3:
        tracks = list(tracks[0])
    for track in tracks:
        if track.ndim != 2 or (width is not None and track.shape[1] != width) or track.numel() == 0:
            raise ValueError(f"`{name}` is {tuple(track.shape)}, must be (F, {width or 'D'}), F at least 1")
        largest = float(track.abs().max())
        if largest > LARGEST_NUMBER:
            raise ValueError(f"`{name}` holds values up to {largest:g}, must be at most {LARGEST_NUMBER:g}")
    return [track.float() for track in tracks]


def _num_axes(value: Any) -> int:
    """Count the axes of an array; 0 for what is none, which is refused with its name later."""
    with suppress(TypeError, ValueError, RuntimeError):
        return np.ndim(value)
    return 0


def _track_tensor(name: str, values: Any, width: int | None) -> torch.Tensor:
    """A tensor, where it was; what holds anything but finite numbers is refused."""
    if torch.is_tensor(values):
        check_given(values, name)
        return values.float() if values.element_size() == 1 else values
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{array.dtype} is no number")
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values).__name__
        raise ValueError(f"`{name}` is a {kind}, must be numbers (F, {width or 'D'}) ({error})") from error
    tensor = torch.from_numpy(array.astype(float))
    check_given(tensor, name)
    return tensor
