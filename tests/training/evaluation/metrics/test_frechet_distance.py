import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics.frechet_distance import (
    FeatureStatistics,
    frechet_distance,
    jackknife_interval,
    window_starts,
)


def statistics_of(features: np.ndarray, batch_size: int = 1000) -> FeatureStatistics:
    found = FeatureStatistics()
    for start in range(0, len(features), batch_size):
        found.update(features[start : start + batch_size])
    return found


def whitened(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Features whose mean is exactly 0 and whose covariance is exactly the identity."""
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    orthonormal, _ = np.linalg.qr(drawn - drawn.mean(axis=0))
    return orthonormal * np.sqrt(count - 1)


def random_features(count: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_distance_of_known_gaussians_is_the_closed_form():
    white = whitened(200, 4)
    first = statistics_of(white * (1, 2, 3, 0.5) + (1, 0, 0, 0))
    second = statistics_of(white * (2, 2, 1, 0.0) + (0, 0, 5, 0))
    # covariances on the same axes: |m1 - m2|^2 plus the squared differences of the standard deviations
    assert frechet_distance(first, second) == pytest.approx(1 + 25 + 1 + 0 + 4 + 0.25)


def test_distance_does_not_need_common_axes():
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2)))
    white = whitened(50, 2)
    first, second = np.diag([1.0, 9]), turn @ np.diag([4.0, 1]) @ turn.T
    # of 2 x 2 matrices tr (AB)^(1/2) = (tr AB + 2 (det AB)^(1/2))^(1/2)
    product = first @ second
    shared = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(first) + np.trace(second) - 2 * shared
    roots = [np.linalg.cholesky(covariance).T for covariance in (first, second)]
    assert frechet_distance(*(statistics_of(white @ root) for root in roots)) == pytest.approx(expected)


@given(seed=st.integers(0, 1000), count=st.integers(2, 40), width=st.integers(1, 30))
def test_identical_sets_have_no_distance_also_with_fewer_features_than_dimensions(seed, count, width):
    features = random_features(count, width, seed)
    scale = np.square(features - features.mean(axis=0)).sum() / (count - 1)
    assert frechet_distance(statistics_of(features), statistics_of(features.copy())) <= 1e-9 * scale


def test_a_shift_alone_counts_squared():
    features = random_features(10, 30, 0)
    assert frechet_distance(statistics_of(features), statistics_of(features + 2)) == pytest.approx(30 * 4)


@given(seed=st.integers(0, 1000), batch_size=st.integers(1, 60))
def test_neither_batch_size_nor_order_change_the_distance(seed, batch_size):
    features, other = random_features(50, 6, seed), statistics_of(random_features(40, 6, seed + 1))
    shuffled = np.random.default_rng(seed).permutation(features)
    expected = frechet_distance(statistics_of(features), other)
    assert frechet_distance(statistics_of(shuffled, batch_size), other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, statistics_of(shuffled, batch_size)) == pytest.approx(expected, rel=1e-9)


def test_statistics_are_those_of_numpy_also_far_from_zero():
    features = random_features(60, 5, 2) + 1e6
    found = statistics_of(features, 7)
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), np.cov(features, rowvar=False), rtol=1e-6)


def test_features_all_alike_have_a_distance():
    same = statistics_of(np.ones((5, 3)))
    assert frechet_distance(same, same) == 0
    assert frechet_distance(same, statistics_of(np.zeros((5, 3)))) == pytest.approx(3)


def test_features_that_do_not_fit_are_refused():
    found = statistics_of(np.zeros((2, 4)))
    for features in (np.zeros(4), np.zeros((3, 5)), np.zeros((0, 4))):
        with pytest.raises(ValueError, match=r"`features` is .*, must be \(N, 4\)"):
            found.update(features)
    with pytest.raises(ValueError, match=r"`features` is .*, must be \(N, D\)"):
        FeatureStatistics().update(np.zeros((3, 0)))
    with pytest.raises(ValueError, match="`features` has values that are not finite"):
        found.update(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="must come at least twice"):
        statistics_of(np.zeros((1, 4))).covariance()
    with pytest.raises(ValueError, match="`first` has features of width 4, `second` of 3"):
        frechet_distance(found, statistics_of(np.zeros((2, 3))))


def test_windows_do_not_overlap_and_a_rest_is_left_out():
    assert list(window_starts(50, 16)) == [0, 16, 32]
    assert list(window_starts(16, 16)) == [0] and not window_starts(15, 16)
    with pytest.raises(ValueError, match="`length` is 0"):
        window_starts(5, 0)


def drawn_clips(rng: np.random.Generator, num_clips: int, shift: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features of 10 pictures of each clip, which are more alike than those of two clips."""
    made, real = (rng.normal(size=(num_clips, 10, 2)) + rng.normal(size=(num_clips, 1, 2)) for _ in range(2))
    return list(zip(made + shift, real, strict=True))


def distance_of(clips: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return frechet_distance(*(statistics_of(np.concatenate(side)) for side in zip(*clips, strict=True)))


def test_intervals_hold_the_distance_of_all_clips_that_there_could_be():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        clips = drawn_clips(rng, 40, 1.0)
        low, high = jackknife_interval(distance_of(clips), clips)
        held.append(low <= 2.0 <= high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_more_clips_make_an_interval_narrower():
    rng = np.random.default_rng(0)
    widths = [
        np.mean([np.subtract(*reversed(jackknife_interval(10.0, drawn_clips(rng, count, 1.0)))) for _ in range(6)])
        for count in (20, 160)
    ]
    assert 2 < widths[0] / widths[1] < 4  # the root of eight times as many


def test_few_clips_have_no_interval():
    clips = drawn_clips(np.random.default_rng(0), 4, 0.0)
    assert jackknife_interval(0.0, clips[:3]) is None
    assert jackknife_interval(0.0, clips)[0] == 0.0
