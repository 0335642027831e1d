"""The avatar of examples/livekit_avatar.py, by LiveKit's own runner, without a server."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark_scripts import imported_script
from diffusers_dawn import StreamWindows
from example_runs import EXAMPLES
from pipeline_calls import RATE_HZ, face, picture

rtc = pytest.importorskip("livekit.rtc")
avatar = pytest.importorskip("livekit.agents.voice.avatar")
SPOKEN = np.random.default_rng(0).normal(0, 3000, 8 * RATE_HZ // 25).astype(np.int16)


@pytest.fixture
def talking(pipe):
    portrait, windows = pipe.prepare_portrait(picture(), face()), StreamWindows(5, 2, 3, 8)
    with imported_script("livekit_avatar", EXAMPLES) as example:
        made = example.TalkingPortrait(pipe, portrait, RATE_HZ, num_inference_steps=1, windows=windows)
        yield made
        made.close()


def spoken_frames(samples=SPOKEN):
    return [rtc.AudioFrame(part.tobytes(), RATE_HZ, 1, len(part)) for part in np.array_split(samples, 5)]


async def taken(shown, enough):
    given = []
    async for one in shown:
        given.append(one)
        if enough(given):
            return given


def sound_of(given):
    parts = [np.frombuffer(one.data, np.int16) for one in given if isinstance(one, rtc.AudioFrame)]
    return np.concatenate([np.zeros(0, np.int16), *parts])


def count(given, kind):
    return sum(isinstance(one, kind) for one in given)


def test_portrait_listens_says_what_it_is_given_and_listens_again(talking):
    async def talk():
        shown = aiter(talking)
        before = await taken(shown, lambda given: len(given) == 10)
        for frame in (*spoken_frames(), avatar.AudioSegmentEnd()):
            await talking.push_audio(frame)
        said = await taken(shown, lambda given: isinstance(given[-1], avatar.AudioSegmentEnd))
        return before, said, await taken(shown, lambda given: len(given) == 10)

    before, said, after = asyncio.run(talk())
    assert count(before, rtc.VideoFrame) == count(after, rtc.VideoFrame) == 10
    assert np.array_equal(sound_of(said), SPOKEN)
    # no frame goes ahead of its sound: from the first word on, there is one to every 25th of a second
    first = next(number for number, one in enumerate(said) if isinstance(one, rtc.AudioFrame))
    assert count(said[first - 1 :], rtc.VideoFrame) in {8, 9}
    shown = next(one for one in said if isinstance(one, rtc.VideoFrame))
    assert (shown.width, shown.height, len(shown.data)) == (64, 64, 64 * 64 * 3)


def test_portrait_that_is_interrupted_says_no_more(talking):
    async def talk():
        for frame in spoken_frames():
            await talking.push_audio(frame)
        shown = aiter(talking)
        begun = await taken(shown, lambda given: count(given, rtc.AudioFrame) >= 2)
        talking.clear_buffer()
        return begun, await taken(shown, lambda given: len(given) == 20)

    begun, after = asyncio.run(talk())
    assert len(sound_of(begun)) and count(after, rtc.VideoFrame) == 20


def test_speech_of_another_rate_is_refused(talking):
    with pytest.raises(ValueError, match="the agent's speech has 8000 Hz, must have 16000"):
        asyncio.run(talking.push_audio(rtc.AudioFrame(bytes(320), 8_000, 1, 160)))


def test_runner_of_livekit_tells_the_agent_when_its_turn_was_heard(talking):
    async def talk():
        # a room without a server: nobody else is in it
        subscribed = SimpleNamespace(wait_for_subscription=lambda: asyncio.sleep(0))
        published = []

        async def publish_track(track, options):
            published.append(track.kind)
            return subscribed

        participant = SimpleNamespace(publish_track=publish_track)
        room = SimpleNamespace(
            isconnected=lambda: True, local_participant=participant, on=lambda *_: None, off=lambda *_: None
        )
        speech, heard = avatar.QueueAudioOutput(sample_rate=RATE_HZ), asyncio.Future()
        speech.on("playback_finished", heard.set_result)
        options = avatar.AvatarOptions(64, 64, 25, RATE_HZ, audio_channels=1)
        runner = avatar.AvatarRunner(room, audio_recv=speech, video_gen=talking, options=options)
        await runner.start()
        for frame in spoken_frames():
            await speech.capture_frame(frame)
        speech.flush()
        finished = await asyncio.wait_for(heard, 60)
        talking.close()
        await runner.aclose()
        return published, finished

    published, finished = asyncio.run(talk())
    assert published == [rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO]
    assert not finished.interrupted and finished.playback_position == pytest.approx(8 / 25, abs=1e-6)
