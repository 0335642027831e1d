"""Lines of a jobs file: each is one call of `dawn animate`, its keys are the names of the options."""

import argparse
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .inputs import check_given
from .options import COMMANDS, DETAIL, MODEL_OPTIONS, SWITCHES, command_parser

# what a job writes, below the batch's folder
WRITTEN = ("output", "save_motion")
# what a job reads, where it is a file
READ = ("image", "audio", "motion", "label_font", "background")
RESERVED = ".dawn-"
# options of the command that are for somebody who waits for it
FOR_WATCHERS = ("debug", "preview_while")


@dataclass(frozen=True)
class Job:
    """A line of a jobs file.

    Attributes:
        number: Number of the line, from 1.
        fields: What it says, by option name; empty if it cannot be read.
        problem: Why it cannot be a job; None: it may be one.
    """

    number: int
    fields: Mapping[str, Any]
    problem: str | None = None

    @property
    def output(self) -> str:
        """What it writes, below the batch's folder; empty if it does not say so."""
        output = self.fields.get("output")
        return output if isinstance(output, str) else ""


def read_jobs(path: str | os.PathLike) -> list[Job]:
    """Read a jobs file: one JSON object per line; empty lines are passed over.

    Args:
        path: The file.

    Returns:
        The jobs, those that cannot be done with their problem.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or holds no line.
    """
    from ..media.sources import existing_file

    path = existing_file(path, "jobs")
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"`jobs` cannot be read ({path}): {error.strerror}") from error
    jobs = refuse_doubles(read_line(line, number) for number, line in enumerate(lines, 1) if line.strip())
    if not jobs:
        raise ValueError(f"`jobs` holds no line: {path}")
    return jobs


def read_line(line: bytes, number: int = 1) -> Job:
    """Read one line.

    Args:
        line: JSON text, UTF-8.
        number: Its number.

    Returns:
        The job, with its problem if it cannot be one.
    """
    try:
        fields = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_as_fields, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Job(number, {}, f"line {number} cannot be read as JSON: {error}")
    if not isinstance(fields, dict):
        wanted = '{"image": "a.png", "audio": "a.wav", "output": "a.mp4"}'
        return Job(number, {}, f"line {number} is {fields!r:.50}, must be an object such as {wanted}")
    return tidy_fields(fields, number)


def tidy_fields(fields: Mapping[str, Any], number: int = 1) -> Job:
    """Make a job of an object, without what is not given.

    Args:
        fields: What was given, by option name, with `_` or `-`; programs may give paths.
        number: Its line.

    Returns:
        The job, with its problem if it cannot be one.
    """
    tidy = {}
    for key, value in fields.items():
        name = str(key).replace("-", "_")
        if name in tidy:
            return Job(number, {}, f"`{key}` is given twice")
        tidy[name] = str(value) if isinstance(value, os.PathLike) else value
    tidy = {name: value for name, value in tidy.items() if value is not None}
    try:
        check_fields(tidy)
    except ValueError as error:
        return Job(number, tidy, " ".join(str(error).split()))
    return Job(number, tidy)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse what cannot be options; their values are looked at as those of `dawn animate`.

    Args:
        fields: A job's fields.

    Raises:
        ValueError: A key is none, a value is of a wrong kind, or an output lies outside of the batch's folder.
    """
    for name, value in fields.items():
        if name in MODEL_OPTIONS:
            raise ValueError(f"`{name}` holds for all jobs: give `--{name}` to `dawn batch`")
        if name not in job_options():
            raise ValueError(f"`{name}` is no option of a job, must be one of {', '.join(job_options())}")
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(f"`{name}` is {value!r:.50}, must be a text, a number, true or false")
        if isinstance(value, bool) and name not in SWITCHES:
            raise ValueError(f"`{name}` is {str(value).lower()}, must be a text or a number")
    # a file of jobs may come from somebody else, and importing runs code
    if fields.get("enhance", DETAIL) != DETAIL:
        raise ValueError(f"`enhance` is {fields['enhance']!r}, must be {DETAIL}: no job may name a function to import")
    for name in ("image", "audio", "output"):
        if name not in fields:
            raise ValueError(f"`{name}` is missing")
    for name in WRITTEN:
        if name in fields:
            _check_inside(fields[name], name)


def refuse_doubles(jobs: Iterable[Job]) -> list[Job]:
    """Refuse jobs that would write what an earlier one writes, or into its folder of frames.

    Args:
        jobs: The jobs.

    Returns:
        The same, with their problems.
    """
    jobs, writers = list(jobs), {}
    for index, job in enumerate(jobs):
        if job.problem is not None:
            continue
        for name in WRITTEN:
            place = Path(job.fields[name]) if name in job.fields else None
            if place is None:
                continue
            if place in writers:
                jobs[index] = Job(job.number, job.fields, f"`{name}` is {place}, which line {writers[place]} writes")
                break
            writers[place] = job.number
    for index, job in enumerate(jobs):
        for name in WRITTEN if job.problem is None else ():
            place = Path(job.fields.get(name, ""))
            over = [writers[parent] for parent in place.parents if parent in writers]
            if over:
                problem = f"`{name}` is {place}, in the folder that line {over[0]} writes"
                jobs[index] = Job(job.number, job.fields, problem)
                break
    return jobs


def options_of(job: Job, folder: Path, model: argparse.Namespace) -> argparse.Namespace:
    """Read a job as the options of `dawn animate`.

    Args:
        job: The job, without a problem.
        folder: Where its output goes.
        model: Those of `options.MODEL_OPTIONS`, which all jobs share.

    Returns:
        The options.

    Raises:
        ValueError: `dawn animate` would refuse them.
    """
    places = {name: folder / job.fields[name] for name in WRITTEN if name in job.fields}
    options = _job_parser().parse_args(words_of({**job.fields, **places}))
    check_given(options)
    vars(options).update({name: getattr(model, name) for name in MODEL_OPTIONS})
    return options


def words_of(fields: Mapping[str, Any]) -> list[str]:
    """Say as the words of a command line what a job's fields say.

    Args:
        fields: Values by option name, of a job without a problem.

    Returns:
        The words behind `dawn`.
    """
    words = ["animate"]
    for name, value in fields.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not False:
            words.append(f"{flag}={value}")
        elif SWITCHES[name] is not None:
            words.append(SWITCHES[name])
    return words


def key_of(job: Job, model_stamp: Any) -> str:
    """Name a job by what its video depends on, so that one that changed is rendered again.

    Args:
        job: The job.
        model_stamp: What identifies the model.

    Returns:
        A hexadecimal number.
    """
    given = {name: job.fields[name] for name in READ if isinstance(job.fields.get(name), str)}
    # a folder is none of them, and would change with what the batch writes into it
    files = {name: [] if os.path.isdir(place) else stamp_of(place) for name, place in given.items()}
    files["named"] = [stamp_of(file) for file in _files_named_by(job.fields.get("motion"))]
    # one with a problem may hold anything
    text = json.dumps([dict(job.fields), job.problem, files, model_stamp], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _files_named_by(motion: Any) -> tuple[str, ...]:
    """List what the motion's text names: tracks, videos, transcripts; one that is not understood is refused later."""
    from ..motion.reading import open_motion

    try:
        return getattr(open_motion(motion), "files", ()) if isinstance(motion, str) else ()
    except (ValueError, OSError):
        return ()


def stamp_of(path: str) -> list:
    """Tell the state of a file, or of all files in a folder: sizes and times; empty if there is none."""
    try:
        place = Path(path)
        files = sorted(place.rglob("*")) if os.path.isdir(path) else [place]
        states = [(file, file.stat()) for file in files if file.is_file()]
    except (OSError, ValueError):
        return []
    return [[str(file), state.st_size, state.st_mtime_ns] for file, state in states]


@functools.cache
def job_options() -> tuple[str, ...]:
    """Name the options that a job may have."""
    names = vars(_job_parser().parse_args(["animate", "--image=", "--audio=", "--output="]))
    return tuple(name for name in names if name not in {*MODEL_OPTIONS, *FOR_WATCHERS, "run"})


class _RaisingParser(argparse.ArgumentParser):
    """A parser that raises instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        """Raise the message."""
        raise ValueError(message)


@functools.cache
def _job_parser() -> argparse.ArgumentParser:
    return command_parser(dict.fromkeys(COMMANDS), _RaisingParser)


def _as_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return fields


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check_inside(value: Any, name: str) -> None:
    """Refuse what is no name of a file below the batch's folder."""
    place = Path(value) if isinstance(value, str) else None
    if place is None or place.is_absolute() or ".." in place.parts or not place.parts:
        raise ValueError(f"`{name}` is {value!r}, must be a name below the batch's folder, such as 'anna/1.mp4'")
    if place.parts[0].startswith(RESERVED) or place.parts[0] == "report.csv":
        raise ValueError(f"`{name}` is {value!r}, a name that the batch itself uses")
