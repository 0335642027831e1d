"""What is set on the page, said as a job of `dawn batch` and as the words of `dawn animate`."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import demo_checkpoint
from ..cli.job_lines import READ, Job, tidy_fields, words_of
from ..cli.options import DETAIL, DTYPES, MODEL_OPTIONS
from ..motion.script import MotionScript, parse_script
from ..records import SquareCrop
from ..sampling.presets import DEFAULT_PRESET

VIDEO_NAME, TRACK_NAME = "talking.mp4", "motion.json"


@dataclass(frozen=True)
class Settings:
    """What is set for a video beside portrait and recording; None and an empty text: as `dawn animate` has it.

    Attributes:
        seed: Same seed, same video.
        preset: Sampler and steps, by name.
        head_motion: Factor of the head's motion.
        motion: What the head does, in a few words.
        size: Width and height of the video [px].
        speech_guidance: Weight of the speech against its absence.
        label: Text in a corner of the frames.
        face_index: Number of the face, from 0, the largest.
        enhance: Whether to draw the video larger, with the detail of the portrait's own pixels.
        square_right: By how much of its side the found square is moved to the right [%].
        square_down: The same, down [%].
        square_size: Its side [% of the found one].
    """

    seed: int | None = None
    preset: str | None = DEFAULT_PRESET
    head_motion: float | None = None
    motion: str = ""
    size: int | None = None
    speech_guidance: float | None = None
    label: str = ""
    face_index: int | None = None
    enhance: bool = False
    square_right: float | None = None
    square_down: float | None = None
    square_size: float | None = None

    @property
    def guidance_scale(self) -> str | None:
        """The weight of speech, as `--guidance-scale` takes it."""
        return None if self.speech_guidance is None else f"speech={self.speech_guidance:g}"

    def moved(self, square: SquareCrop) -> SquareCrop | None:
        """Move and scale a square, around its middle.

        Args:
            square: The square that was found.

        Returns:
            The square that is set; None: nothing is set.
        """
        right, down, size = self.square_right or 0, self.square_down or 0, self.square_size or 100
        if (right, down, size) == (0, 0, 100):
            return None
        side = max(round(square.side * size / 100), 1)
        left = square.left + (square.side - side) / 2 + square.side * right / 100
        top = square.top + (square.side - side) / 2 + square.side * down / 100
        return SquareCrop(round(left), round(top), side)

    def job(self, image: str | None, audio: str | None, square: SquareCrop | None = None) -> Job:
        """Say as a job what shall be rendered.

        Args:
            image: File of the portrait; None: not given.
            audio: File of the recording.
            square: Result of `moved`.

        Returns:
            The job.

        Raises:
            ValueError: It cannot be one.
        """
        for name, given, wanted in (("image", image, "a picture with a face"), ("audio", audio, "some speech")):
            if not given:
                raise ValueError(f"`{name}` is missing, must be {wanted}")
        given = {name: getattr(self, name) for name in ("seed", "preset", "head_motion", "size", "guidance_scale")}
        given |= {"motion": self.motion.strip() or None, "label": self.label.strip() or None}
        given |= {"face_index": self.face_index or None}  # 0 is the largest, as without
        given |= {"enhance": DETAIL if self.enhance else None}
        given |= {"crop": None if square is None else f"{square.left},{square.top},{square.side}"}
        job = tidy_fields({"image": image, "audio": audio, "output": VIDEO_NAME} | given)
        if job.problem is not None:
            raise ValueError(job.problem)
        return job

    def script(self) -> MotionScript | None:
        """Understand the text about motion, which may name no file of this machine.

        Returns:
            The script; None: nothing is said.

        Raises:
            ValueError: It is not understood, or names a file.
        """
        if not self.motion.strip():
            return None
        script = parse_script(self.motion, "--motion")
        if script.files:
            raise ValueError(f"`--motion` names the file {script.files[0]}, must be a text without files here")
        return script


def shown_fields(job: Job) -> dict[str, Any]:
    """Say a job's fields as a line of a jobs file, with the names of files only."""
    return {name: Path(value).name if name in READ[:2] else value for name, value in job.fields.items()}


def command_line(fields: Mapping[str, Any], model: argparse.Namespace) -> str:
    """Write the `dawn animate` that makes the same video.

    Args:
        fields: The job's fields.
        model: `MODEL_OPTIONS`, which stand in the line where they are not as without them.

    Returns:
        The line, quoted for a shell.
    """
    without = {"checkpoint": demo_checkpoint(), "lora": None, "device": None, "dtype": DTYPES[0]}
    chosen = {name: getattr(model, name) for name in MODEL_OPTIONS if getattr(model, name) != without[name]}
    # where they lie on this machine is nobody's business
    for name in {"checkpoint", "lora"} & set(chosen):
        if Path(chosen[name]).exists():
            chosen[name] = Path(chosen[name]).name
    return shlex.join(["dawn", *words_of({**fields, **chosen})])
