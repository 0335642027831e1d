"""What a stream is told about motion, against what a whole clip makes of the same."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.motion.blinks import find_blinks
from diffusers_dawn.motion.direction import Direction, direct, motion_of_call
from diffusers_dawn.motion.script import Edit, Join, MotionScript, TakeFrom
from diffusers_dawn.motion.stream_direction import direct_stream
from diffusers_dawn.motion.track import MotionTrack
from made_tracks import REST, moving_track, still_track

NUM_FRAMES, FPS, YAW = 200, 25, 0
TRACK = moving_track(NUM_FRAMES)


def in_pieces(motion, cuts=(7, 20, 21, 48, 90, 131), track=TRACK) -> MotionTrack:
    """Edit a track piece by piece, as a stream does."""
    direction, edges = direct_stream(motion, REST), [0, *sorted(set(cuts)), track.num_frames]
    pieces = [
        direction.edited(replace(track, pose=track.pose[first:stop], blink=track.blink[first:stop]), first)
        for first, stop in zip(edges, edges[1:], strict=False)
    ]
    pose, blink = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("pose", "blink"))
    return replace(track, pose=pose, blink=blink)


def whole(motion) -> MotionTrack:
    return direct(motion_of_call(motion), REST, NUM_FRAMES).edited(TRACK)


# shrinking adds nothing
@settings(max_examples=8, derandomize=True)
@given(cuts=st.sets(st.integers(1, NUM_FRAMES - 1), max_size=30))
@pytest.mark.parametrize(
    "text",
    [
        "head motion 0.5; blink strength 0.5; offset yaw 5; limit pitch 3",
        "nod twice at the start, then look left; blink twice at 2.5 s; shake at 3.01 s",
        "begin at rest",
        "nod at 1 s; limit pitch 2; begin at rest; head motion 0.5",
        "at 1.5 s eyes 0; at 3 s eyes 1.5; at 4.2 s back",
    ],
)
def test_a_stream_does_what_a_clip_does_however_it_is_cut(text, cuts):
    streamed, clip = in_pieces(text, cuts), whole(text)
    # sums of float32 against float64
    np.testing.assert_allclose(streamed.pose, clip.pose, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(streamed.blink, clip.blink, rtol=1e-6, atol=1e-6)


@settings(max_examples=20, derandomize=True)
@given(
    keys=st.dictionaries(st.integers(0, NUM_FRAMES - 1), st.floats(-80, 80), min_size=1, max_size=5),
    cuts=st.sets(st.integers(1, NUM_FRAMES - 1), max_size=12),
)
def test_a_keyframed_number_of_a_stream_is_the_one_of_a_clip_at_each_keyframe_and_after_the_last(keys, cuts):
    text = "; ".join(f"at {frame / FPS:.2f} s yaw {value:.4f}" for frame, value in keys.items())
    streamed, clip = in_pieces(text, cuts), whole(text)
    shown = [frame for frame in range(NUM_FRAMES) if frame in keys or frame >= max(keys) + 20]
    # between two, the number's own course up to the next is not known yet
    np.testing.assert_allclose(streamed.pose[shown], clip.pose[shown], atol=1e-4)
    first = max(min(keys) - round(0.8 * FPS), 0)
    np.testing.assert_array_equal(streamed.pose[:first], TRACK.pose[:first])
    np.testing.assert_array_equal(streamed.pose[:, 1:], TRACK.pose[:, 1:])
    np.testing.assert_array_equal(streamed.pose, in_pieces(text, ()).pose)


def test_keyframes_turn_the_head_as_smoothly_in_a_stream_as_in_a_clip():
    text = "at 2 s yaw 15; at 4 s yaw -10; at 6 s back"
    steps = [np.abs(np.diff(track.pose[:, YAW], n=2)).max() for track in (in_pieces(text), whole(text))]
    assert steps[0] < 1.5 * steps[1]


def test_eyes_of_a_stream_blink_as_often_as_is_said_however_it_is_cut():
    text, long = "blink rate 0.5", still_track(100 * FPS)
    blink = in_pieces(text, range(20, 100 * FPS, 20), long).blink
    assert abs(len(find_blinks(blink)) - 50) <= 1 and blink.min() == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(blink, in_pieces(text, (3, 333), long).blink)
    np.testing.assert_allclose(in_pieces("no blinks").blink, np.tile(REST.blink, (NUM_FRAMES, 1)), atol=1e-6)


def test_tracks_of_a_stream_may_be_of_any_length_and_move_its_own_face():
    track, other = moving_track(9), still_track(30)
    direction = direct_stream(track, REST)
    np.testing.assert_allclose(direction.head.pose, track.pose, atol=1e-4)
    assert direction.blinks is direction.head
    script = MotionScript((TakeFrom("head", "a.npz", track), TakeFrom("blinks", "b.npz", other)))
    direction = direct_stream(script, REST)
    assert (direction.head.num_frames, direction.blinks.num_frames) == (9, 30)
    begun = in_pieces(MotionScript((Join("start", "a.npz", track),)))
    np.testing.assert_allclose(begun.pose[0], track.pose[-1], atol=1e-4)
    np.testing.assert_array_equal(begun.pose[20:], TRACK.pose[20:])


def test_nothing_said_is_no_direction_and_temperature_is_for_pbnet():
    assert direct_stream(None, REST) == Direction()
    assert direct_stream("temperature 0.5", REST).temperature == 0.5


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ("nod at the end", "`motion`: it says 'at the end'"),
        ("at 1 s yaw 3; in the middle yaw 5", "`motion`: it says 'in the middle'"),
        ("smooth 0.5 s", "`motion`: 'smooth' needs the frames that follow"),
        ("take 2", "`motion`: 'take 2' chooses among motions of a whole clip"),
        ("end at rest", "`motion`: it says how the clip ends"),
        ('nod on word 3; transcript "one two three"', "`motion` names the word 3, which nobody has said yet"),
        ('at 1 s yaw 3; nod on "pie"', "`motion` names the word 'pie', which nobody has said yet"),
        (MotionScript((Edit("joined", {}),)), "`motion`: `joined` needs the frames that follow"),
    ],
)
def test_what_needs_the_whole_clip_is_refused_and_what_a_stream_takes_is_said(motion, message):
    with pytest.raises(ValueError, match=f"^{message}; a stream, whose end is not known, takes tracks, gestures and"):
        direct_stream(motion, REST)


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ("track.npz", "`motion` is the file track.npz, must be a MotionTrack or a text"),
        ("head from track.npz", "`motion` names the file track.npz, which must be read first"),
        ([TRACK], "`motion` is a list, must be a MotionTrack or a text"),
        ("dance", "`motion`: 'dance' is not understood"),
        ("blink rate 3", "'blink rate 3' has 3, must have a number from 0 to 1.25"),
        (MotionScript((Edit("with_blink_rate", {"per_s": 3}),)), "^`motion`: `per_s` is 3, must be from 0 to 1.25"),
        (MotionScript((Edit("scaled", {"head": 3}),)), "^`motion`: `head` is 3, must be a number in"),
    ],
)
def test_what_no_clip_takes_is_refused_for_a_stream_too(motion, message):
    with pytest.raises(ValueError, match=message):
        direct_stream(motion, REST)
