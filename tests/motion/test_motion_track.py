from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.motion.blinks import find_blinks
from diffusers_dawn.motion.gestures import GESTURES, Gesture
from diffusers_dawn.motion.keyframes import KEYFRAME_EASE_S, Keyframe
from diffusers_dawn.motion.track import MotionTrack, check_track_length
from diffusers_dawn.records import FPS, POSE_NAMES
from made_tracks import REST, moving_track, still_track

YAW, PITCH, ROLL = 0, 1, 2
# float32 of degrees
EXACT = {"atol": 1e-4, "rtol": 0}
tracks = st.builds(moving_track, st.integers(30, 400), st.integers(0, 99))


def differs(first: MotionTrack, second: MotionTrack) -> np.ndarray:
    """Which of the six pose numbers differ somewhere."""
    return np.abs(first.pose - second.pose).max(axis=0) > 1e-4


@given(tracks, st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=20)
def test_head_and_blinks_are_scaled_apart_and_from_rest(track, head, blinks):
    scaled = track.scaled(head=head)
    np.testing.assert_allclose(scaled.pose - REST.pose, head * (track.pose - REST.pose), atol=1e-3)
    np.testing.assert_array_equal(scaled.blink, track.blink)
    scaled = track.scaled(blinks=blinks)
    expected = np.maximum(REST.blink + blinks * (track.blink - REST.blink), 0)
    np.testing.assert_allclose(scaled.blink, expected, **EXACT)
    np.testing.assert_allclose(scaled.pose, track.pose, **EXACT)


@given(tracks, *[st.floats(-60, 60)] * 3)
@settings(max_examples=20)
def test_the_head_is_turned_by_what_was_asked_in_every_frame(track, yaw, pitch, roll):
    turned = track.turned(yaw, pitch, roll)
    np.testing.assert_allclose(turned.pose - track.pose, [[yaw, pitch, roll, 0, 0, 0]] * track.num_frames, atol=1e-3)


@given(tracks, st.floats(0, 1.25), st.integers(0, 9))
def test_there_are_as_many_blinks_as_the_rate_says(track, per_s, seed):
    blinking = track.with_blink_rate(per_s, seed)
    found = find_blinks(blinking.blink)
    assert len(found) == round(per_s * track.duration_s)
    np.testing.assert_array_equal(blinking.pose, track.pose)
    for start, stop in found:
        # shut for a moment, and for no longer than a blink lasts
        assert blinking.blink[start:stop].min() < 0.2 * REST.blink.min() and stop - start <= 8
    assert blinking.blink.max() <= track.blink.max() + 1e-6


@given(tracks, st.floats(0.1, 4))
@settings(max_examples=20)
def test_a_smoothed_head_moves_no_further_and_less_jerkily(track, duration_s):
    shaking = replace(track, pose=track.pose + np.random.default_rng(0).normal(0, 1, track.pose.shape))
    smoothed = shaking.smoothed(duration_s)
    assert (smoothed.pose.max(axis=0) <= shaking.pose.max(axis=0) + 1e-3).all()
    assert (smoothed.pose.min(axis=0) >= shaking.pose.min(axis=0) - 1e-3).all()
    jerk, before = (np.abs(np.diff(one.pose, 2, axis=0)).mean(axis=0) for one in (smoothed, shaking))
    assert (jerk < before / 2).all()
    np.testing.assert_array_equal(smoothed.blink, shaking.blink)
    np.testing.assert_allclose(still_track().smoothed(duration_s).pose, still_track().pose, **EXACT)


@given(tracks, st.floats(-10, 0), st.floats(0, 10))
@settings(max_examples=20)
def test_limits_are_kept_and_nothing_else_changes(track, low, high):
    limited = track.limited(yaw_deg=(low, high), eyes=(0.5, 0.9))
    assert limited.pose[:, YAW].min() >= low - 1e-5 and limited.pose[:, YAW].max() <= high + 1e-5
    inside = (track.pose[:, YAW] >= low) & (track.pose[:, YAW] <= high)
    np.testing.assert_allclose(limited.pose[inside], track.pose[inside], **EXACT)
    np.testing.assert_allclose(limited.pose[:, 1:], track.pose[:, 1:], **EXACT)
    assert (limited.blink >= 0.5 * REST.blink - 1e-6).all() and (limited.blink <= 0.9 * REST.blink + 1e-6).all()


@given(
    st.integers(0, 99),
    st.lists(st.tuples(st.integers(0, 199), st.floats(-80, 80)), min_size=1, max_size=5, unique_by=lambda key: key[0]),
)
def test_a_keyframed_number_has_its_value_at_its_time_and_its_own_course_before(seed, frames):
    track = moving_track(200, seed)
    turned = track.with_keyframes([Keyframe(frame / FPS, {"yaw_deg": value}) for frame, value in frames])
    for frame, value in frames:
        assert turned.pose[frame, YAW] == pytest.approx(value, abs=1e-3)
    first = min(frame for frame, _ in frames) - round(KEYFRAME_EASE_S * FPS)
    np.testing.assert_allclose(turned.pose[: max(first, 0), YAW], track.pose[: max(first, 0), YAW], **EXACT)
    np.testing.assert_allclose(turned.pose[:, 1:], track.pose[:, 1:], **EXACT)
    # behind the last keyframe the head goes on as before, from there
    last = max(frame for frame, _ in frames)
    offset = (turned.pose - track.pose)[last:, YAW]
    np.testing.assert_allclose(offset, offset[0], atol=1e-3)


def test_a_keyframe_leads_back_to_the_own_course():
    track = moving_track(150)
    keys = [Keyframe(2.0, {"yaw_deg": 25.0, "eyes": 0.0}), Keyframe(4.0)]
    turned = track.with_keyframes(keys)
    assert turned.pose[50, YAW] == pytest.approx(25, abs=1e-3) and turned.blink[50].max() < 1e-5
    np.testing.assert_allclose(turned.pose[100:], track.pose[100:], **EXACT)
    np.testing.assert_allclose(turned.blink[100:], track.blink[100:], **EXACT)


def test_keyframed_eyes_are_a_share_of_the_eyes_at_rest():
    half = moving_track().with_keyframes([Keyframe(0.0, {"eyes": 0.5})])
    np.testing.assert_allclose(half.blink, 0.5 * np.tile(REST.blink, (100, 1)), **EXACT)


@pytest.mark.parametrize("kind", GESTURES)
def test_a_gesture_moves_its_own_number_its_own_way_and_comes_back(kind):
    still = still_track(150)
    gesture = Gesture(kind, at_s=1.0, times=2)
    moved = still.with_gestures([gesture])
    shape, end = GESTURES[kind], round((1 + gesture.length_s) * FPS)
    for part, before in ((moved.pose, still.pose), (moved.blink, still.blink)):
        np.testing.assert_allclose(part[:26], before[:26], **EXACT)
        np.testing.assert_allclose(part[end:], before[end:], **EXACT)
    if not shape.number:
        assert len(find_blinks(moved.blink)) == 2 and not differs(still, moved).any()
        return
    assert [POSE_NAMES[column] for column in np.flatnonzero(differs(still, moved))] == [shape.number]
    offset = (moved.pose - still.pose)[:, POSE_NAMES.index(shape.number)] / shape.degrees
    # at 25 frames per second the furthest moment of a short gesture lies between two frames
    assert 0.85 < offset.max() <= 1.001
    assert offset.min() >= (-1.001 if kind == "shake" else -1e-4)
    np.testing.assert_array_equal(moved.blink, still.blink)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_nod_is_nodded_as_often_as_asked(times):
    pitch = still_track(200).with_gestures([Gesture("nod", 1.0, times)]).pose[:, PITCH] - REST.pose[PITCH]
    is_down = pitch > 4
    assert np.sum(is_down[1:] & ~is_down[:-1]) == times


@given(tracks, st.sampled_from(sorted(GESTURES)), st.floats(0, 0.5), st.floats(0.2, 0.6))
def test_no_gesture_jerks(track, kind, at_s, duration_s):
    moved = track.with_gestures([Gesture(kind, at_s, 1, None, duration_s)])
    degrees = abs(GESTURES[kind].degrees)
    # the fastest is a shake: 2 pi degrees in its duration; a frame's share of it and some more
    assert np.abs(np.diff(moved.pose - track.pose, axis=0)).max() <= 7.5 * degrees / (duration_s * FPS) + 1e-3


def test_how_far_a_gesture_goes_can_be_said():
    right = still_track().with_gestures([Gesture("look right", 0.5, degrees=30, duration_s=2.5)])
    assert (right.pose[:, YAW] - REST.pose[YAW]).min() == pytest.approx(-30, abs=1e-3)


@given(tracks, st.floats(0.1, 2))
@settings(max_examples=20)
def test_clips_join_where_their_ends_are_given(track, ease_s):
    idle = moving_track(90, seed=7, blinks_at=(30,))
    talk = track.joined(idle.state(-1), idle.state(0), ease_s)
    for one, other, frame, other_frame in ((talk, idle, 0, -1), (talk, idle, -1, 0)):
        np.testing.assert_allclose(one.pose[frame], other.pose[other_frame], **EXACT)
        np.testing.assert_allclose(one.blink[frame], other.blink[other_frame], **EXACT)
    reach = int(np.ceil(min(ease_s, track.duration_s / 2) * FPS)) + 1
    middle = slice(reach, track.num_frames - reach)
    np.testing.assert_allclose(talk.pose[middle], track.pose[middle], **EXACT)


def test_a_track_moves_another_face_from_its_own_rest():
    other = replace(REST, pose=np.array([-10.0, 5, 0, 4e-4, 50, 60]), blink=np.array([0.2, 0.2]))
    track = moving_track()
    moved = track.onto(other)
    np.testing.assert_allclose(moved.pose - other.pose, track.pose - REST.pose, **EXACT)
    np.testing.assert_allclose(moved.blink - other.blink, track.blink - REST.blink, **EXACT)
    np.testing.assert_allclose(moved.onto(REST).pose, track.pose, **EXACT)


def test_head_and_blinks_can_be_anothers_alone():
    track, other = moving_track(50), moving_track(80, seed=5, blinks_at=(10,))
    headed, blinking = track.with_head_of(other), track.with_blinks_of(other)
    np.testing.assert_allclose(headed.pose, other.pose[:50], **EXACT)
    np.testing.assert_array_equal(headed.blink, track.blink)
    np.testing.assert_allclose(blinking.blink, other.blink[:50], **EXACT)
    np.testing.assert_array_equal(blinking.pose, track.pose)
    with pytest.raises(ValueError, match="`motion` lasts 2.00 s .50 frames., the clip 3.20 s"):
        other.with_head_of(track)


def test_a_track_is_not_changed_by_its_edits_nor_by_its_giver():
    pose, blink = np.zeros((5, 6), np.float32), np.ones((5, 2), np.float32)
    track = MotionTrack(pose, blink)
    pose[:] = 9
    track.turned(5).with_blink_rate(1)
    assert track.pose.max() == 0 and track.duration_s == 0.2
    with pytest.raises(ValueError, match="read-only"):
        track.pose[0] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: MotionTrack(np.zeros((5, 5)), t.blink), r"`pose` is \(5, 5\), must be \(F, 6\)"),
        (lambda t: MotionTrack(t.pose[:0], t.blink[:0]), r"`pose` is \(0, 6\)"),
        (lambda t: MotionTrack(t.pose, t.blink[:3]), "`pose` has 100 frames, `blink` 3"),
        (lambda t: MotionTrack(t.pose * np.nan, t.blink), "`pose` holds values that are not finite"),
        (lambda t: MotionTrack(t.pose, t.blink + 1e30), "`blink` holds values up to 1e.30, must be at most 10000"),
        (lambda t: MotionTrack(t.pose, t.blink, rest_pose=[0]), r"`rest_pose` is \(1,\), must be \(6,\)"),
        (lambda t: MotionTrack("text", t.blink), "`pose` is a str, must be numbers"),
        (lambda t: MotionTrack([[1], [1, 2]], t.blink), "`pose` is a list, must be numbers"),
        (lambda t: t.scaled(head=3), r"`head` is 3, must be a number in \[0, 2\]"),
        (lambda t: t.scaled(blinks=np.nan), "`blinks` is nan"),
        (lambda t: t.turned(yaw_deg=91), "`yaw_deg` is 91, must be from -90 to 90"),
        (lambda t: t.with_blink_rate(9), "`per_s` is 9, must be from 0 to 1.25"),
        (lambda t: t.smoothed(-1), "`duration_s` is -1"),
        (lambda t: t.limited(yaw_deg=(5, 4)), r"`yaw_deg` is limited to \(5, 4\)"),
        (lambda t: t.limited(nose=(4, 5)), "`nose` is not known, must be one of yaw_deg"),
        (lambda t: Keyframe(-1.0), "`at_s` of a keyframe is -1"),
        (lambda t: Keyframe(1.0, {"nose": 1}), "`nose` is not known, must be one of yaw_deg"),
        (lambda t: Keyframe(1.0, {"eyes": 3}), "`eyes` is 3, must be from 0 to 2"),
        (lambda t: t.with_keyframes([Keyframe(4.1, {"eyes": 1})]), "a keyframe is at 4.1 s, the clip ends at 4.00 s"),
        (
            lambda t: t.with_gestures([Gesture("nod", 3.9)]),
            "`nod` from 3.90 to 4.50 s does not fit: .* ends at 4.00 s",
        ),
        (lambda t: Gesture("jump"), "`kind` is 'jump', must be one of nod"),
        (lambda t: Gesture("nod", -1), "`at_s` is -1"),
        (lambda t: Gesture("nod", times=0), "`times` is 0, must be a whole number from 1 to 20"),
        (lambda t: Gesture("nod", degrees=90), r"`degrees` of nod is 90, must be in \(0, 60\]"),
        (lambda t: Gesture("blink", degrees=9), "`degrees` of blink is 9, must be left out"),
        (lambda t: Gesture("nod", duration_s=0), "`duration_s` of nod is 0"),
        (lambda t: t.scaled(head="big"), "`head` is 'big', must be a number"),
        (lambda t: t.scaled(blinks=True), "`blinks` is True, must be a number"),
        (lambda t: t.turned(roll_deg=None), "`roll_deg` is None, must be from -90"),
        (lambda t: t.with_blink_rate([1]), r"`per_s` is \[1\], must be"),
        (lambda t: t.with_blink_rate(0.3, -1), "`seed` is -1, must be a whole number from 0"),
        (lambda t: t.with_blink_rate(0.3, "x"), "`seed` is 'x', must be a whole number from 0"),
        (lambda t: t.smoothed("1"), "`duration_s` is '1', must be"),
        (lambda t: t.limited(yaw_deg=5), "`yaw_deg` is limited to 5, must be a smaller and a larger number"),
        (lambda t: t.limited(eyes=("a", 1)), r"`eyes` is limited to \('a', 1\)"),
        (lambda t: t.first("all"), "`num_frames` is 'all', must be a whole number"),
        (lambda t: t.first(2.5), "`num_frames` is 2.5, must be a whole number"),
        (lambda t: Keyframe("1 s"), "`at_s` of a keyframe is '1 s'"),
        (lambda t: Keyframe(1.0, {"yaw_deg": "left"}), "`yaw_deg` is 'left', must be from -90"),
        (lambda t: Gesture(5), "`kind` is 5, must be one of nod"),
        (lambda t: Gesture("nod", "now"), "`at_s` is 'now'"),
        (lambda t: Gesture("nod", times="two"), "`times` is 'two'"),
        (lambda t: Gesture("nod", degrees="far"), "`degrees` of nod is 'far'"),
        (lambda t: Gesture("nod", duration_s=np.nan), "`duration_s` of nod is nan"),
        (lambda t: t.joined(end=5), "`end` is a int, must be a pose and an openness"),
        (lambda t: t.joined(t.state(0), ease_s=0), "`ease_s` is 0, must be 0.04 s at least"),
        (lambda t: MotionTrack(torch.empty(6, 6, device="meta"), t.blink), "`pose` is a Tensor, must be numbers"),
        (lambda t: MotionTrack(torch.zeros(6, 6).to_sparse(), t.blink), "`pose` is a Tensor, must be numbers"),
        (lambda t: t.onto("x"), "`face` is a str, must be a FaceState"),
        (lambda t: t.onto(replace(REST, pose="x")), "`face.pose` is a str, must be numbers"),
        (lambda t: t.first(3.0), "`num_frames` is 3.0, must be a whole number"),
        (lambda t: t.with_head_of(None), "`other` is a NoneType, must be a MotionTrack"),
        (lambda t: t.with_blinks_of("x"), "`other` is a str, must be a MotionTrack"),
        (lambda t: t.with_keyframes(Keyframe(0.0)), "`keyframes` is a Keyframe, must be a list of Keyframe"),
        (lambda t: t.with_keyframes([{"at_s": 0}]), "`keyframes` is a list of dict, must be a list of Keyframe"),
        (lambda t: t.with_gestures("nod"), "`gestures` is a str, must be a list of Gesture"),
        (lambda t: Keyframe(0.0, [1]), r"`values` of a keyframe is \[1\], must be numbers by name"),
        (lambda t: t.state("x"), "`frame` is 'x', must be a frame's number below 100"),
        (lambda t: t.state(100), "`frame` is 100, must be"),
        (lambda t: t.joined(([1, 2], [1, 1])), "`start` is .2,., .2,., must be pose .6,. and openness .2,."),
    ],
)
def test_what_cannot_be_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make(moving_track())


def test_a_track_that_is_too_short_is_an_error_that_says_both_durations():
    with pytest.raises(ValueError, match=r"`track` lasts 2.00 s \(50 frames\), the clip 3.20 s \(80 "):
        check_track_length(50, 80)


@pytest.mark.parametrize("num_frames", [0, -1])
def test_no_frames_are_an_error(num_frames):
    with pytest.raises(ValueError, match="`num_frames` is"):
        check_track_length(5, num_frames)


@given(st.integers(1, 99), st.sampled_from([*GESTURES]), st.floats(0, 5), st.integers(1, 3))
def test_a_gesture_on_the_later_frames_alone_is_the_same(first, kind, at_s, times):
    gesture, track = Gesture(kind, at_s, times), moving_track()
    whole = gesture.apply(track.pose, track.blink)
    for part, all_frames in zip(gesture.apply(track.pose[first:], track.blink[first:], first), whole, strict=True):
        np.testing.assert_array_equal(part, all_frames[first:])
