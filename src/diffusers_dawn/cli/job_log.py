"""What became of the jobs of a batch: one log per process, and the report made of all."""

import csv
import json
import os
import platform
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.output_places import naming_place, part_beside, put_in_place

LOG_FOLDER, REPORT_NAME = ".dawn-batch", "report.csv"
STARTED, DONE, FAILED, NOT_RUN = "started", "done", "failed", "not run"
COLUMNS = ("line", "output", "status", "frames", "seconds", "reason", "warnings")


@dataclass(frozen=True)
class JobState:
    """What the logs say of a job.

    Attributes:
        last: Its last entry, which says how it ended; None: it never did.
        num_breaks: How often it began and did not end, because its process was killed.
    """

    last: dict[str, Any] | None = None
    num_breaks: int = 0


class JobStates:
    """What became of jobs, as entries of logs say one after the other."""

    def __init__(self) -> None:
        self._ends: dict[str, dict[str, Any]] = {}
        self._breaks: dict[str, int] = defaultdict(int)
        self._writers: dict[str, str] = {}

    def note(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry.

        Args:
            entry: Of a log, the oldest first.

        Raises:
            KeyError: It is not of `JobLog.add`.
        """
        key, state = entry["key"], entry["state"]
        self._breaks[key] += 1 if state == STARTED else -1
        for place in entry.get("writes", ()):
            # what an earlier job wrote there is gone, or will be
            if self._writers.get(place, key) != key:
                self._ends.pop(self._writers[place], None)
            self._writers[place] = key
        if state != STARTED:
            self._ends[key] = dict(entry)

    def of(self, key: str) -> JobState:
        """Tell what became of a job, see `job_lines.key_of`; not of one whose files another one wrote since."""
        return JobState(self._ends.get(key), max(0, self._breaks.get(key, 0)))


class JobLog:
    """Keep what became of jobs in a folder that processes on several machines may share.

    Every process appends to a file of its own, so that none waits for another, and a kill costs one line at most.

    Args:
        folder: The batch's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / LOG_FOLDER
        self._path = self._folder / f"{platform.node() or 'here'}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"

    def add(self, key: str, state: str, **facts: Any) -> dict[str, Any]:
        """Append an entry.

        Args:
            key: The job, see `job_lines.key_of`.
            state: `STARTED`, `DONE` or `FAILED`.
            **facts: What the report says of it; of one that starts `writes`, the places of its files in the batch's
                folder.

        Returns:
            The entry.

        Raises:
            OSError: It cannot be written.
        """
        entry = {"key": key, "state": state} | facts
        with naming_place(self._path):
            self._folder.mkdir(exist_ok=True)
            with self._path.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
        return entry

    def states(self) -> JobStates:
        """Read what all processes wrote."""
        states = JobStates()
        # oldest first, so that the last word counts
        for path in sorted(self._folder.glob("*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            for line in path.read_bytes().split(b"\n"):
                # not the last line of a process that was killed
                with suppress(ValueError, TypeError, KeyError):
                    states.note(json.loads(line))
        return states

    def sizes(self) -> dict[str, int]:
        """Tell how much every process wrote so far."""
        return {path.name: path.stat().st_size for path in self._folder.glob("*.jsonl")}


def write_report(folder: Path, log: JobLog, jobs: Sequence[tuple[int, str, str]]) -> None:
    """Write what became of all jobs to `report.csv`.

    Every process does it when it ends, and again if others went on meanwhile, so that the last report is whole.

    Args:
        folder: The batch's folder.
        log: Its log.
        jobs: Line, output and key of every job.

    Raises:
        OSError: It cannot be written.
    """
    sizes = None
    while sizes != (now := log.sizes()):
        sizes, states = now, log.states()
        with naming_place(folder / REPORT_NAME), part_beside(folder / REPORT_NAME) as part:
            with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                table = csv.DictWriter(file, COLUMNS, restval="")
                table.writeheader()
                for line, output, key in jobs:
                    end = states.of(key).last
                    facts = {name: end.get(name, "") for name in COLUMNS} if end else {}
                    status = end["state"] if end else NOT_RUN
                    table.writerow(facts | {"line": line, "output": output, "status": status})
            put_in_place(part, folder / REPORT_NAME)
