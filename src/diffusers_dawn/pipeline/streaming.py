"""Begin a stream: what `DAWNPipeline.stream` is given is checked here, before any speech arrives."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..motion.script import MotionScript
from ..motion.stream_direction import direct_stream
from ..motion.track import MotionTrack
from ..ranges import is_whole_number
from ..records import BLINK_DIM, POSE_DIM, FaceState
from ..speech.features import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from .clip_motion import with_direction
from .clips import ClipInput, generators_of, tracks_of
from .planning import make_plan, make_request
from .speech_stream import SpeechStream
from .stream_windows import StreamWindows


class StreamsSpeech:
    """The part of `DAWNPipeline` that animates speech that is still arriving."""

    def stream(
        self,
        image: Any,
        audio_chunks: Iterable,
        sampling_rate: int,
        face: FaceState | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | Mapping[str, float] | None = None,
        generator: torch.Generator | None = None,
        preset: str | None = None,
        motion: MotionTrack | MotionScript | str | None = None,
        # in quotes, like what is returned: a saved pipeline's file defines them further down
        windows: "StreamWindows | None" = None,
        pose: Any = None,
        blink: Any = None,
    ) -> "SpeechStream":
        """Animate a portrait with speech that is still arriving, of any length.

        Chunks may be of any lengths: the frames depend only on the speech. As many come as for the whole recording.
        Samplers add no fresh noise, in which windows would differ.

        Args:
            image: Portrait, whatever `prepare_portrait` takes.
            audio_chunks: Speech in order: iterable of arrays or tensors (num_samples,) of floats in [-1, 1]. It may
                wait for the next.
            sampling_rate: Its rate [Hz], from 1000 to 192000.
            face: As for a call, like those up to `preset`, but for one clip.
            height: Height of the video [px].
            width: Width of the video [px].
            num_inference_steps: Denoising steps.
            guidance_scale: Weight of the conditions, or of each.
            generator: Source of noise.
            preset: Sampler and steps by name.
            motion: What the head and the eyes do: a `MotionTrack`, behind whose end PBNet takes over; or a text such
                as "nod twice, then look left at 9 s", without what needs the whole clip; see `docs/stream.md`.
            windows: How the stream is cut, which sets its latency; None: `StreamWindows()`, 1.2 s.
            pose: Pose (F, 6) of the first F frames, instead of PBNet's, which takes over behind them.
            blink: Eye openness (F, 2) of the first F frames; F may be another.

        Returns:
            Iterator over `StreamedFrames`.

        Raises:
            ValueError: An argument is missing or not allowed, or a window does not fit in the memory. While iterating:
                a chunk is not allowed, or all are shorter than a frame.
        """
        if image is None:
            raise ValueError("`image` is missing: a path, PIL image, array or tensor")
        _check_chunks(audio_chunks)
        if not is_whole_number(sampling_rate) or not LOWEST_RATE_HZ <= sampling_rate <= HIGHEST_RATE_HZ:
            raise ValueError(
                f"`sampling_rate` is {sampling_rate!r}, must be a whole number from {LOWEST_RATE_HZ} to"
                f" {HIGHEST_RATE_HZ} [Hz]"
            )
        windows = StreamWindows() if windows is None else windows
        if not isinstance(windows, StreamWindows):
            raise ValueError(f"`windows` is {windows!r}, must be `StreamWindows`")
        if self.pbnet is None or not (self.pbnet.makes_pose and self.pbnet.makes_blink):
            raise ValueError("a stream needs a `pbnet` that makes pose and blinks: this pipeline has none")
        sources = generators_of(generator, 1)
        pose, blink = _only_track("pose", pose, POSE_DIM), _only_track("blink", blink, BLINK_DIM)
        settings = {"height": height, "width": width, "num_inference_steps": num_inference_steps, "preset": preset}
        request = make_request(self, **settings, guidance_scale=guidance_scale, eta=0.0, output_type="stream")
        # a window is denoised at once, however clips are
        request = replace(request, machine=replace(request.machine, window_frames=None))
        make_plan(self, request, windows.num_denoised)
        portrait = self.prepare_portrait(image, face)
        clip = with_direction(ClipInput(portrait, pose=pose, blink=blink), direct_stream(motion, portrait.face))
        call = self._for_one_call()
        call.set_progress_bar_config(disable=True)  # there is no end to it
        call._guidance_scale = request.guidance_scale
        source = sources[0] if isinstance(sources, list) else sources
        return SpeechStream(call, request, clip, audio_chunks, int(sampling_rate), windows, source)


def _check_chunks(audio_chunks: Any) -> None:
    is_sound = isinstance(audio_chunks, str | bytes) or hasattr(audio_chunks, "ndim")
    if is_sound or not isinstance(audio_chunks, Iterable):
        raise ValueError(
            f"`audio_chunks` is a {type(audio_chunks).__name__}, must be an iterable of 1-D arrays, such as a list or"
            " a generator"
        )


def _only_track(name: str, value: Any, width: int) -> torch.Tensor | None:
    tracks = tracks_of(name, value, width)
    if len(tracks) != 1:
        raise ValueError(f"`{name}` has {len(tracks)} tracks, must have one: a stream is one clip")
    return tracks[0]
