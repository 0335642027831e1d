"""Gestures of the head and eyes: what moves, how far, how long."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ranges import is_between
from ..records import FPS, POSE_NAMES
from .blinks import BLINK_S, with_blinks
from .curves import frame_times, hold

# how long the head takes to get somewhere [s]
EASE_S = 0.4
MOST_TIMES = 20
MOST_DEGREES = 60.0
MOST_SECONDS = 1e4


@dataclass(frozen=True)
class GestureShape:
    """A kind of gesture.

    Attributes:
        number: Which of the pose's numbers it moves, as `records.POSE_NAMES`; empty: the eyes.
        degrees: How far, with the sign of `FaceState`: left, right, up and down are the picture's.
        duration_s: How long one takes.
        is_held: Whether the head stays there; else it comes back at once.
    """

    number: str
    degrees: float
    duration_s: float
    is_held: bool = True


GESTURES = {
    "nod": GestureShape("pitch_deg", 9.0, 0.6, is_held=False),
    "shake": GestureShape("yaw_deg", 11.0, 0.8, is_held=False),
    "tilt left": GestureShape("roll_deg", 10.0, 1.6),
    "tilt right": GestureShape("roll_deg", -10.0, 1.6),
    "look left": GestureShape("yaw_deg", 15.0, 1.6),
    "look right": GestureShape("yaw_deg", -15.0, 1.6),
    "look up": GestureShape("pitch_deg", -12.0, 1.6),
    "look down": GestureShape("pitch_deg", 12.0, 1.6),
    "blink": GestureShape("", 0.0, BLINK_S, is_held=False),
}


@dataclass(frozen=True)
class Gesture:
    """A gesture at its time.

    Attributes:
        kind: One of `GESTURES`.
        at_s: When it begins [s].
        times: How often, one after the other.
        degrees: How far, in (0, 60]; None: as usual. Of no use to a blink.
        duration_s: How long one takes [s]; None: as usual.

    Raises:
        ValueError: One of them is not allowed.
    """

    kind: str
    at_s: float = 0.0
    times: int = 1
    degrees: float | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no gesture."""
        if not isinstance(self.kind, str) or self.kind not in GESTURES:
            raise ValueError(f"`kind` is {self.kind!r}, must be one of {', '.join(GESTURES)}")
        if not is_between(self.at_s, 0, MOST_SECONDS):
            raise ValueError(f"`at_s` is {self.at_s!r}, must be a time from 0 to {MOST_SECONDS:g}")
        if not is_between(self.times, 1, MOST_TIMES) or self.times != int(self.times):
            raise ValueError(f"`times` is {self.times!r}, must be a whole number from 1 to {MOST_TIMES}")
        is_angle = is_between(self.degrees, 0, MOST_DEGREES) and self.degrees > 0 and self.shape.number
        if self.degrees is not None and not is_angle:
            allowed = f"in (0, {MOST_DEGREES:g}]" if self.shape.number else "left out: it turns nothing"
            raise ValueError(f"`degrees` of {self.kind} is {self.degrees!r}, must be {allowed}")
        if self.duration_s is not None and not is_between(self.duration_s, 2 / FPS, MOST_SECONDS):
            raise ValueError(f"`duration_s` of {self.kind} is {self.duration_s!r}, must be {2 / FPS} s at least")

    @property
    def shape(self) -> GestureShape:
        """What kind of gesture it is."""
        return GESTURES[self.kind]

    @property
    def length_s(self) -> float:
        """How long all of it takes."""
        return self.times * (self.shape.duration_s if self.duration_s is None else self.duration_s)

    def apply(self, pose: np.ndarray, blink: np.ndarray, first_frame: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Put the gesture onto what the head does anyway.

        Args:
            pose: Pose per frame (F, 6).
            blink: Eye openness per frame (F, 2).
            first_frame: Number of the first frame.

        Returns:
            Both, changed.
        """
        one_s = self.length_s / self.times
        if not self.shape.number:
            return pose, with_blinks(blink, self.at_s + one_s * np.arange(self.times), one_s, first_frame)
        degrees = self.shape.degrees if self.degrees is None else np.copysign(self.degrees, self.shape.degrees)
        since_s = frame_times(len(pose), first_frame) - self.at_s
        share = np.clip(since_s / one_s, 0, self.times)
        offset = np.zeros_like(pose)
        offset[:, POSE_NAMES.index(self.shape.number)] = degrees * self._curve()(share, since_s, one_s)
        return pose + offset, blink

    def _curve(self) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
        """Share of the angle: of the number of gestures done so far, the time since the start, and one's length."""
        if self.shape.is_held:
            # several times: there and back as often
            return lambda share, since_s, one_s: hold(
                np.where(share < self.times, share % 1, 1) * one_s, 0.0, one_s, EASE_S
            )
        if self.kind == "nod":
            return lambda share, *_: np.sin(np.pi * share) ** 2
        # to both sides alike; less at the ends, where it begins and stops at rest
        return lambda share, *_: (
            np.sin(2 * np.pi * share) * np.minimum(1, 4 * np.minimum(share, self.times - share)) ** 0.5
        )
