import math
from fractions import Fraction

import numpy as np

from diffusers_dawn.ranges import is_between, is_whole_number


def test_whole_numbers_are_those_of_python_and_numpy_and_neither_truth_values_nor_floats():
    assert all(map(is_whole_number, (0, -3, np.int64(5), np.uint8(5))))
    assert not any(map(is_whole_number, (True, np.bool_(True), 5.0, np.float32(5), "5", None)))


def test_limits_count_as_between_and_nan_and_truth_values_do_not():
    assert all(is_between(value, 0, 1) for value in (0, 1, 0.5, np.float32(0.5), Fraction(1, 2)))
    assert not any(is_between(value, 0, 1) for value in (-0.1, 2, math.nan, True, "0.5", None))
