"""Whether differences between pairs are more than chance, by flipping their signs; nothing here knows reports."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# up to so many pairs every combination of signs is tried
MOST_TRIED_PAIRS = 14
NUM_DRAWS = 20_000
DRAWS_AT_ONCE = 1_000
COVERAGE = 0.95
# sums of equal numbers in another order differ in their last bits
ROUNDING = 1e-9


class FlipTest(NamedTuple):
    """What differences between pairs say.

    Attributes:
        mean: Their mean.
        margin: Half the length of its 95 % interval.
        p: How often as large a mean, or a larger one, comes about when each sign is chance.
    """

    mean: float
    margin: float
    p: float


def flip_signs(differences: np.ndarray) -> FlipTest:
    """Test whether paired differences have a mean of zero (Fisher 1935), and find how far their mean is known.

    If neither of a pair is better, the sign of its difference is chance. For the interval, the signs of what is left
    of the differences without their mean are flipped (the wild bootstrap, Wu 1986).

    Args:
        differences: One per pair (N,), at least 2, finite.

    Returns:
        The test. Equal differences give equal results: what is drawn comes from a fixed seed.
    """
    num_pairs, mean = len(differences), float(differences.mean())
    # the mean is one of as many unknowns as there are pairs
    rest = (differences - mean) * np.sqrt(num_pairs / (num_pairs - 1))
    flipped, spread = [], []
    for signs in _signs(num_pairs):
        flipped.append(np.abs(signs @ differences) / num_pairs)
        spread.append(np.abs(signs @ rest) / num_pairs)
    means = np.concatenate(flipped)
    as_large = means >= abs(mean) - ROUNDING * np.abs(differences).max()
    # what was measured is one of the possible draws
    p = as_large.mean() if num_pairs <= MOST_TRIED_PAIRS else (1 + as_large.sum()) / (1 + len(means))
    return FlipTest(mean, float(np.quantile(np.concatenate(spread), COVERAGE)), float(p))


def smallest_p(num_pairs: int) -> float:
    """Compute how small p can become if all pairs differ in one direction."""
    return 2.0 ** (1 - num_pairs)


def adjust_for_number(p_values: Sequence[float]) -> list[float]:
    """Raise p values so that among all of them a chance finding is as rare as in a single one (Holm 1979).

    Args:
        p_values: Those of all tests that were made.

    Returns:
        The adjusted values in the same order, at most 1.
    """
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        least = max(least, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = float(least)
    return adjusted


def _signs(num_pairs: int) -> list[np.ndarray]:
    """Rows of signs (R, N): all combinations, or random ones."""
    if num_pairs <= MOST_TRIED_PAIRS:
        bits = np.arange(2**num_pairs)[:, None] >> np.arange(num_pairs) & 1
        return [1.0 - 2.0 * bits]
    draw = np.random.default_rng(0).integers
    return [1.0 - 2.0 * draw(2, size=(DRAWS_AT_ONCE, num_pairs)) for _ in range(NUM_DRAWS // DRAWS_AT_ONCE)]
