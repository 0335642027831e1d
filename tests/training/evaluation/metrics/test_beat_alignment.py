import math

import numpy as np
import pytest

from training.evaluation.metrics.beat_alignment import beat_align_score, head_beats, sound_beats


def test_coincident_beats_have_full_marks_and_distance_lowers_them():
    beats_s = np.array([0.4, 1.0, 2.2])
    assert beat_align_score(beats_s, beats_s, 25) == 1
    scores = [beat_align_score(beats_s, beats_s + frames / 25, 25) for frames in (1, 2, 3, 6)]
    assert scores == pytest.approx([math.exp(-(frames**2) / 18) for frames in (1, 2, 3, 6)])


def test_each_beat_of_the_sound_counts_by_the_nearest_of_the_head():
    found = beat_align_score(np.array([1.0, 2.0]), np.array([0.2, 1.0, 3.0, 2.12]), 25)
    assert found == pytest.approx((1 + math.exp(-0.5)) / 2)


def test_a_head_that_stands_still_has_no_marks_and_silence_asks_for_none():
    still = head_beats(np.full((50, 3), 7.0), 25)
    assert len(still) == 0 and beat_align_score(np.array([1.0]), still, 25) == 0
    assert math.isnan(beat_align_score(sound_beats(np.zeros(16000), 16000), np.array([1.0]), 25))


def test_head_beats_where_it_turns_back():
    # a swing of 2 s: the speed is least at its ends, at 0.5, 1.5, 2.5 and 3.5 s
    seconds = np.arange(100) / 25
    angles = np.stack((10 * np.sin(np.pi * seconds), 4 * np.sin(np.pi * seconds), 0 * seconds), axis=1)
    assert head_beats(angles, 25) == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=1 / 25)


def test_a_head_of_few_frames_has_no_beats():
    assert len(head_beats(np.zeros((1, 3)), 25)) == len(head_beats(np.ones((3, 3)), 25)) == 0


def test_sound_beats_where_tones_begin():
    starts_s, samples = (0.5, 1.1, 2.0), np.zeros(48000)
    for start_s in starts_s:
        first = round(start_s * 16000)
        # so faint at its end that the end is no beat
        samples[first : first + 6400] = np.sin(np.arange(6400) * 0.3) * np.exp(-np.arange(6400) / 400)
    # frames of librosa's spectrum are 128 ms long
    assert sound_beats(samples, 16000) == pytest.approx(starts_s, abs=0.07)


def test_what_has_no_beats_is_refused():
    with pytest.raises(ValueError, match=r"`angles_deg` is \(5, 2\), must be \(F, 3\)"):
        head_beats(np.zeros((5, 2)), 25)
    with pytest.raises(ValueError, match="`angles_deg` is .* finite"):
        head_beats(np.full((5, 3), np.nan), 25)
    with pytest.raises(ValueError, match=r"`samples` has shape \(2, 5\)"):
        sound_beats(np.zeros((2, 5)), 16000)
    with pytest.raises(ValueError, match="`beats_s` is"):
        beat_align_score(np.zeros((2, 2)), np.zeros(2), 25)
    for refused in (lambda: beat_align_score(np.zeros(2), np.zeros(2), 0), lambda: head_beats(np.zeros((5, 3)), 0)):
        with pytest.raises(ValueError, match="`fps` is 0"):
            refused()
