from pathlib import Path

import numpy as np
import pytest

from diffusers_dawn.motion.direction import (
    check_sampling,
    direct,
    motion_of_call,
    parts_of,
    with_head_motion,
)
from diffusers_dawn.motion.script import Join, MotionScript, TakeFrom, parse_script
from diffusers_dawn.motion.track import MotionTrack
from made_tracks import REST, moving_track, still_track

NUM_FRAMES = 100


def directed(motion):
    return direct(motion_of_call(motion), REST, NUM_FRAMES)


def offset(text, number=1):
    """What a text does to a still head: to pitch, unless another number is named."""
    return (directed(text).edited(still_track()).pose - REST.pose)[:, number]


def first_frame(values):
    return int(np.flatnonzero(np.abs(values) > 0.05)[0])


@pytest.mark.parametrize(
    ("when", "frame"), [("at the start", 0), ("at 1.2 s", 30), ("in the middle", 42), ("at the end", 85), ("", 0)]
)
def test_a_gesture_begins_when_the_text_says(when, frame):
    assert first_frame(offset(f"nod {when}")) == pytest.approx(frame, abs=2)


def test_gestures_without_a_time_follow_each_other():
    text = "nod at 0.4 s, then look up, then nod"
    pitch = offset(text)
    # a nod of .6 s, a look of 1.6 s, a nod; .2 s between them
    assert pitch[round(0.7 * 25)] > 7 and pitch[round(2.0 * 25)] < -10 and pitch[round(3.3 * 25)] > 7


def test_a_text_edits_in_its_order_and_ends_hold():
    text = "offset yaw 10; limit yaw 5; at 1 s pitch 20; begin at rest; end at rest"
    track = directed(text).edited(moving_track())
    assert np.abs(track.pose[30:70, 0]).max() <= 5.001 and track.pose[25, 1] == pytest.approx(20, abs=1e-3)
    np.testing.assert_allclose(track.pose[[0, -1]], [REST.pose] * 2, atol=1e-4)
    np.testing.assert_allclose(track.blink[[0, -1]], [REST.blink] * 2, atol=1e-4)


def test_keyframes_belong_together_wherever_they_stand():
    yaw = offset("at 1 s yaw 3; nod at 2 s; at 3 s yaw 23", number=0)
    assert yaw[25] == pytest.approx(0, abs=1e-3) and yaw[50] == pytest.approx(10, abs=0.1)
    assert yaw[75] == pytest.approx(20, abs=1e-3)


def test_a_track_goes_in_pbnets_place():
    track = moving_track(120)
    direction = directed(track)
    np.testing.assert_allclose(direction.head.pose, track.pose[:NUM_FRAMES], atol=1e-4)
    assert direction.blinks is direction.head and direction.edits == ()


def test_head_and_blinks_come_from_tracks_apart():
    first, second = moving_track(120, 1), moving_track(130, 2, blinks_at=(50,))
    script = MotionScript((TakeFrom("head", "first.npz", first), TakeFrom("blinks", "second.json", second)))
    direction = directed(script)
    np.testing.assert_allclose(direction.head.pose, first.pose[:NUM_FRAMES], atol=1e-4)
    np.testing.assert_allclose(direction.blinks.blink, second.blink[:NUM_FRAMES], atol=1e-4)
    assert directed(MotionScript((TakeFrom("blinks", "first.npz", first),))).head is None
    joined = directed(MotionScript((Join("start", "first.npz", first),))).edited(still_track())
    np.testing.assert_allclose(joined.pose[0], first.pose[-1], atol=1e-4)


def test_temperature_and_take_are_for_pbnet():
    direction = directed("temperature 0.5; take 2")
    assert (direction.temperature, direction.take) == (0.5, 2) and direction.head is None
    assert (directed("nod").temperature, directed("nod").take) == (1.0, 1)


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ("nod at 3.9 s", "^`motion`: `nod` from 3.90 to 4.50 s does not fit: the clip ends at 4.00 s"),
        ("at 5 s yaw 3", "^`motion`: a keyframe is at 5 s, the clip ends at 4.00 s"),
        (
            "nod on word 3; transcript x.txt",
            "`motion` names the word 3, which must be found first; `diffusers_dawn.read",
        ),
        ('at 1 s yaw 3; nod on "pie"', "`motion` names the word 'pie', which must be found first"),
        (moving_track(20), "`motion` lasts 0.80 s .20 frames., the clip 4.00 s"),
        ("head from track.npz", "`motion` names the file track.npz, which must be read first; `diffusers_dawn.read_m"),
        ("end before film.mp4", "`motion` names the file film.mp4, which must be read first"),
        (
            "film.mp4",
            "`motion` is the file film.mp4, must be a MotionTrack or a text; `diffusers_dawn.read_motion` re",
        ),
        (Path("a b.npz"), "`motion` is the file a b.npz, must be a MotionTrack or a text"),
        (MotionScript((TakeFrom("head", "a.npz", moving_track(20)),)), "`a.npz` lasts 0.80 s .20 frames."),
        (5, "`motion` is a int, must be a MotionTrack or a text"),
        ("nod film.mp4", "'nod film.mp4' is not understood"),
    ],
)
def test_motion_that_cannot_be_is_refused(motion, message):
    with pytest.raises(ValueError, match=message):
        directed(motion)


@pytest.mark.parametrize(
    ("temperature", "take", "message"),
    [
        (-1, 1, "`temperature` is -1"),
        (np.nan, 1, "`temperature` is nan"),
        ("hot", 1, "`temperature` is 'hot'"),
        (1, 0, "`take` is 0, must be a whole number from 1 to 64"),
        (1, True, "`take` is True"),
        (1, 1.5, "`take` is 1.5"),
    ],
)
def test_sampling_out_of_range_is_refused(temperature, take, message):
    with pytest.raises(ValueError, match=message):
        check_sampling([temperature], [take])


def test_parts_that_need_no_pbnet_are_known():
    assert parts_of(None) == parts_of(motion_of_call("nod")) == set()
    assert parts_of(moving_track()) == parts_of(MotionScript((TakeFrom("motion", "a.npz"),))) == {"head", "blinks"}
    assert parts_of(MotionScript((TakeFrom("head", "a.mp4"),))) == {"head"}


def test_directions_are_tracks_for_every_kind():
    assert isinstance(directed("smooth 0.5 s; blink rate 1; head motion 0.5").edited(moving_track()), MotionTrack)


def test_head_motion_is_scaled_before_what_else_is_said():
    track, half = moving_track(), moving_track().scaled(head=0.5)
    alone, script = with_head_motion(None, 0.5), with_head_motion(motion_of_call("at 0.4 s yaw 25; nod"), 0.5)
    assert alone == parse_script("head motion 0.5")
    assert script == parse_script("head motion 0.5; at 0.4 s yaw 25; nod")
    np.testing.assert_array_equal(with_head_motion(track, 0.5).pose, half.pose)
    np.testing.assert_array_equal(with_head_motion(track, 0.5).blink, track.blink)


@pytest.mark.parametrize("motion", [None, moving_track(), motion_of_call("nod")])
def test_a_factor_of_1_changes_nothing_and_others_than_from_0_to_2_are_refused(motion):
    assert with_head_motion(motion, 1) is motion
    for factor in (-0.1, 2.1, np.nan, "half"):
        with pytest.raises(ValueError, match=rf"`head_motion` is {factor!r}, must be a number in \[0, 2\]"):
            with_head_motion(motion, factor)
