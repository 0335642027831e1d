"""Prepared clips of one length as the tensors that the stages take, and the sound that goes with their frames."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from ..geometry.flow import face_box_mask, warp_frames
from ..media.backgrounds import colours_without_white
from ..records import FPS, Portrait, Waveform
from .clips import ClipInput


def initial_states(portraits: list[Portrait], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Collect the states of portraits.

    Args:
        portraits: The portraits B.
        device: Where the result lives.

    Returns:
        Pose (B, 6) and eye openness (B, 2), float32.
    """
    pose = np.array([portrait.face.pose for portrait in portraits], np.float32)
    blink = np.array([portrait.face.blink for portrait in portraits], np.float32)
    return torch.from_numpy(pose).to(device), torch.from_numpy(blink).to(device)


def stack_features(
    clips: list[ClipInput], num_frames: int, width: int, encode: Callable[[Waveform], torch.Tensor]
) -> torch.Tensor:
    """Collect the speech features of prepared clips of one length, given or encoded.

    Args:
        clips: The clips B.
        num_frames: Their frames F.
        width: Width of the features D.
        encode: Computes those of a recording (F, D); called once for clips that share it.

    Returns:
        Features (B, F, D).

    Raises:
        ValueError: Given features have another width.
    """
    encoded: dict[int, torch.Tensor] = {}
    features = []
    for clip in clips:
        if clip.audio_embeds is None:
            if id(clip.audio) not in encoded:
                encoded[id(clip.audio)] = encode(clip.audio)
            features.append(encoded[id(clip.audio)])
        elif clip.audio_embeds.shape[-1] == width:
            features.append(clip.audio_embeds[:num_frames])
        else:
            raise ValueError(f"`audio_embeds` is {tuple(clip.audio_embeds.shape)}, must be (F, {width})")
    return torch.stack([feature.to(features[0].device) for feature in features])


def opacity_tensor(portraits: list[Portrait], height: int, width: int) -> torch.Tensor | None:
    """Collect how opaque portraits are.

    Args:
        portraits: The portraits B.
        height: Height of the video [px].
        width: Its width [px].

    Returns:
        Opacity (B, 1, H, W) in [0, 1], float32; None: no portrait is transparent.
    """
    planes = [portrait.opacity for portrait in portraits]
    return _resized_planes(planes, height, width, Image.Resampling.BICUBIC)


def person_tensor(portraits: list[Portrait], height: int, width: int) -> torch.Tensor | None:
    """Collect where the people of portraits are.

    Args:
        portraits: The portraits B.
        height: Height of the result, that of the motion [cells].
        width: Its width.

    Returns:
        Shares (B, 1, h, w) in [0, 1], float32, 1 everywhere for a portrait that does not say; None: none of them does.
    """
    return _resized_planes([portrait.person for portrait in portraits], height, width, Image.Resampling.BOX)


def _resized_planes(
    planes: list[np.ndarray | None], height: int, width: int, resampling: Image.Resampling
) -> torch.Tensor | None:
    """Resize uint8 planes to (B, 1, H, W) in [0, 1]; a missing one is 1 everywhere. None: all are missing."""
    if all(plane is None for plane in planes):
        return None
    whole = np.full((height, width), 255, np.uint8)
    resized = [
        whole if plane is None else np.asarray(Image.fromarray(plane).resize((width, height), resampling))
        for plane in planes
    ]
    return torch.from_numpy(np.stack(resized)[:, None]).float() / 255


def join_opacity(frames: torch.Tensor, opacity: torch.Tensor, portraits: list[Portrait]) -> torch.Tensor:
    """Give frames their opacity, and take out the white that showed through their portraits.

    Args:
        frames: Frames (B, N, 3, H, W) in [0, 1].
        opacity: Their opacity (B, N, 1, H, W) in [0, 1].
        portraits: The portraits B.

    Returns:
        Frames (B, N, 4, H, W).
    """
    colours = [
        colours_without_white(*clip[:2]) if clip[2].is_over_white else clip[0]
        for clip in zip(frames, opacity, portraits, strict=True)
    ]
    return torch.cat((torch.stack(colours), opacity), dim=2)


def with_moved_opacity(
    frames: torch.Tensor, flow: torch.Tensor, opacity: torch.Tensor | None, portraits: list[Portrait]
) -> torch.Tensor:
    """Give frames (B, N, 3, H, W) their portraits' opacity (B, 1, H, W), moved as they are; without any, none."""
    if opacity is None:
        return frames
    moved = warp_frames(opacity.to(frames.device), flow.to(frames.device), border="repeated")
    return join_opacity(frames, moved, portraits)


def image_tensor(portraits: list[Portrait], height: int, width: int) -> torch.Tensor:
    """Resize portraits to the size of a video.

    Args:
        portraits: The portraits B.
        height: Height H [px].
        width: Width W [px].

    Returns:
        Tensor (B, 3, H, W) in [0, 1].
    """
    resized = [
        np.asarray(Image.fromarray(portrait.image).resize((width, height), Image.Resampling.LANCZOS))
        for portrait in portraits
    ]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


def face_masks(portraits: list[Portrait], height: int, width: int) -> torch.Tensor:
    """Draw the boxes of the faces of portraits at the size of a video.

    Args:
        portraits: The portraits B.
        height: Height H [px].
        width: Width W [px].

    Returns:
        Masks (B, 1, H, W), 1 inside.
    """
    boxes = torch.from_numpy(np.array([portrait.face.box_px for portrait in portraits], np.float32))
    sizes = torch.from_numpy(np.array([portrait.face.image_size for portrait in portraits], np.float32))
    return face_box_mask(boxes, sizes, height, width)


def fit_samples(waveform: Waveform, num_frames: int) -> np.ndarray:
    """Cut a recording, or extend it by silence, to the length of its frames.

    Args:
        waveform: The recording.
        num_frames: Its frames F.

    Returns:
        Samples (num_samples,).
    """
    num_samples = round(num_frames / FPS * waveform.sample_rate_hz)
    samples = waveform.samples[:num_samples]
    return np.pad(samples, (0, num_samples - len(samples)))
