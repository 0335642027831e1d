import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.face_reader import FaceReadings
from training.evaluation.figures import (
    angular_speed,
    bootstrap_interval,
    consecutive_groups,
    correlation_where_seen,
    derangement,
    face_sharpness,
    finite_mean,
    mean_quotient,
    opening_correlation,
    opening_lag,
    pauses_and_voice,
    quotient,
    slope_where_seen,
    sound_energy,
    spread_evenly,
)

TRUTH = 0.05 + 0.05 * np.abs(np.sin(np.arange(60) * 0.7)) * np.sin(np.arange(60) * 0.13 + 1)


def readings(opening):
    num_frames = len(opening)
    zeros = [np.zeros((num_frames, width)) for width in (6, 2, 4)]
    return FaceReadings(np.array(opening, np.float32), *zeros, np.zeros(num_frames), np.zeros((num_frames, 468, 2)))


def noisy(count):
    return np.random.default_rng(1).normal(0.7, 0.2, count)


def test_interval_holds_the_mean_and_shrinks_with_more_clips():
    low, high = bootstrap_interval(noisy(100))
    assert low < noisy(100).mean() < high
    # 1.96 standard errors to either side, 10 % off at most for 2000 resamples
    assert high - low == pytest.approx(2 * 1.96 * noisy(100).std() / 10, rel=0.1)
    fewer_low, fewer_high = bootstrap_interval(noisy(10))
    assert high - low < fewer_high - fewer_low


def test_interval_depends_on_its_seed_alone():
    assert bootstrap_interval(noisy(20), seed=3) == bootstrap_interval(noisy(20), seed=3)
    assert bootstrap_interval(noisy(20), seed=3) != bootstrap_interval(noisy(20), seed=4)


def test_equal_clips_have_an_interval_without_width():
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_clips_have_no_interval(values):
    assert bootstrap_interval(values) is None


def test_interval_of_a_quotient_keeps_pairs_together():
    first = noisy(30)
    assert bootstrap_interval(np.stack((2 * first, first), axis=1), statistic=mean_quotient) == pytest.approx((2, 2))


def test_quotient_that_is_undefined_has_no_interval():
    assert bootstrap_interval(np.array([[1.0, 0.0], [1.0, 0.0]]), statistic=mean_quotient) is None


@given(st.integers(2, 200), st.integers(0, 1000))
def test_every_clip_speaks_as_another_one(count, seed):
    partners = derangement(count, seed)
    assert sorted(partners) == list(range(count))
    assert all(partner != place for place, partner in enumerate(partners))
    assert partners == derangement(count, seed)


def test_single_clip_has_no_partner():
    with pytest.raises(ValueError, match="`count` is 1"):
        derangement(1)


@given(st.integers(1, 500), st.integers(1, 500))
def test_chosen_clips_are_different_and_spread_from_first_to_last(count, wanted):
    chosen = spread_evenly(count, wanted)
    assert len(set(chosen)) == len(chosen) == min(count, wanted) and chosen == sorted(chosen)
    assert chosen[0] == 0 and (wanted == 1 or chosen[-1] == count - 1)


def test_frames_without_a_face_do_not_count_in_a_correlation():
    read = 2 * TRUTH + 1
    read[[3, 4]] = np.nan
    assert correlation_where_seen(TRUTH, read) == pytest.approx(1)


def test_too_few_frames_with_a_face_correlate_by_zero():
    read = TRUTH.copy()
    read[:7] = np.nan
    assert correlation_where_seen(TRUTH, read) == 0


def test_slope_is_how_far_readings_move_for_what_is_true():
    read = 0.3 * TRUTH + 5
    read[[3, 4]] = np.nan
    assert slope_where_seen(TRUTH, read) == pytest.approx(0.3)
    assert slope_where_seen(np.full(60, 7.0), TRUTH) == 0
    read[:7] = np.nan
    assert slope_where_seen(TRUTH, read) == 0


def test_frozen_mouth_correlates_by_zero():
    assert opening_correlation(TRUTH, readings(np.full(60, 0.02))) == 0


def test_clip_whose_mouth_stays_closed_does_not_count():
    assert math.isnan(opening_correlation(np.full(60, 0.01) + 1e-4 * TRUTH, readings(TRUTH)))


def test_late_mouth_has_a_positive_lag():
    assert opening_lag(TRUTH[2:], readings(TRUTH[:-2])) == 2
    assert opening_lag(TRUTH[:-2], readings(TRUTH[2:])) == -2


def test_lag_of_a_mouth_that_is_not_seen_or_frozen_cannot_be_told():
    assert math.isnan(opening_lag(TRUTH, readings(np.full(60, np.nan))))
    assert math.isnan(opening_lag(TRUTH, readings(np.full(60, 0.02))))
    assert math.isnan(opening_lag(TRUTH[:12], readings(TRUTH[:12])))


def test_blurred_face_is_less_sharp_whatever_the_background_does():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    blurred = sharp.copy()
    blurred[:, 8:24, 8:24] = 128
    box_px = np.tile([9.0, 23.0, 9.0, 23.0], (2, 1))
    assert face_sharpness(blurred, box_px) == 0 < face_sharpness(sharp, box_px)


def test_frames_without_a_face_have_no_sharpness():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    boxes = np.array([[2.0, 10.0, 2.0, 10.0], [np.nan] * 4])
    assert face_sharpness(pictures, boxes) == face_sharpness(pictures[:1], boxes[:1])
    assert math.isnan(face_sharpness(pictures, np.full((2, 4), np.nan)))


@pytest.mark.parametrize("box", [(-9, -3, -9, -3), (30, 40, 30, 40), (5, 5, 5, 5), (-5, 99, -5, 99)])
def test_box_beyond_the_picture_is_measured_at_its_border(box):
    pictures = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    assert face_sharpness(pictures, np.array([box], float)) > 0


def test_angular_speed_is_in_degrees_per_second():
    pose = np.zeros((3, 6))
    pose[:, 0], pose[:, 2] = (0, 2, 1), (0, 0, -1)
    assert angular_speed(pose).tolist() == [[50, 0, 0], [25, 0, 25]]


def test_energy_is_the_root_mean_square_of_a_frame_and_its_neighbours():
    samples = np.repeat([0.0, 0.0, 0.6, 0.0, 0.0], 640) * np.tile([1, -1], 1600)
    assert sound_energy(samples, 5) == pytest.approx([0, 0.2, 0.2, 0.2, 0])


@pytest.mark.parametrize("num_frames", [0, 2])
def test_sound_of_another_length_is_refused(num_frames):
    with pytest.raises(ValueError, match="`samples` has shape"):
        sound_energy(np.zeros(640), num_frames)


def test_short_gap_is_no_pause_and_half_loud_is_no_speech():
    energy = np.ones(40)
    energy[5:8], energy[10:14], energy[20:26] = 0.01, 0.01, 0.2
    pauses, voice = pauses_and_voice(energy)
    assert np.flatnonzero(pauses).tolist() == [10, 11, 12, 13]
    assert not voice[5:8].any() and not voice[20:26].any() and voice.sum() == 40 - 3 - 4 - 6


def test_silence_at_the_ends_is_a_pause():
    energy = np.ones(30)
    energy[:5], energy[-5:] = 0, 0
    pauses, _ = pauses_and_voice(energy)
    assert pauses[:5].all() and pauses[-5:].all() and pauses.sum() == 10


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 300))
def test_rows_of_clips_are_consecutive_and_just_long_enough(lengths, total):
    groups = consecutive_groups(lengths, total)
    joined = [member for group in groups for member in group]
    assert joined == list(range(len(joined)))
    for group in groups:
        duration = sum(lengths[member] for member in group)
        assert duration >= total > duration - lengths[group[-1]]


def test_mean_and_quotient_are_nan_where_they_are_undefined():
    assert finite_mean([1.0, math.nan, 3.0]) == 2
    assert math.isnan(finite_mean([math.nan]))
    assert quotient(1.0, 2.0) == 0.5
    assert math.isnan(quotient(1.0, 0.0)) and math.isnan(quotient(1.0, -1.0))
