"""From what a call says about motion to a clip's own: whose motion, times in seconds, and edits in order."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..ranges import is_between, is_whole_number
from ..records import FPS, FaceState
from .gestures import Gesture
from .keyframes import Keyframe
from .script import (
    MOST_TAKES,
    MOST_TEMPERATURE,
    Edit,
    Join,
    MotionScript,
    Perform,
    SampleMotion,
    SetKeyframe,
    TakeFrom,
    When,
    parse_script,
)
from .track import MOST_SCALE, MotionTrack

# a pause between two gestures that follow each other [s]
PAUSE_S = 0.2
READ_FIRST = "`diffusers_dawn.read_motion` reads files and finds words"
MotionSource: TypeAlias = "MotionTrack | MotionScript | str"
# what is done to a track whose first frame has a number
TrackEdit: TypeAlias = "Callable[[MotionTrack, int], MotionTrack]"


@dataclass(frozen=True)
class Direction:
    """What is known of a clip's motion before PBNet makes the rest.

    Attributes:
        head: Whose head moves, of the portrait; None: PBNet's.
        blinks: Whose eyes blink, of the portrait; None: PBNet's.
        temperature: Factor of PBNet's noise.
        take: Which of PBNet's candidates counts, from 1.
        edits: What happens to the track then, in order.
    """

    head: MotionTrack | None = None
    blinks: MotionTrack | None = None
    temperature: float = 1.0
    take: int = 1
    edits: tuple[TrackEdit, ...] = ()

    def edited(self, track: MotionTrack, first_frame: int = 0) -> MotionTrack:
        """Carry out the edits on the track that came together; its first frame has another number in a stream."""
        for edit in self.edits:
            track = edit(track, first_frame)
        return track


def check_sampling(
    temperatures: Sequence[float], takes: Sequence[int], take_name: str = "take", num_clips: int = 1
) -> None:
    """Refuse what PBNet's noise cannot be.

    Args:
        temperatures: Its factor, of each clip.
        takes: Number of the candidate, of each clip.
        take_name: What that number is called.
        num_clips: How many clips there are.

    Raises:
        ValueError: One is out of range, or there is another number of them.
    """
    for name, values in (("temperature", temperatures), (take_name, takes)):
        if len(values) != num_clips:
            raise ValueError(f"`{name}` has {len(values)} entries, must have one per clip: {num_clips}")
    for temperature in temperatures:
        if not is_between(temperature, 0, MOST_TEMPERATURE):
            raise ValueError(f"`temperature` is {temperature!r}, must be a number in [0, {MOST_TEMPERATURE:g}]")
    for take in takes:
        if not (is_whole_number(take) and 1 <= take <= MOST_TAKES):
            raise ValueError(f"`{take_name}` is {take!r}, must be a whole number from 1 to {MOST_TAKES}")


def parts_of(motion: MotionTrack | MotionScript | None) -> set[str]:
    """Say which of "head" and "blinks" a track or script brings along, so that PBNet need not make it."""
    if isinstance(motion, MotionTrack):
        return {"head", "blinks"}
    statements = () if motion is None else motion.statements
    taken = {statement.part for statement in statements if isinstance(statement, TakeFrom)}
    return {"head", "blinks"} if "motion" in taken else taken


def motion_of_call(motion: MotionSource, name: str = "motion") -> MotionTrack | MotionScript:
    """Tidy what a call is told about motion, without looking at any clip.

    Args:
        motion: A track, a script or a text.
        name: Its name for error messages.

    Returns:
        The track, or the script.

    Raises:
        ValueError: It is something else, is not understood, or names files or words that were not read beforehand.
    """
    if isinstance(motion, MotionTrack):
        return motion
    if isinstance(motion, str | os.PathLike) and is_file_name(motion):
        raise ValueError(f"`{name}` is the file {motion}, must be a MotionTrack or a text; {READ_FIRST}")
    if not isinstance(motion, str | MotionScript):
        raise ValueError(f"`{name}` is a {type(motion).__name__}, must be a MotionTrack or a text")
    script = parse_script(motion, name) if isinstance(motion, str) else motion
    for statement in script.statements:
        if isinstance(statement, TakeFrom | Join) and statement.file is not None and statement.track is None:
            raise ValueError(f"`{name}` names the file {statement.file}, which must be read first; {READ_FIRST}")
        if isinstance(statement, SetKeyframe | Perform) and statement.when.word is not None:
            raise ValueError(
                f"`{name}` names the word {statement.when.word!r}, which must be found first; {READ_FIRST}"
            )
    return script


def check_head_motion(head_motion: float) -> None:
    """Refuse what is no factor of the head's motion.

    Args:
        head_motion: Anything.

    Raises:
        ValueError: It is no number in [0, 2].
    """
    if not is_between(head_motion, 0, MOST_SCALE):
        raise ValueError(f"`head_motion` is {head_motion!r}, must be a number in [0, {MOST_SCALE:g}]")


def with_head_motion(
    motion: MotionTrack | MotionScript | None, head_motion: float
) -> MotionTrack | MotionScript | None:
    """Scale the head's motion before anything else that is said about it.

    Args:
        motion: The track or the script; None: PBNet's motion.
        head_motion: Factor of the head's motion, in [0, 2]. 0 keeps the head still; it still blinks.

    Returns:
        The track or the script; where nothing is said and the factor is 1, None.

    Raises:
        ValueError: The factor is out of range.
    """
    check_head_motion(head_motion)
    if head_motion == 1:
        return motion
    if isinstance(motion, MotionTrack):
        return motion.scaled(head=head_motion)
    statements, text = ((), "") if motion is None else (motion.statements, f"; {motion.text}")
    return MotionScript((Edit("scaled", {"head": head_motion}), *statements), f"head motion {head_motion:g}{text}")


def is_file_name(motion: str | os.PathLike) -> bool:
    """Tell a file from a text: no text is one word with a suffix."""
    place = os.fspath(motion)
    if not isinstance(motion, str):
        return True
    return bool(Path(place).suffix) and (os.path.isfile(place) or not re.search(r"\s", place))


def direct(motion: MotionTrack | MotionScript | None, face: FaceState, num_frames: int) -> Direction:
    """Find out what a clip's motion shall be, and check that all fits into it.

    Args:
        motion: What `motion_of_call` returned; None: nothing is asked for.
        face: The portrait's face.
        num_frames: Frames F of the clip.

    Returns:
        The direction.

    Raises:
        ValueError: A track is too short, or something lies behind the clip's end.
    """
    if motion is None:
        return Direction()
    if isinstance(motion, MotionTrack):
        track = motion.onto(face).first(num_frames)
        return Direction(head=track, blinks=track)
    return Directing(motion, face, num_frames).whole_direction()


@dataclass
class Directing:
    """Works through a script for one clip.

    Args:
        script: The script.
        face: The portrait's face.
        num_frames: Frames F of the clip.
    """

    script: MotionScript
    face: FaceState
    num_frames: int
    next_s: float = 0.0

    def whole_direction(self) -> Direction:
        """Say what all statements mean for the clip, and try it on a head that does nothing.

        Returns:
            The direction.

        Raises:
            ValueError: A track is too short, or something lies behind the clip's end.
        """
        try:
            direction = self._all_statements()
            # what does not fit is refused now, not after PBNet
            still = np.tile(self.face.pose, (self.num_frames, 1)), np.tile(self.face.blink, (self.num_frames, 1))
            direction.edited(MotionTrack(*still))
        except ValueError as error:
            raise ValueError(f"`motion`: {error}") from error
        return direction

    def _all_statements(self) -> Direction:
        direction, edits, joins, keyframes = Direction(), [], [], []
        for statement in self.script.statements:
            if isinstance(statement, TakeFrom):
                track = self._taken(statement).onto(self.face)
                parts = {"motion": ("head", "blinks")}.get(statement.part, (statement.part,))
                direction = replace(direction, **dict.fromkeys(parts, track))
            elif isinstance(statement, SampleMotion):
                direction = replace(direction, **self._sampling(statement))
            elif isinstance(statement, Edit):
                edits.append(self._edit(statement))
            elif isinstance(statement, SetKeyframe):
                # those of a number belong together, wherever they stand
                keyframes.append(Keyframe(self._time_s(statement.when, 0.0), statement.values))
                if len(keyframes) == 1:
                    edits.append(self._following(keyframes))
            elif isinstance(statement, Perform):
                gesture = replace(statement.gesture, at_s=self._time_s(statement.when, statement.gesture.length_s))
                self.next_s = gesture.at_s + gesture.length_s + PAUSE_S
                edits.append(self._performing(gesture))
            elif isinstance(statement, Join):
                joins.append(self._joining(statement.side, self._end_state(statement)))
        # what a clip begins and ends with holds whatever else is done
        return replace(direction, edits=(*edits, *joins))

    def _end_state(self, statement: Join) -> tuple[np.ndarray, np.ndarray]:
        """Pose and eye openness that the clip begins or ends with."""
        if statement.file is None:
            return np.asarray(self.face.pose), np.asarray(self.face.blink)
        return statement.track.onto(self.face).state(-1 if statement.side == "start" else 0)

    def _sampling(self, statement: SampleMotion) -> dict[str, float]:
        given = {"temperature": statement.temperature, "take": statement.take}
        return {name: value for name, value in given.items() if value is not None}

    def _taken(self, statement: TakeFrom) -> MotionTrack:
        return statement.track.first(self.num_frames, statement.file)

    def _edit(self, statement: Edit) -> TrackEdit:
        return lambda track, _: getattr(track, statement.method)(**statement.values)

    def _following(self, keyframes: list[Keyframe]) -> TrackEdit:
        """Follow keyframes, to which others may still be added."""
        return lambda track, _: track.with_keyframes(keyframes)

    def _performing(self, gesture: Gesture) -> TrackEdit:
        return lambda track, _: track.with_gestures([gesture])

    def _joining(self, side: str, state: tuple[np.ndarray, np.ndarray]) -> TrackEdit:
        return lambda track, _: track.joined(**{side: state})

    def _time_s(self, when: When, length_s: float) -> float:
        """Say when something of a length begins."""
        if when.at_s is not None:
            return when.at_s
        last_s = max(self.num_frames / FPS - length_s, 0.0)
        return {"start": 0.0, "middle": last_s / 2, "end": last_s, "next": self.next_s}[when.place]
