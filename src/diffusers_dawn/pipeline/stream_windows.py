"""The motion of a clip without end, window by window."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor

from ..geometry.frame_windows import pass_over
from ..geometry.recent_frames import RecentFrames
from ..machine.stage_timer import timed
from ..motion.curves import ease
from ..motion.keyframes import KEYFRAME_EASE_S
from ..motion.track import MotionTrack
from ..ranges import is_whole_number
from ..records import FPS
from ..sampling.denoising import step_arguments
from .clip_motion import edit_tracks, motion_noise
from .clip_tensors import initial_states
from .clips import ClipInput
from .finite_numbers import check_finite
from .request import RenderRequest

# what is heard at once, 10 s, is also what PBNet sees at most
MOST_FRAMES = 250


@dataclass(frozen=True)
class StreamWindows:
    """How a stream is cut into windows of frames.

    Frames come out hop by hop. A window goes from `past_frames` before its hop to `ahead_frames` behind it. What it
    says of the latter is a draft, from which the next window takes over little by little.

    Attributes:
        hop_frames: Frames that come out of a window.
        ahead_frames: Frames behind them, whose speech is awaited; at most `hop_frames`.
        past_frames: Frames before them, which are denoised again.
        heard_frames: Frames before them whose speech the audio encoder and PBNet hear again.

    Raises:
        ValueError: A number is not allowed.
    """

    hop_frames: int = 20
    ahead_frames: int = 10
    past_frames: int = 10
    heard_frames: int = 100

    def __post_init__(self) -> None:
        """Refuse what is not allowed."""
        for name, least, most in (
            ("hop_frames", 1, MOST_FRAMES),
            ("ahead_frames", 0, self.hop_frames),
            ("heard_frames", 0, MOST_FRAMES),
            ("past_frames", 0, self.heard_frames),
        ):
            value = getattr(self, name)
            if not (is_whole_number(value) and least <= value <= most):
                raise ValueError(f"`{name}` is {value!r}, must be a whole number from {least} to {most}")

    @property
    def latency_s(self) -> float:
        """How long the first frame of a hop waits for speech, counted from its own [s]; no frame waits longer."""
        return (self.hop_frames + self.ahead_frames) / FPS

    @property
    def num_denoised(self) -> int:
        """Frames that are denoised at once."""
        return self.past_frames + self.hop_frames + self.ahead_frames


class StreamMotion:
    """Makes the motion of one portrait from speech features, in windows that follow each other.

    Every frame has its own noise, which it keeps in all windows, so that neighbours agree where they overlap. Head and
    eyes move relative to the portrait in every window. Pose and blinks that are given are those of the first frames;
    PBNet makes the rest.

    Args:
        call: Copy of the pipeline for this stream.
        request: Size, sampler and steps.
        clip: Whom to animate, pose and blinks where they are given, and what is said about the motion otherwise.
        windows: How the stream is cut.
        generator: Source of noise.
    """

    def __init__(
        self,
        call: Any,
        request: RenderRequest,
        clip: ClipInput,
        windows: StreamWindows,
        generator: torch.Generator | None,
    ) -> None:
        self._call, self._request, self._clip = call, request, clip
        self._windows, self._generator = windows, generator
        # PBNet's noise by piece of a track that shares a latent, the denoiser's by frame
        self._stride = getattr(call.pbnet.config, "latent_stride", 1)
        self._motion_noise, self._noise = RecentFrames(dim=1), RecentFrames(dim=2)
        # pose and eye openness of frames that came out
        self._tracks = RecentFrames(dim=1), RecentFrames(dim=1)
        # pose, eye openness and motion of the frames ahead
        self._draft: list[torch.Tensor] = []

    @property
    def num_held(self) -> int:
        """Frames of noise and of tracks in memory."""
        return sum(part.num_held for part in (self._motion_noise, self._noise, *self._tracks))

    def first_heard(self, first: int) -> int:
        """Say from which frame on speech is heard for a hop that begins at `first`."""
        # pieces that share a latent begin where they began before
        return max(first - self._windows.heard_frames, 0) // self._stride * self._stride

    @torch.no_grad()
    def render(self, features: torch.Tensor, first: int, stop: int, end: int) -> tuple[torch.Tensor, MotionTrack]:
        """Make the motion of a window's hop.

        Args:
            features: Speech features (1, F, D) of the frames from `first_heard(first)` to `stop`.
            first: Number of the hop's first frame.
            stop: Number after the window's last frame.
            end: Number after the hop's last frame.

        Returns:
            Motion (1, 3, end - first, h, w), float32, and the head pose and blinks that it shows.
        """
        call = self._call
        past, heard = max(first - self._windows.past_frames, 0), self.first_heard(first)
        with timed(call.stage_seconds, "pose and blink"):  # (1, F, 6), (1, F, 2), from `first` on
            tracks = [track[:, first - heard :] for track in self._move(features, heard, stop)]
            tracks = edit_tracks([self._clip], *self._given_first(tracks, first), first_frame=first)
            tracks = [self._joined(index, track, dim=1) for index, track in enumerate(tracks)]
            conditions = [self._after_known(*pair, past, first) for pair in zip(self._tracks, tracks, strict=True)]
        motion = self._denoise(features[:, past - heard :], *conditions, past, stop)
        motion = self._joined(2, motion[:, :, first - past :], dim=2)

        ahead = slice(end - first, stop - first)
        self._draft = [*(track[:, ahead].clone() for track in tracks), motion[:, :, ahead].clone()]
        for held, track in zip(self._tracks, tracks, strict=True):
            held.add(track[:, : end - first])
            held.forget(end - self._windows.past_frames)
        self._noise.forget(end - self._windows.past_frames)
        self._motion_noise.forget(self.first_heard(end) // self._stride)
        face = self._clip.image.face
        shown = MotionTrack(*(track[0, : end - first] for track in tracks), face.pose, face.blink)
        return motion[:, :, : end - first], shown

    def _joined(self, index: int, values: torch.Tensor, dim: int) -> torch.Tensor:
        """Begin as the draft says, and take over from it little by little."""
        if not self._draft:
            return values
        draft = self._draft[index]
        shared, rest = values.split([draft.shape[dim], values.shape[dim] - draft.shape[dim]], dim)
        return torch.cat((pass_over(draft, shared, dim), rest), dim)

    @staticmethod
    def _after_known(known: RecentFrames, track: torch.Tensor, past: int, first: int) -> torch.Tensor:
        """Put what came out of frames before the hop in front of the hop's own track (1, F, N)."""
        return track if first == past else torch.cat((known.part(past, first), track), dim=1)

    def _move(self, features: torch.Tensor, heard: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Let PBNet make pose (1, F, 6) and eye openness (1, F, 2) of the frames that are heard."""
        pbnet, device = self._call.pbnet, features.device
        num_pieces = -(-stop // self._stride)
        num_new = num_pieces - self._motion_noise.stop
        if num_new > 0:
            direction = self._clip.direction

            def draw(num_clips: int, generator: torch.Generator | None) -> torch.Tensor:
                return pbnet.draw_noise(num_clips, num_new, generator, device)

            self._motion_noise.add(motion_noise(draw, 1, self._generator, direction.temperature, direction.take))
        noise = self._motion_noise.part(heard // self._stride, num_pieces)
        noise = noise.repeat_interleave(self._stride, dim=1)[:, : stop - heard]
        pose, blink = pbnet.generate(features, *initial_states([self._clip.image], device), noise=noise)
        for track in (pose, blink):
            check_finite(track, "PBNet's motion", {"pbnet": pbnet}, "the speech or the portrait's state")
        return pose, blink

    def _given_first(self, tracks: list[torch.Tensor], first: int) -> list[torch.Tensor]:
        """Put pose and blinks that are given in PBNet's place (1, F, N), which takes over behind their end."""
        frames = np.arange(first, first + tracks[0].shape[1])
        laid = []
        for given, own in zip((self._clip.pose, self._clip.blink), tracks, strict=True):
            if given is not None:
                last = len(given) - 1
                held = given[np.minimum(frames, last)].to(own)
                share = torch.from_numpy(ease((frames - last) / (KEYFRAME_EASE_S * FPS))).to(own)
                own = torch.lerp(held, own, share[:, None])
            laid.append(own)
        return laid

    def _denoise(
        self, features: torch.Tensor, pose: torch.Tensor, blink: torch.Tensor, past: int, stop: int
    ) -> torch.Tensor:
        """Denoise the frames from `past` to `stop`: motion (1, 3, F, h, w)."""
        call, request, device = self._call, self._request, features.device
        size = (request.height, request.width)
        with timed(call.stage_seconds, "conditions"):
            contexts = call.prepare_conditions([self._clip.image], features, pose, blink, *size)
        with timed(call.stage_seconds, "denoising"):
            scheduler = copy.deepcopy(request.scheduler)  # steps leave their traces in it
            if stop > self._noise.stop:
                cells = (side // call.lfg.config.motion_stride for side in size)
                shape = (1, call.unet.config.in_channels, stop - self._noise.stop, *cells)
                self._noise.add(randn_tensor(shape, generator=self._generator, device=device, dtype=torch.float32))
            noise = self._noise.part(past, stop).clone()
            return call.denoise(
                call.prepare_latents(1, stop - past, *size, device, latents=noise, scheduler=scheduler),
                scheduler.timesteps,
                contexts,
                step_arguments(scheduler, self._generator, request.eta),
                cache_interval=request.machine.cache_interval,
                scheduler=scheduler,
            )
