"""Read motion from files and videos, and find the words that a text names in the recording."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..face.detector import FaceDetector, MediaPipeFaceDetector
from ..media.recordings import read_waveform
from ..media.sources import existing_file, open_binary
from ..media.videos import count_video_frames
from ..ranges import is_whole_number
from ..records import FPS
from ..speech.alignment import AlignmentRefused, ForcedAligner, spoken_words
from .direction import is_file_name
from .script import (
    GiveTranscript,
    Join,
    MotionScript,
    Perform,
    SetKeyframe,
    Statement,
    TakeFrom,
    When,
    is_text_file,
    parse_script,
)
from .track import MotionTrack, check_track_length
from .track_files import TRACK_SUFFIXES, load_track, measure_track

MOST_TEXT_BYTES = 100_000


def read_motion(
    motion: MotionTrack | MotionScript | str | os.PathLike,
    audio: Any = None,
    num_frames: int | None = None,
    detector: FaceDetector | None = None,
    name: str = "motion",
) -> MotionTrack | MotionScript:
    """Read motion from a file, or what a text names: tracks, videos, and when words are said.

    Args:
        motion: A file: .npz or .json of a track, .txt of a text, or a video, whose face is followed; or a text.
        audio: The recording, for a text that names words: file, bytes, (array, rate) or `Waveform`; as the clip's.
        num_frames: How many frames of a video to read, as many as the clip has; None: all.
        detector: Finds the faces of a video's frames; None: MediaPipe's.
        name: The motion's name for error messages.

    Returns:
        What `DAWNPipeline` takes as `motion`: the track of a file or video, or the script of a text, which needs no
        file and no recording any more.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Something is not understood, a file cannot be read, or a word is not said.
    """
    motion = open_motion(motion, name)
    if not (num_frames is None or (is_whole_number(num_frames) and num_frames >= 1)):
        raise ValueError(f"`num_frames` is {num_frames!r}, must be a whole number from 1, or None")
    if not (detector is None or callable(detector)):
        raise ValueError(f"`detector` is {detector!r}, must be a function that finds the faces of a picture, or None")
    if isinstance(motion, MotionTrack):
        return motion
    script = _Reading(motion, audio, num_frames, detector, name).whole_script()
    # nothing but a file's motion is a track
    only = script.statements[0] if len(script.statements) == 1 else None
    return only.track if isinstance(only, TakeFrom) and only.part == "motion" else script


def open_motion(motion: MotionTrack | MotionScript | str | os.PathLike, name: str = "motion") -> Any:
    """Tell what is given, and understand it; files that a text names are not opened, and no video is.

    Args:
        motion: As for `read_motion`.
        name: Its name for error messages.

    Returns:
        The `MotionTrack`, or the `MotionScript`; a video is a script that takes its motion.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is something else, or is not understood.
    """
    if isinstance(motion, MotionTrack | MotionScript):
        return motion
    if not isinstance(motion, str | os.PathLike):
        raise ValueError(f"`{name}` is a {type(motion).__name__}, must be a MotionTrack, a file, or a text")
    if not is_file_name(motion):
        return parse_script(motion, name)
    path = existing_file(motion, name)
    suffix = path.suffix.lower()
    if suffix in TRACK_SUFFIXES:
        return load_track(path, name)
    if is_text_file(path):
        return parse_script(_text_of(path, name), name)
    return MotionScript((TakeFrom("motion", str(path)),), f'motion from "{path}"')


def track_files_of(motion: MotionTrack | MotionScript | None) -> tuple[str, ...]:
    """List the tracks and videos that a script takes motion from."""
    return motion.track_files if isinstance(motion, MotionScript) else ()


def videos_of(motion: MotionTrack | MotionScript | None) -> list[str]:
    """List the videos whose face will be followed."""
    return [file for file in track_files_of(motion) if Path(file).suffix.lower() not in TRACK_SUFFIXES]


def check_motion_files(motion: MotionTrack | MotionScript, num_frames: int, name: str = "motion") -> None:
    """Refuse files that cannot be read, and videos that are shorter than the clip, without decoding any.

    Args:
        motion: Result of `open_motion`.
        num_frames: Frames of the clip.
        name: The motion's name for error messages.

    Raises:
        FileNotFoundError: One does not exist.
        ValueError: One is no file, has no pictures, or is too short.
    """
    for statement in () if isinstance(motion, MotionTrack) else motion.statements:
        if not isinstance(statement, TakeFrom | Join) or statement.file is None:
            continue
        if not existing_file(statement.file, name).is_file():
            raise ValueError(f"`{name}` is a pipe or a device, must be a file, which is read twice: {statement.file}")
        if Path(statement.file).suffix.lower() in TRACK_SUFFIXES:
            continue
        num_given = count_video_frames(statement.file, FPS, name)
        if isinstance(statement, TakeFrom):
            check_track_length(num_given, num_frames, statement.file)


@dataclass
class _Reading:
    """Reads what one script names."""

    script: MotionScript
    audio: Any
    num_frames: int | None
    detector: FaceDetector | None
    name: str
    words: list[tuple[str, float]] | None = None
    tracks: dict[tuple, MotionTrack] = field(default_factory=dict)

    def whole_script(self) -> MotionScript:
        return replace(self.script, statements=tuple(map(self._read, self.script.statements)))

    def _read(self, statement: Statement) -> Statement:
        if isinstance(statement, TakeFrom):
            return replace(statement, track=statement.track or self._track(statement.file, self.num_frames))
        if isinstance(statement, Join) and statement.file is not None:
            # its last frame may count
            return replace(statement, track=statement.track or self._track(statement.file, None))
        if isinstance(statement, SetKeyframe | Perform) and statement.when.word is not None:
            return replace(statement, when=When(at_s=self._word_s(statement.when.word)))
        return statement

    def _track(self, file: str, num_frames: int | None) -> MotionTrack:
        if (file, num_frames) not in self.tracks:
            if Path(file).suffix.lower() in TRACK_SUFFIXES:
                track = load_track(file, self.name)
            elif self.detector is not None:
                track = measure_track(file, self.detector, num_frames, self.name)
            else:
                with MediaPipeFaceDetector() as detector:
                    track = measure_track(file, detector, num_frames, self.name)
            self.tracks[file, num_frames] = track
        return self.tracks[file, num_frames]

    def _word_s(self, word: int | str) -> float:
        """Find when a word begins, by its number or as it is written."""
        if self.words is None:
            self.words = self._heard_words()
        if isinstance(word, int):
            if word > len(self.words):
                raise ValueError(f"`{self.name}` names word {word}, the transcript has {len(self.words)}")
            return self.words[word - 1][1]
        try:
            wanted = spoken_words(word)
        except AlignmentRefused:  # it has letters that no transcript has
            wanted = []
        found = [number for number, (text, _) in enumerate(self.words, 1) if [text] == wanted]
        if len(found) == 1:
            return self.words[found[0] - 1][1]
        if not found:
            raise ValueError(f"`{self.name}` names the word {word!r}, which the transcript does not have")
        numbers = ", ".join(map(str, found))
        raise ValueError(f"`{self.name}` names the word {word!r}, which is said {len(found)} times: as word {numbers}")

    def _heard_words(self) -> list[tuple[str, float]]:
        texts = [statement.text for statement in self.script.statements if isinstance(statement, GiveTranscript)]
        if not texts:
            raise ValueError(
                f"`{self.name}` names a word, so it must say what is said: 'transcript FILE.txt' or in quotes"
            )
        if self.audio is None:
            raise ValueError(f"`{self.name}` names a word, which is found in the recording: give `audio`")
        text = _text_of(texts[-1], "transcript") if is_text_file(texts[-1]) else texts[-1]
        try:
            return [(word.text, word.start_s) for word in ForcedAligner().words(read_waveform(self.audio), text)]
        except AlignmentRefused as error:
            raise ValueError(f"`{self.name}`: the transcript cannot be laid onto the recording: {error}") from error


def _text_of(path: str | os.PathLike, name: str) -> str:
    with open_binary(path, name) as file:
        content = file.read(MOST_TEXT_BYTES + 1)
    if len(content) > MOST_TEXT_BYTES:
        raise ValueError(f"`{name}` has more than {MOST_TEXT_BYTES} bytes: {path}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{name}` is no text in UTF-8: {path}") from error
