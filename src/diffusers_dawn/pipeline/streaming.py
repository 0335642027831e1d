"""Begin a stream: what `DAWNPipeline.stream` is given is checked here, before any speech arrives."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..motion.direction import direct_stream
from ..motion.script import MotionScript
from ..ranges import is_whole_number
from ..records import FaceState
from ..speech.features import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from .clips import ClipInput, generators_of
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
        motion: MotionScript | str | None = None,
        # in quotes, like what is returned: a saved pipeline's file defines them further down
        windows: "StreamWindows | None" = None,
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
            motion: What the head and the eyes do, as a text of "head motion 0.5", "blink strength 0.5",
                "offset yaw 5", "limit yaw 20".
            windows: How the stream is cut, which sets its latency; None: `StreamWindows()`, 1.2 s.

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
        sources, direction = generators_of(generator, 1), direct_stream(motion)
        settings = {"height": height, "width": width, "num_inference_steps": num_inference_steps, "preset": preset}
        request = make_request(self, **settings, guidance_scale=guidance_scale, eta=0.0, output_type="stream")
        # a window is denoised at once, however clips are
        request = replace(request, machine=replace(request.machine, window_frames=None))
        make_plan(self, request, windows.num_denoised)
        clip = ClipInput(self.prepare_portrait(image, face), direction=direction)
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
