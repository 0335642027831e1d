"""What is said about motion, for a stream: its end is not known, and its frames come piece by piece."""

from dataclasses import dataclass, replace

import numpy as np

from ..records import FPS, FaceState
from .blinks import blink_starts_within, with_blinks
from .curves import ease, frame_times
from .direction import Directing, Direction, TrackEdit, is_file_name, motion_of_call
from .gestures import Gesture
from .keyframes import KEYFRAME_EASE_S, Keyframe, follow_keyframes
from .script import Edit, MotionScript, Perform, SampleMotion, SetKeyframe, TakeFrom, When, parse_script
from .track import MotionTrack

# methods of `MotionTrack` that treat each frame by itself
FRAME_BY_FRAME = ("scaled", "turned", "limited")
STREAM_TAKES = (
    "a stream, whose end is not known, takes tracks, gestures and keyframes at the start or at a time in seconds,"
    " 'head motion', 'blink strength', 'blink rate', 'offset', 'limit', 'temperature' and how it begins"
)


def direct_stream(motion: MotionTrack | MotionScript | str | None, face: FaceState) -> Direction:
    """Find out what the motion of a stream shall be.

    Tracks that it brings along are as long as they were, and belong to the first frames. Edits are carried out on
    frames in their order, piece after piece, and remember what they need of pieces before: one direction is for one
    stream.

    Args:
        motion: A track, a script or a text; None: nothing is asked for.
        face: The portrait's face.

    Returns:
        The direction.

    Raises:
        ValueError: It is something else, is not understood, or says what only a clip with an end can do.
    """
    if motion is None:
        return Direction()
    if isinstance(motion, str) and not is_file_name(motion):
        motion = parse_script(motion)
    if isinstance(motion, MotionScript):
        _refuse_words(motion)
    motion = motion_of_call(motion)
    if isinstance(motion, MotionTrack):
        track = motion.onto(face)
        return Direction(head=track, blinks=track)
    # the frame is one of a head that does nothing, on which all is tried before the stream begins
    return _DirectingStream(motion, face, num_frames=1).whole_direction()


def _refuse_words(script: MotionScript) -> None:
    for statement in script.statements:
        if isinstance(statement, SetKeyframe | Perform) and statement.when.word is not None:
            raise ValueError(
                f"`motion` names the word {statement.when.word!r}, which nobody has said yet; {STREAM_TAKES}"
            )


class _DirectingStream(Directing):
    """Works through a script for a stream."""

    def _taken(self, statement: TakeFrom) -> MotionTrack:
        return statement.track

    def _sampling(self, statement: SampleMotion) -> dict[str, float]:
        if statement.take is not None:
            raise ValueError(f"'take {statement.take}' chooses among motions of a whole clip; {STREAM_TAKES}")
        return super()._sampling(statement)

    def _edit(self, statement: Edit) -> TrackEdit:
        if statement.method in FRAME_BY_FRAME:
            return super()._edit(statement)
        if statement.method == "with_blink_rate":
            # refuses what a clip would refuse
            super()._edit(statement)(MotionTrack([self.face.pose], [self.face.blink]), 0)
            return lambda track, first_frame: _with_blink_rate(track, first_frame, **statement.values)
        said = {"smoothed": "'smooth'"}.get(statement.method, f"`{statement.method}`")
        raise ValueError(f"{said} needs the frames that follow; {STREAM_TAKES}")

    def _following(self, keyframes: list[Keyframe]) -> TrackEdit:
        return _Following(keyframes)

    def _performing(self, gesture: Gesture) -> TrackEdit:
        def perform(track: MotionTrack, first_frame: int) -> MotionTrack:
            pose, blink = gesture.apply(track.pose.astype(float), track.blink.astype(float), first_frame)
            return replace(track, pose=pose, blink=blink)

        return perform

    def _joining(self, side: str, state: tuple[np.ndarray, np.ndarray]) -> TrackEdit:
        if side != "start":
            raise ValueError(f"it says how the clip ends; {STREAM_TAKES}")
        return _Beginning(*state)

    def _time_s(self, when: When, length_s: float) -> float:
        if when.place in {"middle", "end"}:
            place = {"middle": "in the middle", "end": "at the end"}[when.place]
            raise ValueError(f"it says {place!r}; {STREAM_TAKES}")
        return super()._time_s(when, length_s)


def _with_blink_rate(track: MotionTrack, first_frame: int, per_s: float, seed: int = 0) -> MotionTrack:
    """Let eyes that are otherwise at rest blink: whether they are in a blink of their own, some frames do not tell."""
    start_s, stop_s = first_frame / FPS, (first_frame + track.num_frames) / FPS
    at_rest = np.tile(track.rest_blink, (track.num_frames, 1))
    starts_s = blink_starts_within(start_s, stop_s, per_s, seed)
    return replace(track, blink=with_blinks(at_rest, starts_s, first_frame=first_frame))


class _Following:
    """Follows keyframes piece after piece: what a number would be at one of them is known once its frame comes."""

    def __init__(self, keyframes: list[Keyframe]) -> None:
        self.keyframes = keyframes
        self.known: dict[tuple[str, int], float] = {}

    def __call__(self, track: MotionTrack, first_frame: int) -> MotionTrack:
        def own_at(name: str, own: np.ndarray, frame: int) -> np.ndarray:
            if first_frame <= frame < first_frame + len(own):
                self.known[name, frame] = own[frame - first_frame]
            # on the way there, each frame's own stands for it; from there on what it was, by and by, so that the
            # head does not start with a jerk
            since_s = frame_times(len(own), first_frame) - frame / FPS
            return own + ease(since_s / KEYFRAME_EASE_S) * (self.known.get((name, frame), 0.0) - own)

        pose, blink = follow_keyframes(track.pose, track.blink, track.rest_blink, self.keyframes, own_at, first_frame)
        return replace(track, pose=pose, blink=blink)


@dataclass
class _Beginning:
    """Begins in a state, and goes from there to its own course."""

    pose: np.ndarray
    blink: np.ndarray
    own: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, track: MotionTrack, first_frame: int) -> MotionTrack:
        if first_frame == 0:
            self.own = track.state(0)
        weight = 1 - ease(frame_times(track.num_frames, first_frame) / KEYFRAME_EASE_S)[:, None]
        pose, blink = track.pose.astype(float), track.blink.astype(float)
        pose, blink = pose + weight * (self.pose - self.own[0]), blink + weight * (self.blink - self.own[1])
        return replace(track, pose=pose, blink=blink)
