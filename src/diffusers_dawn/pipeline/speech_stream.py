"""Video of speech that is still arriving."""

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..machine.stage_timer import timed
from ..media.recordings import MAX_FLOAT_PEAK
from ..media.sources import as_array
from ..motion.track import MotionTrack
from ..records import FPS
from ..speech.arriving import ArrivingSpeech
from ..speech.features import num_video_frames
from .clips import ClipInput
from .finite_numbers import check_finite
from .output import copies_on_cpu, to_uint8
from .request import RenderRequest
from .stream_windows import StreamMotion, StreamWindows


@dataclass(frozen=True)
class StreamedFrames:
    """Some frames of a stream, and the sound that belongs to them.

    Attributes:
        frames: uint8 array (N, H, W, 3), RGB; with a fourth channel, opacity, for a transparent portrait.
        samples: float32 array (num_samples,), the sound from the first frame's begin to the last one's end.
        sampling_rate: Its rate [Hz].
        first_frame: Number of the first frame, from 0.
        motion: Head pose and blinks of the frames, at rest as the portrait.
    """

    frames: np.ndarray
    samples: np.ndarray
    sampling_rate: int
    first_frame: int
    motion: MotionTrack

    @property
    def start_s(self) -> float:
        """When the first frame is shown, from the begin of the stream [s]."""
        return self.first_frame / FPS


class SpeechStream(Iterator[StreamedFrames]):
    """Frames of speech that is still arriving; made by `DAWNPipeline.stream`.

    Iterating takes chunks of speech as they are needed, and gives frames as they are drawn. What is held in memory
    does not grow.

    Args:
        call: Copy of the pipeline for this stream.
        request: Size, sampler and steps.
        clip: Whom to animate, and what is given and said of the motion.
        audio_chunks: Speech, float arrays (num_samples,) of any length.
        sampling_rate: Its rate [Hz].
        windows: How it is cut.
        generator: Source of noise.
    """

    def __init__(
        self,
        call: Any,
        request: RenderRequest,
        clip: ClipInput,
        audio_chunks: Iterable,
        sampling_rate: int,
        windows: StreamWindows,
        generator: torch.Generator | None,
    ) -> None:
        self.windows, self.portrait, self.sampling_rate = windows, clip.image, sampling_rate
        self._call, self._chunk_size = call, request.machine.decode_chunk_size
        self._speech = ArrivingSpeech(sampling_rate, call.audio_encoder, call.feature_extractor)
        self._motion = StreamMotion(call, request, clip, windows, generator)
        self._frames = self._render(audio_chunks)

    @property
    def latency_s(self) -> float:
        """How long a frame waits for speech at most, from its own sound on [s]; rendering a hop comes on top."""
        return self.windows.latency_s

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Time that the stages took so far, by name [s]."""
        return self._call.stage_seconds

    @property
    def num_held(self) -> tuple[int, int]:
        """Samples of speech, and frames of noise and tracks, in memory."""
        return self._speech.num_held, self._motion.num_held

    def __next__(self) -> StreamedFrames:
        """Return the next frames, once enough speech has arrived."""
        return next(self._frames)

    def close(self) -> None:
        """End the stream before its speech does; what another thread is about then ends without a frame."""
        self._call._interrupt = True
        # that thread's: it ends at its next step, or chunk
        with suppress(ValueError):
            self._frames.close()

    def _render(self, audio_chunks: Iterable) -> Iterator[StreamedFrames]:
        speech, first = self._speech, 0
        hop, length = self.windows.hop_frames, self.windows.hop_frames + self.windows.ahead_frames
        try:
            for samples in _checked_chunks(audio_chunks):
                if self._call.interrupt:
                    return
                # a long chunk is taken bit by bit, so that what is held does not depend on it
                for part in np.array_split(samples, math.ceil(len(samples) / speech.sample_at(hop)) or 1):
                    speech.add(part)
                    while speech.num_samples >= speech.sample_at(first + length):
                        yield from self._hop(first, first + length, first + hop)
                        first += hop
                        if self._call.interrupt:
                            return
            if self._call.interrupt:
                return
            num_frames = self._end_speech()
            if num_frames > first:
                yield from self._hop(first, num_frames, num_frames)
        finally:
            with self._call.alone_with_networks():
                self._call.maybe_free_model_hooks()

    def _end_speech(self) -> int:
        """Fill the last frame up with silence, as in a clip; returns how many frames there are."""
        speech = self._speech
        if speech.num_samples * FPS < self.sampling_rate:
            raise ValueError(
                f"`audio_chunks` last {speech.num_samples / self.sampling_rate:.4f} s, must last at least one video"
                f" frame (1/{FPS} s)"
            )
        num_frames = num_video_frames(speech.num_samples, self.sampling_rate)
        speech.add(np.zeros(max(speech.sample_at(num_frames) - speech.num_samples, 0), np.float32))
        return num_frames

    def _hop(self, first: int, stop: int, end: int) -> Iterator[StreamedFrames]:
        """Render the frames from `first` to `end` with the speech up to `stop`."""
        call, speech, motion = self._call, self._speech, self._motion
        with call.alone_with_networks():
            with timed(call.stage_seconds, "speech features"):
                features = speech.features(motion.first_heard(first), stop)[None].to(call._execution_device)
                check_finite(features, "speech features", {"audio_encoder": call.audio_encoder}, "`audio_chunks`")
            latents, track = motion.render(features, first, stop, end)
        if call.interrupt:  # steps were left out
            return
        pieces = copies_on_cpu(map(to_uint8, call.decode_motion(latents, [self.portrait], self._chunk_size)))
        begin = first
        while first < end:
            with timed(call.stage_seconds, "frames"):
                frames = next(pieces)[0]
            if call.interrupt:
                return
            samples = speech.samples(first, first + len(frames))
            shown = slice(first - begin, first - begin + len(frames))
            moved = replace(track, pose=track.pose[shown], blink=track.blink[shown])
            yield StreamedFrames(frames, samples, self.sampling_rate, first, moved)
            first += len(frames)
        speech.forget(motion.first_heard(end))


def _checked_chunks(audio_chunks: Iterable) -> Iterator[np.ndarray]:
    """Refuse chunks that are no sound; others become float32 arrays (num_samples,) of our own."""
    for index, chunk in enumerate(audio_chunks):
        name = f"chunk {index} of `audio_chunks`"
        if not (isinstance(chunk, np.ndarray) or (hasattr(chunk, "detach") and hasattr(chunk, "cpu"))):
            raise ValueError(f"{name} is a {type(chunk).__name__}, must be a 1-D array of floats")
        samples = as_array(chunk, name)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"{name} is {samples.dtype} {samples.shape}, must be a 1-D array of floats in [-1, 1]")
        if not np.isfinite(samples).all():
            raise ValueError(f"{name} holds samples that are NaN or infinite")
        if samples.size and (peak := float(np.abs(samples).max())) > MAX_FLOAT_PEAK:
            raise ValueError(f"{name} holds floats up to {peak:g}, must hold floats in [-1, 1]")
        yield np.array(samples, np.float32)
