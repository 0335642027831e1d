"""Tracks in files: `.npz` for machines, `.json` for people, or measured along a video."""

import json
import os
import warnings
import zipfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..face.detector import FaceDetector
from ..face.track import track_face
from ..machine.output_places import check_path, check_place, naming_place, part_beside
from ..media.sources import existing_file
from ..media.videos import stream_video
from ..ranges import check_class
from ..records import BLINK_DIM, FPS, POSE_DIM, POSE_NAMES
from .track import MotionTrack

TRACK_SUFFIXES = (".npz", ".json")
ARRAYS = ("pose", "blink", "rest_pose", "rest_blink")
# ten hours of frames take 29 MB as .npz and some 150 MB as text
MOST_BYTES = 256 * 2**20


def save_track(track: MotionTrack, path: str | os.PathLike, name: str = "path") -> None:
    """Write a track into a file, which is complete or not there.

    Args:
        track: The track.
        path: Where; ends in .npz or .json.
        name: The path's name for error messages.

    Raises:
        ValueError: The suffix is another, or there is no place for it.
        OSError: It cannot be written.
    """
    check_class("track", track, MotionTrack)
    check_track_place(path, name)
    path = Path(path)
    with naming_place(path), part_beside(path) as part:
        if path.suffix.lower() == ".npz":
            with part.open("wb") as file:
                np.savez_compressed(file, fps=FPS, **{array: getattr(track, array) for array in ARRAYS})
        else:
            part.write_text(_as_json(track), encoding="utf-8")
        os.replace(part, path)


def check_track_place(path: str | os.PathLike, name: str) -> None:
    """Refuse a path at which no track can be written.

    Args:
        path: The path.
        name: Its name for error messages.

    Raises:
        ValueError: The suffix is not .npz or .json, or there is no place for it.
    """
    check_path(path, name)
    if Path(path).suffix.lower() not in TRACK_SUFFIXES:
        raise ValueError(f"`{name}` is {path}, must end in {' or '.join(TRACK_SUFFIXES)}")
    check_place(path, name)


def load_track(path: str | os.PathLike, name: str = "path") -> MotionTrack:
    """Read a track from a file of `save_track`, or one that a person wrote.

    Args:
        path: The file, .npz or .json. `pose` (F, 6) and `blink` (F, 2) must be there, `fps` must be 25 where it is;
            `rest_pose` and `rest_blink` may be.
        name: The path's name for error messages.

    Returns:
        The track.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a file.
    """
    path = existing_file(path, name)
    if path.suffix.lower() not in TRACK_SUFFIXES:
        raise ValueError(f"`{name}` is {path}, must end in {' or '.join(TRACK_SUFFIXES)}")
    try:
        values = _arrays_of_npz(path) if path.suffix.lower() == ".npz" else _values_of_json(path)
        missing = [array for array in ARRAYS[:2] if values.get(array) is None]
        if missing:
            raise ValueError(f"it has no `{missing[0]}`")
        if not _is_fps(values.get("fps", FPS)):
            raise ValueError(f"its `fps` is {values['fps']!r}, must be {FPS}")
        return MotionTrack(**{array: values[array] for array in ARRAYS if array in values})
    except (ValueError, OSError, KeyError, RecursionError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"`{name}` is no motion track ({path}): {reason}") from error


def measure_track(
    video: str | os.PathLike, detector: FaceDetector, num_frames: int | None = None, name: str = "video"
) -> MotionTrack:
    """Measure head pose and blinks along a video (paper section 3.1).

    Args:
        video: The film.
        detector: Finds the faces of a frame.
        num_frames: How many frames at 25 per second to read; None: all.
        name: The video's name for error messages.

    Returns:
        The track of its face, at rest in its first frame.

    Raises:
        ValueError: It cannot be read, or does not show one face throughout.
    """
    frames: Iterable[np.ndarray] = islice(stream_video(video, FPS, name=name), num_frames)
    face = track_face(frames, detector, name=name)
    if face.missing:
        warnings.warn(
            f"`{name}` does not show the face in {len(face.missing)} frames; its motion there is interpolated",
            stacklevel=2,
        )
    return MotionTrack(face.pose, face.blink)


def _as_json(track: MotionTrack) -> str:
    """Write a frame per line, with numbers as short as float32 allows."""

    def numbers(values: np.ndarray) -> str:
        return json.dumps([float(str(value)) for value in values])

    lines = [
        f' "fps": {FPS}',
        f' "pose_names": {json.dumps(POSE_NAMES)}',
        *(f' "{name}": {numbers(getattr(track, name))}' for name in ARRAYS[2:]),
        *(
            f' "{name}": [\n  ' + ",\n  ".join(numbers(row) for row in getattr(track, name)) + "\n ]"
            for name in ARRAYS[:2]
        ),
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _is_fps(value: Any) -> bool:
    """Tell whether a number, or an array of one, is the rate of all tracks."""
    return getattr(value, "size", 1) == 1 and bool(value == FPS)


def _values_of_json(path: Path) -> dict:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 2**20} MiB")
    # editors may put a mark in front that says so
    values = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(values, dict):
        raise ValueError(f"it holds a {type(values).__name__}, must hold an object with `pose` and `blink`")
    given = values.get("pose_names", list(POSE_NAMES))
    if given != list(POSE_NAMES):
        raise ValueError(f"its `pose_names` are {given}, must be {', '.join(POSE_NAMES)}")
    for name, width in (("pose", POSE_DIM), ("blink", BLINK_DIM)):
        frames = values.get(name)
        for number, row in enumerate(frames if isinstance(frames, list) else ()):
            if not isinstance(row, list) or len(row) != width:
                raise ValueError(f"its `{name}` is {row!r:.60} in frame {number}, must be {width} numbers")
    return values


def _arrays_of_npz(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        # a small archive may hold any number of zeros
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES // 2**20} MiB")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in (*ARRAYS, "fps") if name in stored.files}
