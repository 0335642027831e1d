"""Lend a voice agent of LiveKit a face: its speech goes in, and the portrait's frames and sound go to the room.

LiveKit's packages need another protobuf than the face detector, so this runs in an environment without the extra
`face`, and is told where the face is (docs/stream.md):

    pip install livekit-agents
    python examples/livekit_avatar.py --portrait square.png --face face.json --url wss://... --token ...

The agent, a process of its own, sends its speech by `session.output.audio = DataStreamAudioOutput(room,
destination_identity=..., sample_rate=24000)`.
"""

import argparse
import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioReceiver,
    VideoGenerator,
)

from diffusers_dawn import DAWNPipeline, FaceState, Portrait, demo_checkpoint, keep_freed_memory, read_motion
from diffusers_dawn.records import FPS

SAMPLING_RATE = 24_000
MOST_INT16 = 32_768


class TalkingPortrait(VideoGenerator):
    """A portrait that says what it is given, and listens in between.

    Args:
        pipe: The pipeline.
        portrait: Who talks.
        sampling_rate: Rate of the speech [Hz].
        **settings: Further arguments of `pipe.stream`.
    """

    def __init__(self, pipe: DAWNPipeline, portrait: Portrait, sampling_rate: int = SAMPLING_RATE, **settings) -> None:
        self._rate, self._changed = sampling_rate, threading.Condition()
        # speech that has come, None where a turn of the agent ends; whether one is going on
        self._waiting: deque[np.ndarray | None] = deque()
        self._is_speaking, self._is_closed = False, False
        # what the stream took and has not been played: numbers of samples, or None, and whether they are heard
        self._taken: deque[tuple[int | None, bool]] = deque()
        self._stream = pipe.stream(portrait, self._speech(), sampling_rate, **settings)

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Take some of the agent's speech, or that its turn ends."""
        ends = isinstance(frame, AudioSegmentEnd)
        if not ends and frame.sample_rate != self._rate:
            raise ValueError(f"the agent's speech has {frame.sample_rate} Hz, must have {self._rate}")
        chunk = None if ends else np.frombuffer(frame.data, np.int16)[:: frame.num_channels] / np.float32(MOST_INT16)
        with self._changed:
            self._waiting.append(chunk)
            self._is_speaking = not ends
            self._changed.notify_all()

    def clear_buffer(self) -> None:
        """Fall silent, because the agent was interrupted; lips still end what they had begun."""
        with self._changed:
            self._waiting.clear()
            self._is_speaking = False
            self._taken = deque((length, False) for length, _ in self._taken if length is not None)
            self._changed.notify_all()

    def close(self) -> None:
        """End the stream."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _speech(self) -> Iterator[np.ndarray]:
        """Give what was said; while a turn goes on, wait for more of it, and otherwise give silence."""
        silence = np.zeros(self._rate // FPS, np.float32)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed or not self._is_speaking)
                if self._is_closed:
                    return
                is_heard = bool(self._waiting)
                chunk = self._waiting.popleft() if is_heard else silence
                self._taken.append((None if chunk is None else len(chunk), is_heard))
            if chunk is not None:
                yield chunk

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Give every frame with what is heard during it, as fast as they are taken."""
        # rendering takes a thread of its own, so that speech is heard meanwhile
        while (piece := await asyncio.to_thread(next, self._stream, None)) is not None:
            for frame, samples in zip(piece.frames, np.array_split(piece.samples, len(piece.frames)), strict=True):
                height, width = frame.shape[:2]
                yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, frame.tobytes())
                for part in self._heard(samples):
                    yield part

    def _heard(self, samples: np.ndarray) -> list[rtc.AudioFrame | AudioSegmentEnd]:
        """Cut out of a frame's sound what the agent said: LiveKit counts its seconds."""
        heard: list[np.ndarray | None] = []
        with self._changed:
            while self._taken and (len(samples) or self._taken[0][0] is None):
                length, is_heard = self._taken.popleft()
                if length is None:
                    heard.append(None)
                    continue
                part, samples = samples[:length], samples[length:]
                if length > len(part):
                    self._taken.appendleft((length - len(part), is_heard))
                if is_heard and heard and heard[-1] is not None:
                    heard[-1] = np.concatenate([heard[-1], part])
                elif is_heard:
                    heard.append(part)
        return [AudioSegmentEnd() if part is None else self._sound(part) for part in heard]

    def _sound(self, samples: np.ndarray) -> rtc.AudioFrame:
        rounded = np.clip(samples * MOST_INT16, -MOST_INT16, MOST_INT16 - 1).astype(np.int16)
        return rtc.AudioFrame(rounded.tobytes(), self._rate, 1, len(rounded))


async def serve(pipe: DAWNPipeline, portrait: Portrait, url: str, token: str, **settings) -> None:
    """Join a room and talk there until it closes.

    Args:
        pipe: The pipeline.
        portrait: Who talks.
        url: Address of a LiveKit server.
        token: What lets the portrait in.
        **settings: Further arguments of `pipe.stream`.
    """
    room = rtc.Room()
    closed = asyncio.Event()
    room.on("disconnected", lambda *_: closed.set())
    await room.connect(url, token)
    talking = TalkingPortrait(pipe, portrait, **settings)
    size = pipe.default_size
    runner = AvatarRunner(
        room,
        audio_recv=DataStreamAudioReceiver(room),
        video_gen=talking,
        options=AvatarOptions(size, size, FPS, SAMPLING_RATE, audio_channels=1),
    )
    await runner.start()
    await closed.wait()
    talking.close()
    await runner.aclose()


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the pipeline and join the room."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portrait", required=True, help="square picture")
    parser.add_argument("--face", type=Path, required=True, help="where the face is in it, a JSON file")
    parser.add_argument("--url", required=True, help="address of a LiveKit server")
    parser.add_argument("--token", required=True, help="lets the portrait into a room")
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="saved pipeline")
    parser.add_argument("--preset", default="fast", help="sampler and steps by name")
    parser.add_argument("--motion", help="what the head does: a text such as 'head motion 0.5', or a track's file")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    keep_freed_memory()
    pipe = DAWNPipeline.from_pretrained(args.checkpoint).to(args.device)
    portrait = pipe.prepare_portrait(args.portrait, FaceState(**json.loads(args.face.read_text(encoding="utf-8"))))
    motion = None if args.motion is None else read_motion(args.motion, name="--motion")
    asyncio.run(serve(pipe, portrait, args.url, args.token, preset=args.preset, motion=motion))


if __name__ == "__main__":
    main()
