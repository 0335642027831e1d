"""Tell whether what a caller gives is a whole number, a number in a range, or of the right class."""

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


def check_counts(**counts: int) -> None:
    """Refuse counts that are no whole numbers from 1 on.

    Args:
        **counts: The counts, by their argument names.

    Raises:
        ValueError: One of them is something else.
    """
    for name, count in counts.items():
        if not is_whole_number(count) or count < 1:
            raise ValueError(f"`{name}` is {count!r}, must be a whole number from 1")


def check_class(name: str, value: Any, wanted: type) -> None:
    """Refuse a value of another class.

    Args:
        name: Argument name for the message.
        value: The value.
        wanted: Its class.

    Raises:
        ValueError: It is of another one.
    """
    if not isinstance(value, wanted):
        raise ValueError(f"`{name}` is a {type(value).__name__}, must be a {wanted.__name__}")


def check_list(name: str, values: Any, wanted: type) -> None:
    """Refuse what is no list or tuple, or holds something of another class.

    Args:
        name: Argument name for the message.
        values: The list.
        wanted: Class of what it holds.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(value, wanted) for value in values):
        held = f" of {type(values[0]).__name__}" if isinstance(values, list | tuple) and values else ""
        raise ValueError(f"`{name}` is a {type(values).__name__}{held}, must be a list of {wanted.__name__}")
