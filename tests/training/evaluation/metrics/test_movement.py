import math

import numpy as np
import pytest
import torch

from training.evaluation.metrics.movement import blink_rate, mean_jerk, motion_diversity


def blinking(
    num_frames: int, closed: list[tuple[int, int]], openness: float = 0.3, shut: float = 0.05
) -> torch.Tensor:
    """Eyes that are shut in the given ranges of frames."""
    blink = torch.full((num_frames, 2), openness)
    for start, stop in closed:
        blink[start:stop] = shut
    return blink


def test_hand_made_blinks_are_counted():
    assert blink_rate(blinking(250, [(20, 24), (100, 105), (200, 203)]), 25) == pytest.approx(0.3)
    assert blink_rate(blinking(250, []), 25) == 0


def test_trembling_around_the_threshold_is_one_blink():
    blink = blinking(100, [(40, 50)])
    blink[42], blink[45] = 0.16, 0.2  # above half of the usual 0.3, below 0.7 of it
    assert blink_rate(blink, 25) == pytest.approx(0.25)


def test_half_closed_eyes_and_small_dips_are_no_blink():
    assert blink_rate(blinking(100, [(30, 40)], shut=0.18), 25) == 0


def test_eyes_closed_at_the_start_blink_only_after_they_were_open():
    assert blink_rate(blinking(100, [(0, 10)]), 25) == 0
    assert blink_rate(blinking(100, [(0, 10), (50, 54)]), 25) == pytest.approx(0.25)


def test_one_eye_alone_does_not_blink():
    blink = blinking(100, [])
    blink[40:44, 0] = 0.05
    assert blink_rate(blink, 25) == 0


def test_blink_rate_counts_per_second():
    closed = [(index * 50 + 10, index * 50 + 16) for index in range(4)]
    assert blink_rate(blinking(200, closed), 50) == pytest.approx(1.0)


def test_blinks_that_do_not_fit_are_refused():
    for blink in (torch.zeros(5), torch.zeros(0, 2), torch.zeros(5, 3)):
        with pytest.raises(ValueError, match="`blink` is"):
            blink_rate(blink, 25)
    for count in (lambda fps: blink_rate(torch.zeros(5, 2), fps), lambda fps: mean_jerk(np.zeros(5), fps)):
        with pytest.raises(ValueError, match="`fps` is 0"):
            count(0)


def test_jerk_of_a_parabola_is_nothing_and_that_of_a_cubic_is_known():
    seconds = np.arange(50) / 25
    assert mean_jerk(3 * seconds**2 - 7 * seconds + 4, 25) == pytest.approx(0, abs=1e-8)
    # the third derivative of 2 t^3 is 12, of -5 t^3 -30
    cubics = np.stack((2 * seconds**3, -5 * seconds**3), axis=1)
    assert mean_jerk(cubics[:, 0], 25) == pytest.approx(12)
    assert mean_jerk(cubics, 25) == pytest.approx(math.hypot(12, 30))


def test_jerk_does_not_depend_on_the_frame_rate():
    cubic = lambda fps: (np.arange(2 * fps) / fps) ** 3  # noqa: E731
    assert mean_jerk(cubic(25), 25) == pytest.approx(mean_jerk(cubic(50), 50))


def test_frames_that_are_missing_make_no_jerk():
    track = (np.arange(30) / 25) ** 3
    track[10], track[20] = np.nan, np.inf
    assert mean_jerk(track, 25) == pytest.approx(6)
    assert math.isnan(mean_jerk(track[8:12], 25)) and math.isnan(mean_jerk(np.zeros(3), 25))


def test_diversity_is_the_spread_over_time():
    swing = np.sin(np.arange(1000) * 2 * np.pi / 100)
    assert motion_diversity(10 * swing + 30) == pytest.approx(10 / math.sqrt(2))
    assert motion_diversity(np.stack((10 * swing, 0 * swing), axis=1)) == pytest.approx(5 / math.sqrt(2))
    assert motion_diversity(np.full((20, 3), 7.0)) == 0


def test_frames_that_are_missing_do_not_count_in_the_diversity():
    track = np.array([[1.0, 1], [np.nan, 50], [3, 3]])
    assert motion_diversity(track) == pytest.approx(1)
    assert math.isnan(motion_diversity(track[:2]))


@pytest.mark.parametrize("track", [np.zeros((2, 3, 4)), np.zeros(0), np.zeros((5, 0))])
def test_what_is_no_track_is_refused(track):
    for metric in (motion_diversity, lambda given: mean_jerk(given, 25)):
        with pytest.raises(ValueError, match="`track` is"):
            metric(track)
