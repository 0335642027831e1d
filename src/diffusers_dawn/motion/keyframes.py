"""Keyframes of the head and eyes: what some numbers of a track shall be at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ranges import is_between
from ..records import FPS, POSE_NAMES
from .curves import ease_through, frame_times
from .gestures import MOST_SECONDS

ANGLES = POSE_NAMES[:3]
# openness of both eyes beside the pose's numbers; 1 is how open they are at rest
EYES = "eyes"
# how long the head takes from what it does anyway to a keyframe, or to a given end [s]
KEYFRAME_EASE_S = 0.8


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


def follow_keyframes(
    pose: np.ndarray,
    blink: np.ndarray,
    rest_blink: np.ndarray,
    keyframes: Sequence[Keyframe],
    own_at: Callable[[str, np.ndarray, int], float | np.ndarray],
    first_frame: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Let numbers be what keyframes say at their times; see `MotionTrack.with_keyframes`.

    Args:
        pose: Pose per frame (F, 6).
        blink: Eye openness per frame (F, 2).
        rest_blink: Openness (2,) at rest.
        keyframes: The keyframes, in any order.
        own_at: Says what a number would be at a keyframe without any: called with its name, its course over the frames
            (F,), and the number of the keyframe's frame. Where that is not known yet, the course.
        first_frame: Number of the first frame.

    Returns:
        Both, changed.
    """
    pose, blink = pose.astype(float), blink.astype(float)
    times_s = frame_times(len(pose), first_frame)

    def course(values: Mapping[int, float | np.ndarray], before: float) -> np.ndarray:
        frames = sorted(values)
        knots, through = [frame / FPS for frame in frames], [values[frame] for frame in frames]
        begin_s = max(knots[0] - KEYFRAME_EASE_S, 0.0)
        if begin_s < knots[0]:
            knots, through = [begin_s, *knots], [before, *through]
        return ease_through(times_s, knots, through)

    for name in dict.fromkeys(name for key in keyframes for name in key.values or {}):
        wanted = {
            round(key.at_s * FPS): None if key.values is None else key.values[name]
            for key in sorted(keyframes, key=lambda key: key.at_s)
            if key.values is None or name in key.values
        }
        if name == EYES:
            openness = course({frame: 1.0 if value is None else value for frame, value in wanted.items()}, 1.0)
            share = course({frame: float(value is not None) for frame, value in wanted.items()}, 0.0)[:, None]
            blink = (1 - share) * blink + share * openness[:, None] * rest_blink
            continue
        own = pose[:, POSE_NAMES.index(name)].copy()
        offsets = {
            frame: 0.0 if value is None else value - own_at(name, own, frame) for frame, value in wanted.items()
        }
        pose[:, POSE_NAMES.index(name)] += course(offsets, 0.0)
    return pose, blink
