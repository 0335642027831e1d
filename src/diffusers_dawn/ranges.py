"""Tell whether what a caller gives is a whole number, or a number in a range."""

from numbers import Integral, Real
from typing import Any


def is_whole_number(value: Any) -> bool:
    """Tell whether a value counts something: whole numbers of Python and numpy, but neither True nor 5.0.

    Args:
        value: Anything.

    Returns:
        Whether it does.
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_between(value: Any, low: float, high: float) -> bool:
    """Tell whether a value is a number, and neither a truth value nor NaN, from one limit to another.

    Args:
        value: Anything.
        low: The least number that is allowed.
        high: The largest.

    Returns:
        Whether it is.
    """
    return isinstance(value, Real) and not isinstance(value, bool) and bool(low <= value <= high)
