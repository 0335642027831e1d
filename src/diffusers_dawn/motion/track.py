"""Head pose and blinks of a clip as one thing: made by PBNet, read from a video or a file, edited, given back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ..media.sources import as_array
from ..ranges import check_class, check_list, is_between, is_whole_number
from ..records import BLINK_DIM, FPS, POSE_DIM, POSE_NAMES, FaceState
from .blinks import MOST_BLINKS_PER_S, blink_starts, with_blinks, without_blinks
from .curves import ease, frame_times, smooth
from .gestures import Gesture
from .keyframes import ANGLES, EYES, KEYFRAME_EASE_S, Keyframe, check_number, follow_keyframes

# poses are degrees and pixels; from about 1e5 on half precision overflows
LARGEST_NUMBER = 1e4
MOST_SCALE = 2.0
Range: TypeAlias = "tuple[float, float]"


@dataclass(frozen=True, eq=False)
class MotionTrack:
    """Head pose and eye openness of every frame of a clip, at 25 frames per second.

    The numbers are those of `DAWNPipeline`'s `pose` and `blink`. A track is never changed: what edits it returns
    another one.

    Attributes:
        pose: Float32 array (F, 6), as `records.POSE_NAMES`.
        blink: Float32 array (F, 2): openness of the left and right eye, about 0.3 when open.
        rest_pose: Float32 array (6,): pose of the portrait, or the face, that the track belongs to; None: the first
            frame's.
        rest_blink: Float32 array (2,): openness of its eyes; None: the first frame's.

    Raises:
        ValueError: A number is not finite or too large, or a shape is another.
    """

    pose: np.ndarray
    blink: np.ndarray
    rest_pose: np.ndarray | None = None
    rest_blink: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the numbers, and hold them as arrays that nobody else changes."""
        for name, width in (("pose", POSE_DIM), ("blink", BLINK_DIM)):
            track = _numbers(name, getattr(self, name))
            if track.ndim != 2 or track.shape[1] != width or len(track) == 0:
                raise ValueError(f"`{name}` is {track.shape}, must be (F, {width}), F at least 1")
            given = getattr(self, f"rest_{name}")
            rest = track[0].copy() if given is None else _numbers(f"rest_{name}", given)
            if rest.shape != (width,):
                raise ValueError(f"`rest_{name}` is {rest.shape}, must be ({width},)")
            for attribute, array in ((name, track), (f"rest_{name}", rest)):
                array.flags.writeable = False
                object.__setattr__(self, attribute, array)
        if len(self.pose) != len(self.blink):
            raise ValueError(f"`pose` has {len(self.pose)} frames, `blink` {len(self.blink)}; they must be equal")

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(self.pose)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / FPS

    def onto(self, face: FaceState) -> "MotionTrack":
        """Let another face move as this one does (cross-identity reenactment).

        The other face keeps its own rest; what differs from that is the track's. A track that rests with closed eyes
        therefore opens the other's too far.

        Args:
            face: The other face.

        Returns:
            Its track.
        """
        check_class("face", face, FaceState)
        pose, blink = _numbers("face.pose", face.pose), _numbers("face.blink", face.blink)
        return MotionTrack(pose + (self.pose - self.rest_pose), blink + (self.blink - self.rest_blink), pose, blink)

    def first(self, num_frames: int, name: str = "motion") -> "MotionTrack":
        """Take the first frames.

        Args:
            num_frames: How many.
            name: The track's name for error messages.

        Returns:
            A track of so many frames.

        Raises:
            ValueError: It has fewer, or `num_frames` is not positive.
        """
        check_track_length(self.num_frames, num_frames, name)
        return replace(self, pose=self.pose[:num_frames], blink=self.blink[:num_frames])

    def with_head_of(self, other: "MotionTrack") -> "MotionTrack":
        """Take the head's motion of another track, which is at least as long, and keep the blinks."""
        check_class("other", other, MotionTrack)
        return replace(self, pose=self.rest_pose + (other.first(self.num_frames).pose - other.rest_pose))

    def with_blinks_of(self, other: "MotionTrack") -> "MotionTrack":
        """Take the blinks of another track, which is at least as long, and keep the head's motion."""
        check_class("other", other, MotionTrack)
        return replace(self, blink=self.rest_blink + (other.first(self.num_frames).blink - other.rest_blink))

    def scaled(self, head: float = 1.0, blinks: float = 1.0) -> "MotionTrack":
        """Make more or less of what differs from rest.

        Args:
            head: Factor of the head's motion, in [0, 2]; 0 keeps it still.
            blinks: Factor of the eyes' motion, in [0, 2]; 0 keeps them open. An eye is never less open than shut.

        Returns:
            The track.

        Raises:
            ValueError: A factor is out of range.
        """
        for name, factor in (("head", head), ("blinks", blinks)):
            if not is_between(factor, 0, MOST_SCALE):
                raise ValueError(f"`{name}` is {factor!r}, must be a number in [0, {MOST_SCALE:g}]")
        pose, blink = self.pose, self.blink
        if head != 1:
            pose = self.rest_pose + head * (pose - self.rest_pose)
        if blinks != 1:
            blink = np.maximum(self.rest_blink + blinks * (blink - self.rest_blink), 0)
        return replace(self, pose=pose, blink=blink)

    def turned(self, yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> "MotionTrack":
        """Turn the head by the same angles in all frames; the signs are those of `FaceState`.

        Args:
            yaw_deg: To the picture's left.
            pitch_deg: Down.
            roll_deg: Counter-clockwise.

        Returns:
            The track.

        Raises:
            ValueError: An angle is not finite, or beyond 90 degrees.
        """
        angles = {"yaw_deg": yaw_deg, "pitch_deg": pitch_deg, "roll_deg": roll_deg}
        offset = np.zeros(POSE_DIM)
        for name, angle in angles.items():
            check_number(name, angle, ANGLES)
            offset[POSE_NAMES.index(name)] = angle
        return replace(self, pose=self.pose + offset)

    def with_blink_rate(self, per_s: float, seed: int = 0) -> "MotionTrack":
        """Replace the blinks by others, in an uneven beat.

        Args:
            per_s: Blinks per second, in [0, 1.25]; people blink 0.2 to 0.4 times.
            seed: Another seed, other times; a whole number from 0.

        Returns:
            The track.

        Raises:
            ValueError: The rate or the seed is not allowed.
        """
        if not is_between(per_s, 0, MOST_BLINKS_PER_S):
            raise ValueError(f"`per_s` is {per_s!r}, must be from 0 to {MOST_BLINKS_PER_S} blinks per second")
        if not (is_whole_number(seed) and seed >= 0):
            raise ValueError(f"`seed` is {seed!r}, must be a whole number from 0")
        blink = without_blinks(self.blink)
        return replace(self, blink=with_blinks(blink, blink_starts(self.duration_s, per_s, seed)))

    def smoothed(self, duration_s: float) -> "MotionTrack":
        """Smooth the head's motion; blinks, which are short, stay as they are.

        Args:
            duration_s: Width of the Gaussian that it is convolved with, at half its height, in [0, 10] [s].

        Returns:
            The track.

        Raises:
            ValueError: The width is out of range.
        """
        if not is_between(duration_s, 0, 10):
            raise ValueError(f"`duration_s` is {duration_s!r}, must be from 0 to 10 s")
        return self if duration_s == 0 else replace(self, pose=smooth(self.pose, duration_s))

    def limited(self, **ranges: Range) -> "MotionTrack":
        """Keep numbers within ranges.

        Args:
            **ranges: Smallest and largest value, by a name of `records.POSE_NAMES`, or "eyes" (1: as at rest).

        Returns:
            The track.

        Raises:
            ValueError: A name is not known, or a range is empty.
        """
        pose, blink = self.pose.copy(), self.blink.copy()
        for name, limits in ranges.items():
            is_pair = isinstance(limits, tuple | list) and len(limits) == 2
            if not (is_pair and is_between(limits[0], -np.inf, np.inf) and is_between(limits[1], limits[0], np.inf)):
                raise ValueError(f"`{name}` is limited to {limits!r}, must be a smaller and a larger number")
            low, high = limits
            if name == EYES:
                blink = np.clip(blink, low * self.rest_blink, high * self.rest_blink)
            elif name in POSE_NAMES:
                column = POSE_NAMES.index(name)
                pose[:, column] = np.clip(pose[:, column], low, high)
            else:
                raise ValueError(f"`{name}` is not known, must be one of {', '.join((*POSE_NAMES, EYES))}")
        return replace(self, pose=pose, blink=blink)

    def with_keyframes(self, keyframes: Sequence[Keyframe]) -> "MotionTrack":
        """Let numbers be what keyframes say at their times; what the head does anyway goes on in between.

        A number comes from its own course within 0.8 s before its first keyframe, goes from each to the next, and
        keeps its distance from its own course after the last. Eyes do nothing of their own from their first keyframe
        on.

        Args:
            keyframes: The keyframes, in any order; of two of a number at one time the later one counts.

        Returns:
            The track.

        Raises:
            ValueError: A keyframe lies behind the end.
        """
        check_list("keyframes", keyframes, Keyframe)
        late = [key.at_s for key in keyframes if key.at_s > self.duration_s]
        if late:
            raise ValueError(f"a keyframe is at {late[0]:g} s, the clip ends at {self.duration_s:.2f} s")
        # a time behind the last frame's is the last frame's; of two in one frame the later one still counts
        in_order = sorted(keyframes, key=lambda key: key.at_s)
        shown = [replace(key, at_s=min(key.at_s, (self.num_frames - 1) / FPS)) for key in in_order]
        pose, blink = follow_keyframes(self.pose, self.blink, self.rest_blink, shown, lambda _, own, frame: own[frame])
        return replace(self, pose=pose, blink=blink)

    def with_gestures(self, gestures: Sequence[Gesture]) -> "MotionTrack":
        """Put gestures onto what the head does anyway.

        Args:
            gestures: The gestures, in any order.

        Returns:
            The track.

        Raises:
            ValueError: One lasts beyond the end.
        """
        check_list("gestures", gestures, Gesture)
        pose, blink = self.pose.astype(float), self.blink.astype(float)
        for gesture in gestures:
            if gesture.at_s + gesture.length_s > self.duration_s + 1 / FPS:
                raise ValueError(
                    f"`{gesture.kind}` from {gesture.at_s:.2f} to {gesture.at_s + gesture.length_s:.2f} s does not"
                    f" fit: the clip ends at {self.duration_s:.2f} s"
                )
            pose, blink = gesture.apply(pose, blink)
        return replace(self, pose=pose, blink=blink)

    def joined(
        self, start: Any | None = None, end: Any | None = None, ease_s: float = KEYFRAME_EASE_S
    ) -> "MotionTrack":
        """Begin and end with given states, so that clips join: the last frame of one is like the first of the next.

        Args:
            start: Pose (6,) and openness (2,) of the first frame, such as another track's `state(-1)`; None: its own.
            end: The same of the last frame.
            ease_s: How long it takes to get to its own course, and from it, at most half of the clip each [s].

        Returns:
            The track.

        Raises:
            ValueError: A state has another shape or is not finite, or `ease_s` is not positive.
        """
        if not is_between(ease_s, 1 / FPS, LARGEST_NUMBER):
            raise ValueError(f"`ease_s` is {ease_s!r}, must be {1 / FPS} s at least")
        pose, blink = self.pose.astype(float), self.blink.astype(float)
        times_s = frame_times(self.num_frames)
        ease_s = min(ease_s, max(times_s[-1] / 2, 1 / FPS))
        for name, state, frame, weight in (
            ("start", start, 0, 1 - ease(times_s / ease_s)),
            ("end", end, -1, 1 - ease((times_s[-1] - times_s) / ease_s)),
        ):
            if state is None:
                continue
            if not isinstance(state, tuple | list):
                raise ValueError(f"`{name}` is a {type(state).__name__}, must be a pose and an openness")
            wanted = [_numbers(name, part) for part in state]
            if [part.shape for part in wanted] != [(POSE_DIM,), (BLINK_DIM,)]:
                shapes = ", ".join(str(part.shape) for part in wanted)
                raise ValueError(f"`{name}` is {shapes}, must be pose ({POSE_DIM},) and openness ({BLINK_DIM},)")
            pose += weight[:, None] * (wanted[0] - pose[frame])
            blink += weight[:, None] * (wanted[1] - blink[frame])
        return replace(self, pose=pose, blink=blink)

    def state(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pose (6,) and eye openness (2,) of a frame; negative ones count from the end."""
        if not (is_whole_number(frame) and -self.num_frames <= frame < self.num_frames):
            raise ValueError(f"`frame` is {frame!r}, must be a frame's number below {self.num_frames}")
        return self.pose[frame], self.blink[frame]


def check_track_length(num_given: int, num_frames: int, name: str = "track") -> None:
    """Refuse a driving video or track that is shorter than the clip.

    Args:
        num_given: Its frames.
        num_frames: Wanted number of frames.
        name: Its name for error messages.

    Raises:
        ValueError: It has fewer, or `num_frames` is not positive.
    """
    if not is_whole_number(num_frames) or num_frames < 1:
        raise ValueError(f"`num_frames` is {num_frames!r}, must be a whole number from 1")
    if num_given < num_frames:
        raise ValueError(
            f"`{name}` lasts {num_given / FPS:.2f} s ({num_given} frames), the clip {num_frames / FPS:.2f} s"
            f" ({num_frames} frames): it must be at least as long"
        )


def _numbers(name: str, values: Any) -> np.ndarray:
    """Make a float32 array of our own; text, truth values and what is not finite are refused."""
    try:
        array = np.array(as_array(values, name) if hasattr(values, "detach") else values)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{array.dtype} is no number")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"`{name}` is a {type(values).__name__}, must be numbers of one shape ({error})") from error
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds values that are not finite")
    if array.size and (largest := float(np.abs(array).max())) > LARGEST_NUMBER:
        raise ValueError(f"`{name}` holds values up to {largest:g}, must be at most {LARGEST_NUMBER:g}")
    return array.astype(np.float32)
