import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics.track_agreement import best_lag, pearson_correlation


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@given(scale=st.floats(0.01, 100), offset=st.floats(-100, 100))
def test_correlation_does_not_depend_on_scale_and_offset(scale, offset):
    track = rand(50).double()
    assert pearson_correlation(track, scale * track + offset).item() == pytest.approx(1, abs=1e-6)
    assert pearson_correlation(track, -scale * track + offset).item() == pytest.approx(-1, abs=1e-6)


def test_correlation_is_that_of_numpy_for_each_track():
    first, second = rand(3, 40), rand(3, 40, seed=1)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_correlation(first.numpy(), second.numpy()), expected, atol=1e-6)


def test_correlation_with_a_constant_is_undefined():
    assert pearson_correlation(torch.full((40,), 0.1), rand(40)).isnan()


@pytest.mark.parametrize("lag", [-5, -1, 0, 3])
def test_lag_is_found_and_positive_where_the_second_comes_later(lag):
    track = rand(80)
    first, second = track[10:60], track[10 - lag : 60 - lag]
    found, correlation = best_lag(first, second, 8)
    assert found == lag and correlation == pytest.approx(1)


def test_of_equal_lags_the_nearest_to_zero_is_taken():
    periodic = torch.sin(torch.arange(60) * 2 * math.pi / 5)
    assert best_lag(periodic, periodic, 12)[0] == 0
    lag, correlation = best_lag(torch.full((20,), 0.3), rand(20), 4)
    assert lag == 0 and math.isnan(correlation)


def test_tracks_that_do_not_fit_are_refused():
    for first, second in ((rand(5), rand(6)), (rand(1), rand(1))):
        for metric in (pearson_correlation, lambda a, b: best_lag(a, b, 0)):
            with pytest.raises(ValueError, match="`first` is .* and `second`"):
                metric(first, second)
    with pytest.raises(ValueError, match=r"`first` is \(2, 5\), must be \(F,\)"):
        best_lag(rand(2, 5), rand(2, 5), 1)
    for max_lag in (-1, 4):
        with pytest.raises(ValueError, match=f"`max_lag` is {max_lag}, must be within 0 and 3"):
            best_lag(rand(5), rand(5), max_lag)
