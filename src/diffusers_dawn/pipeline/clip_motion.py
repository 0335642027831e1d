"""Head pose and blinks of prepared clips: given, read as a call's motion says, or predicted; then edited."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..motion.direction import Direction, check_sampling, direct
from ..motion.track import MotionTrack
from .clip_tensors import initial_states
from .clips import ClipInput


def direct_clips(clips: list[ClipInput], frame_counts: list[int]) -> list[ClipInput]:
    """Find out what is said about the motion of prepared clips.

    Args:
        clips: The clips.
        frame_counts: Frames of each.

    Returns:
        Clips with their direction, and the pose and blinks that it brings along.

    Raises:
        ValueError: It does not suit a clip, or pose or blinks are given twice.
    """
    known: dict[tuple, Direction] = {}
    directed = []
    for clip, num_frames in zip(clips, frame_counts, strict=True):
        # clips of one prompt share it
        key = (id(clip.motion), id(clip.image), num_frames)
        if key not in known:
            known[key] = direct(clip.motion, clip.image.face, num_frames)
        directed.append(with_direction(clip, known[key]))
    return directed


def with_direction(clip: ClipInput, direction: Direction) -> ClipInput:
    """Add to a clip what was found out about its motion.

    Args:
        clip: The clip.
        direction: Its direction.

    Returns:
        The clip with its direction, and the pose and blinks that it brings along.

    Raises:
        ValueError: Pose or blinks are given twice.
    """
    tracks = {}
    for name, track in (("pose", direction.head), ("blink", direction.blinks)):
        if track is not None and getattr(clip, name) is not None:
            raise ValueError(f"`motion` brings its own `{name}`: give one of them")
        if track is not None:
            tracks[name] = torch.from_numpy(getattr(track, name).copy())
    return replace(clip, direction=direction, **tracks)


def stack_tracks(
    clips: list[ClipInput],
    predict: Callable[[list[int]], tuple[torch.Tensor | None, torch.Tensor | None]],
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect pose and eye openness of prepared clips of one length, given or predicted.

    Args:
        clips: The clips B.
        predict: Makes pose and eye openness of some of the clips, by their numbers, None for what it cannot; called
            with those of which one of the two is not given.
        device: Where the result lives.

    Returns:
        Pose (B, F, 6) and eye openness (B, F, 2).

    Raises:
        ValueError: One of the two is neither given nor made.
    """
    made: dict[str, torch.Tensor | None] = {}
    needed = [index for index, clip in enumerate(clips) if clip.pose is None or clip.blink is None]
    if needed:
        made = dict(zip(("pose", "blink"), predict(needed), strict=True))
    tracks = {}
    for name in ("pose", "blink"):
        given = [getattr(clip, name) for clip in clips]
        if made.get(name) is None and any(track is None for track in given):
            raise ValueError(f"`{name}` must be given: this pipeline's `pbnet` does not make it")
        own = {} if made.get(name) is None else dict(zip(needed, made[name], strict=True))
        parts = [own[index] if track is None else track.to(device) for index, track in enumerate(given)]
        tracks[name] = torch.stack(parts).to(device)
    return tracks["pose"], tracks["blink"]


def move_clips(
    clips: list[ClipInput],
    features: torch.Tensor,
    predict: Callable[..., tuple[torch.Tensor | None, torch.Tensor | None]],
    generator: torch.Generator | list[torch.Generator] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make pose and eye openness of clips of one length: given or predicted, then edited.

    Args:
        clips: Clips B of `direct_clips`.
        features: Speech features (B, F, D).
        predict: The stage `predict_motion`.
        generator: Source of noise, or one per clip.

    Returns:
        Pose (B, F, 6) and eye openness (B, F, 2), where the features are.
    """
    device = features.device

    def generate(needed: list[int]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        some = [clips[index] for index in needed]
        initial = initial_states([clip.image for clip in some], device)
        sources = [generator[index] for index in needed] if isinstance(generator, list) else generator
        sampling = {name: [getattr(clip.direction, name) for clip in some] for name in ("temperature", "take")}
        return predict(features if len(some) == len(clips) else features[needed], *initial, sources, **sampling)

    pose, blink = stack_tracks(clips, generate, device)
    return edit_tracks(clips, pose, blink)


def motion_noise(
    draw: Callable[[int, torch.Generator | list[torch.Generator] | None], torch.Tensor],
    num_clips: int,
    generator: torch.Generator | list[torch.Generator] | None,
    temperature: float | Sequence[float],
    take: int | Sequence[int],
) -> torch.Tensor:
    """Draw PBNet's noise of every clip: so many candidates as the last one that is taken.

    Args:
        draw: Draws the noise (B, F, Z) of the next candidate of so many clips, from one generator or one per clip.
        num_clips: Clips B.
        generator: Source of noise, or one per clip.
        temperature: Factor of the noise, or one per clip.
        take: Which candidate counts, from 1, or one per clip.

    Returns:
        Noise (B, F, Z).

    Raises:
        ValueError: A number is out of range.
    """
    temperatures, takes = (
        list(given) if isinstance(given, list | tuple) else [given] * num_clips for given in (temperature, take)
    )
    check_sampling(temperatures, takes, num_clips=num_clips)
    if isinstance(generator, list):
        # from each as often as for its clip alone: what it gives next does not depend on the others
        taken = [
            [draw(1, [source])[0] for _ in range(number)][-1] for source, number in zip(generator, takes, strict=True)
        ]
    else:
        draws = [draw(num_clips, generator) for _ in range(max(takes))]
        taken = [draws[number - 1][clip] for clip, number in enumerate(takes)]
    return torch.stack([noise * factor for noise, factor in zip(taken, temperatures, strict=True)])


def edit_tracks(
    clips: list[ClipInput], pose: torch.Tensor, blink: torch.Tensor, first_frame: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry out what is said about the motion of clips on what came together.

    Args:
        clips: Clips B of `direct_clips`.
        pose: Pose (B, F, 6).
        blink: Eye openness (B, F, 2).
        first_frame: Number of the first frame, in a stream.

    Returns:
        Pose and eye openness, where they were.
    """
    if not any(clip.direction.edits for clip in clips):
        return pose, blink
    tracks = [
        clip.direction.edited(MotionTrack(*states, clip.image.face.pose, clip.image.face.blink), first_frame)
        for clip, *states in zip(clips, pose, blink, strict=True)
    ]
    return tuple(
        torch.from_numpy(np.stack([getattr(track, name) for track in tracks])).to(given)
        for name, given in (("pose", pose), ("blink", blink))
    )
