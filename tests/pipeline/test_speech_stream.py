"""Speech that is still arriving: the tiny pipeline as a whole."""

from itertools import chain, islice, repeat
from threading import Thread

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn import Keyframe, StreamWindows
from diffusers_dawn.motion.script import MotionScript, TakeFrom, parse_script
from diffusers_dawn.motion.track import MotionTrack
from made_tracks import moving_track
from pipeline_calls import RATE_HZ, face, picture, run, seeded, speech

WINDOWS = StreamWindows(hop_frames=5, ahead_frames=2, past_frames=3, heard_frames=8)
NUM_FRAMES = 18


def stream(pipe, chunks, **arguments):
    defaults = {"face": face(), "num_inference_steps": 1, "generator": seeded(), "windows": WINDOWS}
    given_ = {"image": picture(), "sampling_rate": RATE_HZ} | defaults | arguments
    return pipe.stream(given_.pop("image"), chunks, **given_)


def frames_of(pipe, chunks, **arguments) -> np.ndarray:
    return np.concatenate([piece.frames for piece in stream(pipe, chunks, **arguments)])


@pytest.fixture(scope="module")
def whole(tiny_pipe):
    return frames_of(tiny_pipe, [speech(NUM_FRAMES)])


# shrinking would take minutes
@settings(max_examples=3, derandomize=True)
@given(cuts=st.lists(st.integers(0, NUM_FRAMES * 640), min_size=1, max_size=40))
def test_frames_do_not_depend_on_how_speech_is_cut_into_chunks(tiny_pipe, whole, cuts):
    assert np.array_equal(frames_of(tiny_pipe, np.split(speech(NUM_FRAMES), sorted(cuts))), whole)


@pytest.mark.parametrize(("num_samples", "rate_hz"), [(700, 16_000), (4_801, 16_000), (9_000, 22_050)])
def test_as_many_frames_come_as_for_the_recording_and_all_of_its_sound(pipe, num_samples, rate_hz):
    samples = speech(20)[:num_samples]
    pieces = list(stream(pipe, np.array_split(samples, 3), sampling_rate=rate_hz))
    out = run(pipe, audio=samples, sampling_rate=rate_hz, num_inference_steps=1)
    assert sum(len(piece.frames) for piece in pieces) == out.frames.shape[1]
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), out.audio[0])


def test_every_piece_has_the_sound_of_its_frames(pipe):
    next_frame = 0
    for piece in stream(pipe, [speech(NUM_FRAMES)]):
        assert piece.first_frame == next_frame and piece.start_s == next_frame / 25
        next_frame += len(piece.frames)
        sound = speech(NUM_FRAMES)[640 * piece.first_frame : 640 * next_frame]
        assert np.array_equal(piece.samples, sound)
    assert next_frame == NUM_FRAMES


def test_a_hop_waits_for_as_much_speech_as_the_latency_says(pipe):
    taken = []

    def chunks():
        for chunk in np.array_split(speech(NUM_FRAMES), NUM_FRAMES):
            taken.append(chunk)
            yield chunk

    made = stream(pipe, chunks())
    waited_s = [len(taken) / 25 - piece.start_s for piece in made if piece.first_frame < 10]
    assert made.latency_s == 7 / 25
    assert waited_s == [pytest.approx(made.latency_s)] * 2


def test_what_is_held_does_not_grow(pipe):
    # what a window hears, what comes in meanwhile; noise that the next window needs, and tracks before its hop
    most_samples, most_frames = 640 * (8 + 5 + 2 + 5), (8 + 2) + (3 + 2) + 2 * 3
    # a long chunk is taken hop by hop
    for chunks in (repeat(speech(3), 12), [speech(36)]):
        made = stream(pipe, chunks)
        held = [made.num_held for _ in made]
        assert all(samples <= most_samples and frames <= most_frames for samples, frames in held[2:])


def test_frames_do_not_depend_on_what_was_said_long_before(pipe):
    pipe.feature_extractor.do_normalize = False  # else loudness is remembered for half a minute
    try:
        one, other = (frames_of(pipe, [speech(6, seed), speech(24)]) for seed in (1, 2))
    finally:
        pipe.feature_extractor.do_normalize = True
    assert not np.array_equal(one[:6], other[:6])
    assert np.array_equal(one[-5:], other[-5:])


def test_motion_goes_on_where_windows_meet(pipe):
    def steps(windows: StreamWindows) -> tuple[float, float]:
        frames = frames_of(pipe, [speech(32)], windows=windows).astype(float)
        moved = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
        joints = np.arange(windows.hop_frames - 1, len(moved), windows.hop_frames)
        return moved[joints].mean(), np.delete(moved, joints).mean()

    at_joints, elsewhere = steps(StreamWindows(8, 4, 3, 8))
    assert at_joints < 1.2 * elsewhere


def test_same_seed_gives_the_same_frames_and_another_seed_others(pipe, whole):
    assert np.array_equal(frames_of(pipe, [speech(NUM_FRAMES)]), whole)
    assert not np.array_equal(frames_of(pipe, [speech(NUM_FRAMES)], generator=seeded(1)), whole)


def test_call_between_two_pieces_changes_nothing(pipe, whole):
    made = stream(pipe, [speech(NUM_FRAMES)])
    first = next(made)
    run(pipe, num_inference_steps=2, generator=seeded(5))
    rest = [piece.frames for piece in made]
    assert np.array_equal(np.concatenate([first.frames, *rest]), whole)


def shown_motion(pipe, monkeypatch, num_frames=NUM_FRAMES, **arguments) -> MotionTrack:
    """Motion of a stream's frames as it says, which is what the denoiser was told of them last."""
    told, prepare = [], type(pipe).prepare_conditions

    def note(call, portraits, features, pose, blink, *size):
        told.append((pose, blink))
        return prepare(call, portraits, features, pose, blink, *size)

    with monkeypatch.context() as patch:
        patch.setattr(type(pipe), "prepare_conditions", note)
        pieces = list(stream(pipe, [speech(num_frames)], **arguments))
    motion = MotionTrack(
        *(np.concatenate([getattr(piece.motion, name) for piece in pieces]) for name in ("pose", "blink")),
        face().pose,
        face().blink,
    )
    assert motion.num_frames == num_frames
    assert all(piece.motion.num_frames == len(piece.frames) for piece in pieces)
    for name, track in zip(("pose", "blink"), told[-1], strict=True):
        np.testing.assert_array_equal(getattr(motion, name)[-track.shape[1] :], track[0].numpy())
    return motion


def test_head_can_be_kept_still(pipe, monkeypatch):
    pose = shown_motion(pipe, monkeypatch, motion="head motion 0").pose
    np.testing.assert_allclose(pose, np.tile(np.float32(face().pose), (NUM_FRAMES, 1)), rtol=1e-6)


@pytest.mark.parametrize("name", ["motion", "script", "arrays"])
def test_motion_that_is_given_comes_first_and_pbnet_takes_over_behind_it(pipe, monkeypatch, whole, name):
    num_frames, num_given = 40, 12
    track = moving_track(num_given)
    track = MotionTrack(track.pose, track.blink, track.pose[0], track.blink[0])
    given_ = {
        "motion": {"motion": track},
        "script": {"motion": MotionScript((TakeFrom("head", "a", track), TakeFrom("blinks", "b", track)))},
        "arrays": {"pose": track.onto(face()).pose, "blink": torch.tensor(track.onto(face()).blink[None])},
    }
    made = shown_motion(pipe, monkeypatch, num_frames, **given_[name])
    own = shown_motion(pipe, monkeypatch, num_frames)
    for part in ("pose", "blink"):
        np.testing.assert_allclose(getattr(made, part)[:num_given], getattr(track.onto(face()), part), rtol=1e-6)
        # 20 frames later, and a draft that is passed over
        np.testing.assert_array_equal(getattr(made, part)[34:], getattr(own, part)[34:])
    assert not np.array_equal(frames_of(pipe, [speech(NUM_FRAMES)], **given_[name]), whole)


def test_blinks_may_be_given_alone(pipe, monkeypatch):
    made, own = (
        shown_motion(pipe, monkeypatch, **given_) for given_ in ({"blink": np.full((NUM_FRAMES, 2), 0.2)}, {})
    )
    np.testing.assert_array_equal(made.pose, own.pose)
    np.testing.assert_allclose(made.blink, np.full((NUM_FRAMES, 2), 0.2), rtol=1e-6)


def test_what_a_text_says_happens_at_its_time_across_windows(pipe, monkeypatch):
    num_frames = 60
    own = shown_motion(pipe, monkeypatch, num_frames, motion="head motion 0")
    text = "head motion 0; at 0.6 s yaw 20; at 1.2 s back; nod at 1.48 s; blink at 0.24 s"
    made = shown_motion(pipe, monkeypatch, num_frames, motion=text)
    clip = own.with_keyframes([Keyframe(0.6, {"yaw_deg": 20}), Keyframe(1.2)])
    clip = clip.with_gestures([gesture_of("nod at 1.48 s")])
    np.testing.assert_allclose(made.pose, clip.pose, rtol=1e-5, atol=1e-4)
    assert made.pose[15, 0] == pytest.approx(20, abs=1e-3)
    np.testing.assert_allclose(made.blink[9], 0, atol=1e-4)  # a third of a blink later
    np.testing.assert_array_equal(made.blink[20:], own.blink[20:])


def gesture_of(text):
    said = parse_script(text).statements[0]
    return type(said.gesture)(said.gesture.kind, said.when.at_s)


def test_temperature_is_the_factor_of_pbnets_noise(pipe, monkeypatch):
    first, second = (
        shown_motion(pipe, monkeypatch, motion="temperature 0", generator=seeded(seed)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(first.pose, second.pose)


def test_stream_that_is_closed_takes_no_more_speech(pipe):
    taken = iter([speech(10), speech(10)])
    made = stream(pipe, taken)
    next(made)
    made.close()
    assert next(made, None) is None and next(taken, None) is not None


def test_stream_may_be_closed_while_it_waits_for_speech(pipe):
    def chunks():
        yield speech(10)
        made.close()
        yield speech(10)
        raise AssertionError("no more is asked for")

    made = stream(pipe, chunks())
    assert [len(piece.frames) for piece in made] == [5]


def test_stream_may_be_closed_by_another_thread_while_it_denoises(pipe, monkeypatch):
    steps, denoise = [], pipe.unet.forward

    def closes(*arguments, **named):
        steps.append(1)
        closing = Thread(target=made.close)
        closing.start()
        closing.join()
        return denoise(*arguments, **named)

    monkeypatch.setattr(pipe.unet, "forward", closes)
    made = stream(pipe, repeat(speech(10)), num_inference_steps=3)
    assert list(made) == [] and len(steps) == 1
    other = stream(pipe, [speech(5)])  # others are not meant
    monkeypatch.setattr(pipe.unet, "forward", denoise)
    assert sum(len(piece.frames) for piece in other) == 5


def test_interrupted_pipeline_ends_its_stream(pipe):
    made = stream(pipe, repeat(speech(10)))
    next(made)
    pipe._interrupt = True
    other = stream(pipe, [speech(10)])  # what begins later is not meant, and lifts nothing
    assert sum(len(piece.frames) for piece in islice(made, 3)) == 0
    assert sum(len(piece.frames) for piece in other) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": None}, "`image` is missing"),
        ({"sampling_rate": 16_000.0}, r"`sampling_rate` is 16000.0, must be a whole number from 1000 to 192000"),
        ({"sampling_rate": None}, "`sampling_rate` is None"),
        ({"sampling_rate": 25}, "`sampling_rate` is 25"),
        ({"chunks": speech()}, "`audio_chunks` is a ndarray, must be an iterable of 1-D arrays"),
        ({"chunks": "speech.wav"}, "`audio_chunks` is a str"),
        ({"chunks": 3}, "`audio_chunks` is a int"),
        ({"windows": 20}, "`windows` is 20, must be `StreamWindows`"),
        ({"generator": 7}, "`generator` is 7"),
        ({"motion": "head motion 3"}, "'head motion 3' has 3, must have a number from 0 to 2"),
        ({"motion": "nod at the end"}, "`motion`: it says 'at the end'; a stream, whose end is not known, takes"),
        ({"motion": ["nod"]}, "`motion` is a list, must be a MotionTrack or a text"),
        ({"motion": moving_track(9), "pose": np.zeros((9, 6))}, "`motion` brings its own `pose`: give one of them"),
        ({"pose": np.zeros((9, 5))}, r"`pose` is \(9, 5\), must be \(F, 6\)"),
        ({"pose": np.zeros((0, 6))}, r"`pose` is \(0, 6\), must be \(F, 6\), F at least 1"),
        ({"pose": np.zeros((2, 9, 6))}, "`pose` has 2 tracks, must have one: a stream is one clip"),
        ({"blink": np.full((9, 2), np.nan)}, "`blink` holds values that are not finite"),
        ({"blink": "open"}, "`blink` is a str, must be numbers"),
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
    ],
)
def test_argument_that_is_not_allowed_is_refused_at_once(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        stream(pipe, arguments.pop("chunks", [speech()]), **arguments)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (speech(1)[None], r"chunk 1 of `audio_chunks` is float32 \(1, 640\), must be a 1-D array of floats"),
        (np.zeros(640, np.int16), r"chunk 1 of `audio_chunks` is int16 \(640,\), must be a 1-D array of floats"),
        ([0.1, 0.2], "chunk 1 of `audio_chunks` is a list, must be a 1-D array of floats"),
        (np.full(640, np.nan), "chunk 1 of `audio_chunks` holds samples that are NaN or infinite"),
        (np.full(640, 300.0), "chunk 1 of `audio_chunks` holds floats up to 300"),
    ],
)
def test_chunk_that_is_no_sound_is_refused_when_it_comes(pipe, chunk, message):
    made = stream(pipe, [speech(1), chunk])
    with pytest.raises(ValueError, match=message):
        next(made)


@pytest.mark.parametrize("chunks", [[], [np.zeros(0)], [speech(1)[:600]]])
def test_less_speech_than_a_frame_is_refused(pipe, chunks):
    with pytest.raises(ValueError, match=r"`audio_chunks` last 0\.0\d+ s, must last at least one video frame"):
        next(stream(pipe, chunks))


def test_chunks_may_be_tensors_of_any_float_type(pipe, whole):
    chunks = chain([torch.from_numpy(speech(NUM_FRAMES)[:1000])], [speech(NUM_FRAMES)[1000:].astype(np.float64)])
    assert np.array_equal(frames_of(pipe, chunks), whole)


def test_pipeline_without_pbnet_cannot_stream(pipe):
    pbnet = pipe.pbnet
    pipe.pbnet = None
    try:
        with pytest.raises(ValueError, match="needs a `pbnet`"):
            stream(pipe, [speech()])
    finally:
        pipe.pbnet = pbnet


def test_window_that_does_not_fit_in_memory_is_refused(pipe):
    pipe.set_memory_budget(1000)
    try:
        with pytest.raises(ValueError, match="memory"):
            stream(pipe, [speech()])
    finally:
        pipe.set_memory_budget(None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop_frames": 0}, "`hop_frames` is 0, must be a whole number from 1"),
        ({"hop_frames": 2.0}, "`hop_frames` is 2.0"),
        ({"ahead_frames": 21}, "`ahead_frames` is 21, must be a whole number from 0 to 20"),
        ({"past_frames": 101}, "`past_frames` is 101, must be a whole number from 0 to 100"),
        ({"heard_frames": 251}, "`heard_frames` is 251"),
    ],
)
def test_windows_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        StreamWindows(**values)
