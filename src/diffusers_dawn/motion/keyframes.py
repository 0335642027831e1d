"""Keyframes of the head and eyes: what some numbers of a track shall be at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..ranges import is_between
from ..records import POSE_NAMES
from .gestures import MOST_SECONDS

ANGLES = POSE_NAMES[:3]
# openness of both eyes beside the pose's numbers; 1 is how open they are at rest
EYES = "eyes"


@dataclass(frozen=True)
class Keyframe:
    """What some numbers of a track shall be at a time.

    Attributes:
        at_s: The time [s].
        values: Angles by their names in `records.POSE_NAMES` [degrees], and "eyes": 0 is shut, 1 as at rest. None: all
            goes back to what it was without keyframes.

    Raises:
        ValueError: One of them is not allowed.
    """

    at_s: float
    values: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Refuse what no head does."""
        if not is_between(self.at_s, 0, MOST_SECONDS):
            raise ValueError(f"`at_s` of a keyframe is {self.at_s!r}, must be a time from 0 to {MOST_SECONDS:g}")
        if not (self.values is None or isinstance(self.values, Mapping)):
            raise ValueError(f"`values` of a keyframe is {self.values!r}, must be numbers by name, or None")
        for name, value in (self.values or {}).items():
            check_number(name, value, (*ANGLES, EYES))


def check_number(name: str, value: float, names: Sequence[str]) -> None:
    """Refuse what no head does.

    Args:
        name: Name of the number.
        value: Its value.
        names: Names that are allowed.

    Raises:
        ValueError: The name is not known, or the value is out of range.
    """
    if name not in names:
        raise ValueError(f"`{name}` is not known, must be one of {', '.join(names)}")
    low, high = (0, 2) if name == EYES else (-90, 90)
    if not is_between(value, low, high):
        raise ValueError(f"`{name}` is {value!r}, must be from {low} to {high}")
