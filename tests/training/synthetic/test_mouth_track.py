import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synthetic.mouth_track import mouth_track
from training.synthetic.phonemes import CLASS_INDEX, PHONEME_CLASSES, ClassSegment

JAW, WIDTH, ROUND, PRESS = range(4)


def said(*phonemes, stressed=True):
    """Segments of (name, length in seconds), after a little silence."""
    segments, time_s = [ClassSegment(0, 0.0, 0.2)], 0.2
    for name, length_s in phonemes:
        segments.append(ClassSegment(CLASS_INDEX[name], time_s, time_s + length_s, stressed))
        time_s += length_s
    return segments


def gap(track):
    """How far the lips are apart: pressing closes them against the jaw."""
    return track[..., JAW] * (1 - track[..., PRESS])


def test_long_sounds_reach_their_shapes():
    track = mouth_track(said(("aa", 0.4), ("uw", 0.4), ("iy", 0.4)), 40)
    for name, time_s in (("aa", 0.4), ("uw", 0.8), ("iy", 1.2)):
        np.testing.assert_allclose(track[int(time_s * 25)], PHONEME_CLASSES[CLASS_INDEX[name]].mouth, atol=1e-6)
    assert track.shape == (40, 4) and track.dtype == np.float32


def test_silence_closes_the_mouth():
    track = mouth_track(said(("aa", 0.4)), 40)
    assert gap(track)[:3].max() < 1e-6 and gap(track)[18:].max() < 1e-6


def test_frames_show_the_middle_of_their_time_and_lips_lead():
    # the opening is half done where the target changes, 30 ms before the sound
    change_s = 0.5
    segments = [ClassSegment(0, 0.0, change_s), ClassSegment(CLASS_INDEX["aa"], change_s, 2.0, stressed=True)]
    jaw = mouth_track(segments, 40)[:, JAW]
    centres_s = (np.arange(40) + 0.5) / 25
    half_open_s = np.interp(0.5, jaw, centres_s)
    assert half_open_s == pytest.approx(change_s - 0.03, abs=0.006)


@given(
    st.sampled_from("pbm"),
    st.floats(0.1, 0.5),
    st.floats(0.004, 0.15),
    st.sampled_from(["aa", "ae", "iy", "uw"]),
    st.sampled_from(["aa", "ao", "eh"]),
)
def test_lips_meet_in_every_closure_however_short(consonant, before_s, length_s, vowel_before, vowel_after):
    segments = said((vowel_before, before_s), (consonant, length_s), (vowel_after, 0.4))
    closure = segments[2]
    track = mouth_track(segments, 40)
    centres_s = (np.arange(40) + 0.5) / 25
    length_s *= 0.5 if consonant == "p" else 1
    near = np.abs(centres_s - (closure.start_s + length_s / 2)) <= 0.04 + length_s / 2
    assert gap(track)[near].min() == 0
    # and the vowel after it opens again
    assert gap(track)[int((closure.end_s + 0.2) * 25)] > 0.5


def test_closure_between_two_frames_is_moved_to_the_nearer():
    # frame centres are at 0.50 and 0.54 s; this closure is over before the second
    segments = said(("aa", 0.325), ("b", 0.008), ("aa", 0.4))
    track = mouth_track(segments, 40)
    assert np.flatnonzero(gap(track)[6:20] == 0).tolist() == [12 - 6]


def test_neighbours_shape_what_the_lips_do_not_care_about():
    # k before "oo" is round, before "ee" spread
    before_oo, before_ee = (mouth_track(said(("ax", 0.1), ("k", 0.08), (vowel, 0.2)), 20)[8] for vowel in ("uw", "iy"))
    assert before_oo[ROUND] > 0.5 > 0.1 > before_ee[ROUND]
    assert before_ee[WIDTH] > 0.5 > before_oo[WIDTH]


def test_vowels_without_stress_open_less():
    stressed, unstressed = (mouth_track(said(("aa", 0.3), stressed=stress), 20)[8, JAW] for stress in (True, False))
    assert 0.7 * stressed < unstressed < 0.9 * stressed


@given(st.lists(st.tuples(st.sampled_from(list(CLASS_INDEX)), st.floats(0.005, 0.3)), max_size=12), st.integers(1, 60))
def test_track_stays_in_range(phonemes, num_frames):
    track = mouth_track(said(*phonemes), num_frames)
    assert track.shape == (num_frames, 4) and track.min() >= 0 and track.max() <= 1


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="`num_frames` is 0, must be positive"):
        mouth_track([], 0)
