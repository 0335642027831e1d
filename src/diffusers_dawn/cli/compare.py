"""`dawn compare`: line up two reports of an evaluation, and say which differences are more than chance."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evaluation_reports import HIGHER, Report, common_sections, differing, marked, read_report
from .messages import say
from .sign_flips import FlipTest, adjust_for_number, flip_signs, smallest_p

MOST_CHANCE = 0.05
FEWEST_PAIRS = 2
# settings that follow from others
UNTOLD = ("num_clips", "num_identities")
COLUMNS = ("figure", "A", "B", "B − A", "95 % interval", "n", "p", "what it says")
NOT_TESTED, TOO_FEW, EQUAL = "not tested", "too few clips to tell", "equal"


@dataclass
class Row:
    """A figure of both reports.

    Attributes:
        section: Its section.
        label: What it is.
        values: What the reports say: of pairs, the means of those that count in both.
        better: Which value would be better, as in the report; None: neither.
        num_pairs: Clips that count in both.
        test: Of the differences between pairs; None: there are no values per clip, fewer than two pairs, or no
            difference.
        p: Of the test; where a number is best, also of whether one is nearer to it. Raised for the number of tests.
    """

    section: str
    label: str
    values: tuple[float | None, float | None]
    better: str | float | None
    num_pairs: int = 0
    test: FlipTest | None = None
    p: float = 1.0


def compare(options: argparse.Namespace) -> None:
    """Compare two reports; see `dawn compare --help`.

    Args:
        options: The parsed options.

    Raises:
        ValueError: One of them is no report, or they do not fit each other.
    """
    say(comparison(read_report(options.first, "A"), read_report(options.second, "B")))


def comparison(first: Report, second: Report) -> str:
    """Write what two reports say beside each other.

    Args:
        first: A report, see `evaluation_reports.read_report`.
        second: Another one.

    Returns:
        Markdown.

    Raises:
        ValueError: They do not fit each other.
    """
    names = common_sections(first, second)
    rows = [row for name in names for row in _rows(name, *(report["sections"][name] for report in (first, second)))]
    # what so few clips could never show takes nothing from the others (Tarone 1990)
    tested = [row for row in rows if row.test is not None and _has_enough(row)]
    for row, p in zip(tested, adjust_for_number([row.p for row in tested]), strict=True):
        row.p = p
    parts = [_heading(first, second, len(tested))]
    for name in names:
        cells = [COLUMNS, ("---",) * len(COLUMNS), *(_cells(row) for row in rows if row.section == name)]
        title = first["sections"][name].get("title", name)
        parts.append("\n\n".join([f"### {title}", "\n".join(f"| {' | '.join(line)} |" for line in cells)]))
    single = _names_of_figures(first) ^ _names_of_figures(second)
    if single:
        parts.append(f"Left out, as only one report has them: {', '.join(sorted(single))}.")
    return "\n\n".join(parts)


def _names_of_figures(report: Report) -> set[str]:
    return {f"{name}.{key}" for name, section in report["sections"].items() for key in section.get("figures", ())}


def _rows(section: str, first: dict[str, Any], second: dict[str, Any]) -> list[Row]:
    figures, others = first["figures"], second["figures"]
    return [_row(section, figure, others[key]) for key, figure in figures.items() if key in others]


def _row(section: str, first: dict[str, Any], second: dict[str, Any]) -> Row:
    # what would be best is told by real clips, which are the same; a reader of faces may have seen them otherwise
    better = first["better"] if _is_same_aim(first["better"], second["better"]) else None
    row = Row(section, first["label"], (first["value"], second["value"]), better)
    if first["per_clip"] is None or second["per_clip"] is None:
        return row
    pairs = np.array([first["per_clip"], second["per_clip"]], np.float64)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    row.num_pairs = pairs.shape[1]
    if row.num_pairs < FEWEST_PAIRS:
        return row
    row.values = tuple(pairs.mean(axis=1).tolist())
    if (pairs[0] == pairs[1]).all():
        return row
    row.test = flip_signs(pairs[1] - pairs[0])
    row.p = row.test.p
    if isinstance(better, float | int):
        # one is nearer if they differ, and if what lies between them is on one side of the best
        row.p = max(row.p, flip_signs(pairs.mean(axis=0) - better).p)
    return row


def _is_same_aim(first: str | float | None, second: str | float | None) -> bool:
    if isinstance(first, float | int) and isinstance(second, float | int):
        return bool(np.isclose(first, second))
    return first == second


def _has_enough(row: Row) -> bool:
    """Tell whether so many clips could show a difference at all."""
    return smallest_p(row.num_pairs) <= MOST_CHANCE


def _verdict(row: Row) -> str:
    if row.num_pairs == 0:
        return NOT_TESTED
    if row.test is None and row.num_pairs >= FEWEST_PAIRS:
        return EQUAL
    if not _has_enough(row):
        return TOO_FEW
    if row.p > MOST_CHANCE:
        return "not beyond chance"
    if row.better is None:
        return "they differ"
    if isinstance(row.better, str):
        second_is_better = (row.test.mean > 0) == (row.better == HIGHER)
    else:
        second_is_better = abs(row.values[1] - row.better) < abs(row.values[0] - row.better)
    return f"**{'B' if second_is_better else 'A'} is better**"


def _cells(row: Row) -> Sequence[str]:
    first, second = row.values
    difference = None if first is None or second is None else second - first
    interval, p = "", ""
    if row.test is not None:
        low, high = row.test.mean - row.test.margin, row.test.mean + row.test.margin
        interval, p = f"{low:.3g} to {high:.3g}", f"{row.p:.2g}" if _has_enough(row) else ""
    shown = ["–" if value is None else f"{value:.4g}" for value in (first, second)]
    count = str(row.num_pairs) if row.num_pairs else ""
    change = "–" if difference is None else f"{difference:+.3g}"
    return (marked(row.label, row.better), *shown, change, interval, count, p, _verdict(row))


def _heading(first: Report, second: Report, num_tests: int) -> str:
    names = (report["settings"].get("pipeline") for report in (first, second))
    lines = ["## Comparison", "A: `{}`, B: `{}`.".format(*names)]
    for title, key in (("Settings", "settings"), ("Networks", "networks"), ("Versions", "versions")):
        found = differing(first.get(key, {}), second.get(key, {}))
        told = [f"{name} {a} / {b}" for name, (a, b) in found.items() if name not in UNTOLD]
        if told:
            lines.append(f"{title} that differ (A / B): {', '.join(told)}.")
    lines.append(
        "Clips are compared in pairs, n of them. p is how often chance alone makes such a difference: the signs of "
        f"the clips' differences are flipped, and p is raised for the {num_tests} figures that are tested (Holm). At "
        f"most {MOST_CHANCE:g} is more than chance. The interval is that of one figure alone. Where a number is best "
        "(≈), p also says that one of the two comes nearer to it. What has no value per clip, such as FID and "
        "medians, is not tested."
    )
    return "\n\n".join(lines)
