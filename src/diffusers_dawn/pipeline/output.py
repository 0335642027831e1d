"""What a pipeline call returns, and the conversion of frames to the requested form."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from ..motion.track import MotionTrack
from ..records import Portrait, Waveform

OUTPUT_TYPES = ("pil", "np", "pt", "latent", "stream")


@dataclass(frozen=True)
class FrameStream:
    """Frames of one clip that are drawn while they are read, so that they are never all in memory.

    Iterate over it for uint8 arrays (up to `decode_chunk_size`, H, W, 3), RGB, as `VideoWriter.write` takes them.
    Every iteration draws anew.

    Attributes:
        num_frames: Frames F of the clip.
        draw: Draws pieces (1, N, 3, H, W) in [0, 1]; `StagesOfDAWN.decode_motion` of one clip.
    """

    num_frames: int
    draw: Callable[..., Iterator[torch.Tensor]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Draw the frames, a few at a time."""
        return (part[0] for part in copies_on_cpu(to_uint8(piece) for piece in self.draw()))

    def with_detail(self, height: int, width: int) -> "FrameStream":
        """Draw the same frames larger, with the detail of the portrait's own pixels; see `docs/enhance.md`.

        The network's own pixels stay where it painted what the portrait does not show, such as an opened mouth.

        Args:
            height: Height of the frames [px], from the network's to that of `portraits[0].image`.
            width: Width of the frames [px], likewise; another size is refused when the frames are read.

        Returns:
            Another stream, of pieces of one frame.
        """
        return replace(self, draw=partial(self.draw, detail_size=(height, width)))


@dataclass
class DAWNPipelineOutput(BaseOutput):
    """Output of `DAWNPipeline`.

    Args:
        frames: Videos: lists of PIL images, array (B, F, H, W, 3) or tensor (B, F, 3, H, W) in [0, 1], or the motion
            (B, 3, F, h, w) for `output_type="latent"`. A list per clip when the clips differ in length. For
            `output_type="stream"` a list of `FrameStream`, one per clip, which draw the frames while they are read.
        pose: Pose per frame (F, 6) of every clip, as `records.POSE_NAMES`.
        blink: Eye openness per frame (F, 2) of every clip.
        audio: Samples (num_samples,) of every clip, exactly as long as its frames; None for `audio_embeds`.
        sampling_rate: Their rate [Hz] per clip; None for `audio_embeds`.
        fps: Frames per second.
        portraits: What was animated: square picture, face (with the number of faces found), crop.
    """

    frames: list[list[PIL.Image.Image]] | np.ndarray | torch.Tensor | list[FrameStream] | list
    pose: list[torch.Tensor]
    blink: list[torch.Tensor]
    audio: list[np.ndarray] | None
    sampling_rate: list[int] | None
    fps: int
    portraits: list[Portrait]

    def waveform(self, index: int = 0) -> Waveform | None:
        """Return the sound of one clip as a record."""
        return None if self.audio is None else Waveform(self.audio[index], self.sampling_rate[index])

    def motion(self, index: int = 0) -> MotionTrack:
        """Return head pose and blinks of one clip as a track, to be kept, edited, and given to another call."""
        face = self.portraits[index].face
        return MotionTrack(self.pose[index], self.blink[index], face.pose, face.blink)


def deliver_frames(
    latents: torch.Tensor,
    portraits: list[Portrait],
    draw: Callable[[torch.Tensor, list[Portrait]], Iterator[torch.Tensor]],
    output_type: str,
) -> torch.Tensor | np.ndarray | list[list[PIL.Image.Image]] | list[FrameStream]:
    """Draw the frames of a batch in the form that was asked for.

    Args:
        latents: Denoised latents (B, 3, F, h, w).
        portraits: The portraits B.
        draw: Draws pieces (B, N, 3, H, W) in [0, 1] of latents and portraits.
        output_type: One of `OUTPUT_TYPES`.

    Returns:
        The latents themselves, a `FrameStream` per clip, or as `collect_frames`.
    """
    if output_type == "latent":
        return latents
    if output_type == "stream":
        clips = zip(latents.split(1), portraits, strict=True)
        return [FrameStream(latents.shape[2], partial(draw, clip, [portrait])) for clip, portrait in clips]
    return collect_frames(draw(latents, portraits), latents.shape[2], output_type)


def to_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Round frames (B, N, 3, H, W) in [0, 1] to uint8 (B, N, H, W, 3) on their device."""
    return (frames.permute(0, 1, 3, 4, 2) * 255).round().byte()


def copies_on_cpu(pieces: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Copy pieces to the CPU; a GPU draws the next piece while the one before is copied and used.

    Args:
        pieces: Tensors of any shape on one device, such as uint8 frames (B, N, H, W, 3); each is drawn when it is
            asked for.

    Returns:
        An iterator over arrays of the same shapes and dtypes, in order.
    """
    waiting = None
    for piece in pieces:
        if piece.device.type != "cuda":
            yield piece.cpu().numpy()
            continue
        copied = torch.empty(piece.shape, dtype=piece.dtype, pin_memory=True)
        copied.copy_(piece, non_blocking=True)
        done = torch.cuda.current_stream(piece.device).record_event()
        if waiting is not None:
            yield _when_done(*waiting)
        waiting = copied, done
    if waiting is not None:
        yield _when_done(*waiting)


def _when_done(copied: torch.Tensor, done: torch.cuda.Event) -> np.ndarray:
    done.synchronize()
    return copied.numpy()


def collect_frames(
    pieces: Iterable[torch.Tensor], num_frames: int, output_type: str
) -> torch.Tensor | np.ndarray | list[list[PIL.Image.Image]]:
    """Collect the frames of a batch; each piece is converted as it comes, and nothing is held twice.

    Args:
        pieces: Pieces (B, N, 3, H, W) in [0, 1], in order.
        num_frames: Frames F of them all.
        output_type: "pt", "np" or "pil".

    Returns:
        Tensor (B, F, 3, H, W), array (B, F, H, W, 3), or a list of pictures per clip.
    """
    if output_type == "pil":
        parts = list(copies_on_cpu(map(to_uint8, pieces)))
        return [
            [PIL.Image.fromarray(frame) for part in parts for frame in part[clip]] for clip in range(len(parts[0]))
        ]
    frames, first = None, 0
    for piece in pieces:
        part = piece if output_type == "pt" else piece.permute(0, 1, 3, 4, 2).cpu()
        if frames is None:
            frames = part.new_empty(len(part), num_frames, *part.shape[2:])
        frames[:, first : first + part.shape[1]] = part
        first += part.shape[1]
    return frames if output_type == "pt" else frames.numpy()
