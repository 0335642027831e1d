"""A recording with the time of every phoneme, as `align_speech.py` stores it: one small .npz per recording."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.synthetic.phonemes import CLASS_INDEX, PHONEME_CLASSES, ClassSegment

FIELDS = ("recording", "speaker", "text", "start_s", "end_s", "phoneme", "stressed")


@dataclass(frozen=True)
class AlignedRecording:
    """A recording and what sounds when.

    Attributes:
        recording: The sound's file.
        speaker: Who speaks.
        text: What is said.
        segments: Which class of phonemes sounds when; covers the whole recording in order, without gaps.
    """

    recording: Path
    speaker: str
    text: str
    segments: tuple[ClassSegment, ...]


def write_aligned(path: Path, aligned: AlignedRecording) -> None:
    """Write a recording's phonemes.

    The file holds `recording`, `speaker`, `text`, and for every segment `start_s`, `end_s`, `phoneme` (the class's
    name, as in `phonemes.PHONEME_CLASSES`) and `stressed`.

    Args:
        path: The file, which is complete or not there.
        aligned: What to write.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            recording=str(aligned.recording),
            speaker=aligned.speaker,
            text=aligned.text,
            start_s=np.array([segment.start_s for segment in aligned.segments], np.float64),
            end_s=np.array([segment.end_s for segment in aligned.segments], np.float64),
            phoneme=np.array([PHONEME_CLASSES[segment.class_index].name for segment in aligned.segments]),
            stressed=np.array([segment.stressed for segment in aligned.segments], bool),
        )
    os.replace(partial, path)


def read_aligned(path: Path) -> AlignedRecording:
    """Read a recording's phonemes.

    Args:
        path: A file of `write_aligned`.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or has phonemes that are none of the project's.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in FIELDS}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"`path`: {path} is no file of align_speech.py ({error})") from error
    unknown = sorted(set(values["phoneme"].tolist()) - CLASS_INDEX.keys())
    if unknown:
        raise ValueError(f"`path`: {path} has the phoneme {unknown[0]!r}, which is none of the project's classes")
    columns: Sequence[list] = [values[name].tolist() for name in ("phoneme", "start_s", "end_s", "stressed")]
    segments = tuple(
        ClassSegment(CLASS_INDEX[name], start_s, end_s, stressed)
        for name, start_s, end_s, stressed in zip(*columns, strict=True)
    )
    return AlignedRecording(Path(str(values["recording"])), str(values["speaker"]), str(values["text"]), segments)
