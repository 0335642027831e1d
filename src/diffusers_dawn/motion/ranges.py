"""Tell whether what a caller gives is a number in a range."""

from numbers import Real
from typing import Any


def is_between(value: Any, low: float, high: float) -> bool:
    """Tell whether a value is a number, and neither a truth value nor NaN, from one limit to another."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(low <= value <= high)
