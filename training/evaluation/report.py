"""Results of an evaluation, as numbers and as tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusers_dawn.cli.evaluation_reports import FORMAT, REPORT_NAME, marked
from training.data.dataset_info import write_text_atomically
from training.evaluation.figures import bootstrap_interval, finite_mean

NOTHING = "–"
MARKS_NOTE = "Better is higher (↑), lower (↓), or nearer to the number that follows, or else stands beside (≈)."


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        key: Its name for programs.
        label: What it is, with its unit.
        value: The number; NaN where it could not be found.
        interval: Lower and upper end of its 95 % interval.
        beside: A number to compare it with.
        count: Of how many clips, or videos, it is.
        better: Which other value would be better: `HIGHER`, `LOWER`, or one nearer to this number; None: neither.
        per_clip: What each clip says, in the order of `SectionReport.clips`; NaN where it does not count.
    """

    key: str
    label: str
    value: float
    interval: tuple[float, float] | None = None
    beside: float | None = None
    count: int | None = None
    better: str | float | None = None
    per_clip: Sequence[float] | None = None


@dataclass
class SectionReport:
    """One part of an evaluation.

    Attributes:
        title: Its heading.
        clips: Names of the clips, or videos, that means are of.
        figures: What was found.
        notes: Sentences on how it was found.
        beside: What the numbers beside the figures are.
    """

    title: str
    clips: Sequence[str] = ()
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beside: str = "beside"

    def add(self, key: str, label: str, value: float, **more: Any) -> None:
        """Add a number.

        Args:
            key: As in `Figure`, like the others.
            label: What it is.
            value: The number.
            **more: `interval`, `beside`, `count` and `better`.
        """
        self.figures.append(Figure(key, label, float(value), **more))

    def add_mean(
        self,
        key: str,
        label: str,
        values: Sequence[float],
        seed: int,
        beside: float | None = None,
        better: str | float | None = None,
    ) -> None:
        """Add a mean over clips with its bootstrap interval.

        Args:
            key: As in `Figure`.
            label: What it is.
            values: A number per clip, as many as the section names; NaN where the clip does not count.
            seed: Seed of the bootstrap.
            beside: As in `Figure`.
            better: As in `Figure`.

        Raises:
            ValueError: The section names more clips, or fewer.
        """
        if self.clips and len(values) != len(self.clips):
            raise ValueError(f"`values` of {key} are {len(values)}, must be {len(self.clips)}, one per clip")
        counted = [value for value in values if math.isfinite(value)]
        found = {
            "interval": bootstrap_interval(counted, seed),
            "count": len(counted),
            "per_clip": list(values) if self.clips else None,
        }
        self.add(key, label, finite_mean(counted), beside=beside, better=better, **found)


class LeftOut(Exception):
    """A section of an evaluation cannot be run; the report says why, and the others are run.

    Args:
        reason: One sentence for the report.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def unseen_note(unseen: int, clips: str) -> str:
    """Say in how many clips there is hardly a face.

    Args:
        unseen: In how many.
        clips: Of how many, and what they are.

    Returns:
        A sentence.
    """
    return f"In {unseen} of {clips} the reader sees the face in less than 90 % of the frames: r = 0 there."


def report_as_markdown(heading: str, sections: Mapping[str, SectionReport | str]) -> str:
    """Write the tables.

    Args:
        heading: A paragraph on what was evaluated, and how.
        sections: By name: what was found, or why it was left out.

    Returns:
        Markdown.
    """
    parts = [heading]
    for name, section in sections.items():
        if isinstance(section, str):
            parts.append(f"### {name.capitalize()}\n\nLeft out: {section}.")
        else:
            parts.append("\n\n".join([f"### {section.title}", _table(section), *section.notes]))
    return "\n\n".join(parts) + "\n"


def report_as_numbers(
    described: Mapping[str, Mapping[str, Any]], sections: Mapping[str, SectionReport | str]
) -> dict[str, Any]:
    """Write the numbers.

    Args:
        described: What was evaluated, how, and on what: `settings` and others by name.
        sections: By name: what was found, or why it was left out.

    Returns:
        What JSON can hold: `format`, what was described, and `sections` by name, each with `title`, `clips`, `figures`
        (by their keys: `label`, `value`, `interval`, `beside`, `count`, `better`, `per_clip`; null where there is
        none) and `notes`, or with `left_out`.
    """
    return {
        "format": FORMAT,
        **described,
        "sections": {
            name: {"left_out": section} if isinstance(section, str) else _section_numbers(section)
            for name, section in sections.items()
        },
    }


def write_report(folder: Path, numbers: Mapping[str, Any], markdown: str) -> None:
    """Write report.json and report.md.

    Args:
        folder: Where; there already.
        numbers: See `report_as_numbers`.
        markdown: See `report_as_markdown`.
    """
    text = json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(folder / REPORT_NAME, text + "\n")
    write_text_atomically(folder / "report.md", markdown)


def _section_numbers(section: SectionReport) -> dict[str, Any]:
    return {
        "title": section.title,
        "clips": list(section.clips),
        "figures": {figure.key: _numbers(figure) for figure in section.figures},
        "notes": section.notes,
    }


def _numbers(figure: Figure) -> dict[str, Any]:
    return {
        "label": figure.label,
        "value": _finite(figure.value),
        "interval": None if figure.interval is None else list(figure.interval),
        "beside": _finite(figure.beside),
        "count": figure.count,
        "better": figure.better if isinstance(figure.better, str) else _finite(figure.better),
        "per_clip": None if figure.per_clip is None else [_finite(float(value)) for value in figure.per_clip],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _table(section: SectionReport) -> str:
    """Columns that no figure fills are left out."""
    columns = {
        "figure": [marked(figure.label, figure.better, figure.beside) for figure in section.figures],
        "value": [_shown(figure.value) for figure in section.figures],
        "95 % interval": [
            "" if figure.interval is None else " to ".join(map(_shown, figure.interval)) for figure in section.figures
        ],
        section.beside: ["" if figure.beside is None else _shown(figure.beside) for figure in section.figures],
        "n": ["" if figure.count is None else str(figure.count) for figure in section.figures],
    }
    filled = {title: cells for title, cells in columns.items() if any(cells)}
    rows = [list(filled), ["---"] * len(filled), *zip(*filled.values(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shown(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else NOTHING
