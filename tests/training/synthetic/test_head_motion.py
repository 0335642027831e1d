import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.synthetic.head_motion import WANDER, accent_frames, blink_track, head_states, speech_energy

SEEDS = st.integers(0, 2**63)


def syllables(num_frames, every=8):
    """Loudness with a peak every so many frames."""
    return 0.5 + 0.5 * np.cos(2 * np.pi * np.arange(num_frames) / every)


def motion(num_frames=100, seed=0, energy=None):
    mouth = np.random.default_rng(seed).uniform(0, 1, (num_frames, 4))
    return mouth, head_states(mouth, syllables(num_frames) if energy is None else energy, seed)


def lively(factor):
    return head_states(np.zeros((200, 4)), np.zeros(200), 5, liveliness=factor)


def track(states, name):
    return np.array([getattr(state, name) for state in states])


def num_blinks(openness):
    closed = np.concatenate([[False], openness < 0.5])
    return int(np.sum(closed[1:] & ~closed[:-1]))


@given(SEEDS, st.integers(32, 500))
def test_blink_rate_is_natural_in_every_clip(seed, num_frames):
    # from 1.25 s on a whole number of blinks fits in between
    rate = num_blinks(blink_track(num_frames, np.random.default_rng(seed))) / (num_frames / 25)
    assert 0.2 <= rate <= 0.8


def test_short_clips_blink_at_a_natural_rate_on_average():
    counts = [num_blinks(blink_track(20, np.random.default_rng(seed))) for seed in range(500)]
    assert 0.2 < np.mean(counts) / 0.8 < 0.8 and max(counts) == 1


def blinks_of(openness):
    """Frames of every blink that begins and ends within the clip."""
    moving = np.flatnonzero(openness < 0.999)
    blinks = np.split(moving, np.flatnonzero(np.diff(moving) > 1) + 1) if len(moving) else []
    return [blink for blink in blinks if blink[0] > 0 and blink[-1] < len(openness) - 1]


@given(SEEDS)
def test_blinks_close_the_lids_completely_and_last_two_to_six_frames(seed):
    openness = blink_track(250, np.random.default_rng(seed))
    for blink in blinks_of(openness):
        assert 2 <= len(blink) <= 6 and openness[blink].min() == 0


def test_lids_close_faster_than_they_open():
    closing, opening = [], []
    for seed in range(50):
        openness = blink_track(250, np.random.default_rng(seed))
        for blink in blinks_of(openness):
            closed = blink[openness[blink] == 0]
            closing.append(closed[0] - blink[0])
            opening.append(blink[-1] - closed[-1])
    assert 0.5 < np.mean(closing) < 0.7 * np.mean(opening)


@given(SEEDS)
def test_head_stays_in_a_natural_range(seed):
    _, states = motion(60, seed)
    limits = {
        "yaw_deg": (-30, 30),
        "pitch_deg": (-15, 22),
        "roll_deg": (-11, 11),
        "scale": (0.92, 1.08),
        "x_cm": (-2, 2),
        "y_cm": (-1.5, 1.5),
        "eye_left": (0, 1),
        "eye_right": (0, 1),
        "gaze_x_rad": (-0.5, 0.5),
        "gaze_y_rad": (-0.3, 0.3),
        "brow": (-1, 1),
        "smile": (0, 0.6),
    }
    for name, (low, high) in limits.items():
        values = track(states, name)
        assert low <= values.min() and values.max() <= high, name
    # smoothly: a turn of 45 degrees takes half a second at least
    assert np.abs(np.diff(track(states, "yaw_deg"))).max() < 4


def test_mouth_is_taken_over():
    mouth, states = motion()
    columns = [track(states, name) for name in ("jaw", "mouth_width", "mouth_round", "mouth_press")]
    np.testing.assert_array_equal(np.stack(columns, axis=1), mouth)


def test_same_seed_gives_the_same_motion_and_another_seed_another():
    assert motion(seed=5)[1] == motion(seed=5)[1]
    assert motion(seed=5)[1] != motion(seed=6)[1]


def test_head_nods_with_loud_syllables():
    # 100 clips with the same loud syllable in the middle: on average the head is lower then
    energy = np.exp(-0.5 * ((np.arange(50) - 25) / 2) ** 2)
    pitch_deg = np.mean([track(motion(50, seed, energy)[1], "pitch_deg") for seed in range(100)], axis=0)
    brow = np.mean([track(motion(50, seed, energy)[1], "brow") for seed in range(100)], axis=0)
    assert pitch_deg[25:29].mean() > np.concatenate([pitch_deg[:15], pitch_deg[38:]]).mean() + 1
    assert brow[25:29].mean() > np.concatenate([brow[:15], brow[38:]]).mean() + 0.08


def test_eyes_make_up_for_the_turning_of_the_head():
    yaw_deg, gaze_rad = (
        np.concatenate([track(motion(100, seed)[1], name) for seed in range(20)]) for name in ("yaw_deg", "gaze_x_rad")
    )
    # the nose turned to the image's left, the eyes turn to its right
    assert np.corrcoef(yaw_deg, gaze_rad)[0, 1] > 0.6


def test_energy_is_one_where_it_is_loudest_and_follows_the_sound():
    samples = np.zeros(640 * 20, np.float32)
    samples[640 * 10 : 640 * 11] = 0.2
    energy = speech_energy(samples, 20)
    assert energy.max() == energy[10] == 1 and energy[:7].max() == energy[14:].max() == 0
    assert accent_frames(energy).tolist() == [10]
    assert speech_energy(np.zeros(640), 1).tolist() == [0]


@settings(max_examples=20)
@given(SEEDS)
def test_any_clip_length_works(seed):
    for num_frames in (1, 2, 3, 30):
        assert len(motion(num_frames, seed)[1]) == num_frames


def test_energy_of_another_length_is_refused():
    with pytest.raises(ValueError, match="`energy` has 9 frames, `mouth_track` 10"):
        head_states(np.zeros((10, 4)), np.zeros(9), 0)


def test_samples_that_are_not_the_frames_are_refused():
    with pytest.raises(ValueError, match="`samples` has shape .*; 2 frames have 1280 samples"):
        speech_energy(np.zeros(1000), 2)


def test_heads_turn_and_lean_farther_as_asked_but_never_beyond_the_same_bounds():
    for name, centre in (("yaw_deg", 12), ("pitch_deg", 6), ("roll_deg", 3), ("scale", 1.03)):
        little, far = track(lively(1), name), track(lively(2.5), name)
        assert far.std() > 1.5 * little.std()
        assert np.abs(far).max() <= WANDER[name][2] + centre
    assert np.array_equal(track(lively(1), "x_cm"), track(lively(2.5), "x_cm"))
