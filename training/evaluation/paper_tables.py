"""The numbers of the paper's ablations (HDTF, 128 px), and whether an evaluation comes in the same order."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from diffusers_dawn.cli.evaluation_reports import Report
from training.evaluation.variants import figure_of, seconds_per_video

SECONDS, FID, FVD, SYNC = "seconds per video", "FID", "FVD16", "LSE-C"
# by the setting that is varied, by its value
PAPER = {
    "strategy": {
        "all_at_once": {SECONDS: 7.32, FID: 9.60, FVD: 60.34, SYNC: 6.71},
        "sar": {SECONDS: 11.42, FID: 13.00, FVD: 120.33, SYNC: 4.34},
        "ttr": {SECONDS: 19.25, FID: 9.77, FVD: 95.42, SYNC: 4.87},
    },
    "clip_seconds": {
        "1.6": {FID: 9.35, FVD: 59.58, SYNC: 5.76},
        "4": {FID: 9.83, FVD: 61.72, SYNC: 6.41},
        "8": {FID: 9.60, FVD: 60.34, SYNC: 6.71},
        "16": {FID: 10.36, FVD: 61.57, SYNC: 6.63},
        "24": {FID: 10.30, FVD: 60.44, SYNC: 6.76},
    },
    "attention_window": {
        "20": {FVD: 159.19, SYNC: 5.69},
        "40": {FVD: 72.93, SYNC: 6.35},
        "80": {FVD: 52.05, SYNC: 6.71},
        "200": {FVD: 53.48, SYNC: 6.60},
        "none": {FVD: 63.95, SYNC: 6.37},
    },
    "motion": {
        "pbnet": {FID: 9.68, FVD: 52.05, SYNC: 6.71},
        "held": {FID: 15.20, FVD: 100.94, SYNC: 5.79},
    },
    "pipeline": {
        "stage1": {FID: 7.95, FVD: 81.84, SYNC: 4.38},
        "stage2": {FID: 13.71, FVD: 125.75, SYNC: 6.14},
        "both": {FID: 9.68, FVD: 52.05, SYNC: 6.71},
    },
}
# where a figure is found in a report: in the first of these that is there
KEYS = {FID: ("fid",), FVD: ("fvd16",), SYNC: ("lse_c", "lse_c_dawn_sync")}


def orders_as_markdown(name: str, reports: Mapping[str, Report]) -> str:
    """Say where rows of a table come in another order than the paper's.

    Args:
        name: The setting that was varied, one of `PAPER`.
        reports: What was found with each value, see `report.report_as_numbers`.

    Returns:
        Markdown: the paper's numbers beside those of the reports, and for each figure the pairs of rows that are
        ordered otherwise.
    """
    rows = {value: row for value, row in PAPER[name].items() if value in reports}
    lines = [f"Beside the paper's table of HDTF ({name}):", ""]
    for label in dict.fromkeys(label for row in rows.values() for label in row):
        found = {value: _found(label, reports[value]) for value in rows}
        if len(rows) < 2 or None in found.values():
            lines.append(f"- {label}: not measured in two rows or more.")
            continue
        listed = ", ".join(f"{value} {row[label]:g} / {found[value].value:.4g}" for value, row in rows.items())
        turned = [
            f"{first} and {second}"
            for first, second in combinations(rows, 2)
            if (rows[first][label] - rows[second][label]) * (found[first].value - found[second].value) < 0
        ]
        order = f"another order of {', '.join(turned)}" if turned else "in the same order"
        measured = next(iter(found.values())).label
        lines.append(f"- {label} of the paper / {measured} here: {listed}; {order}.")
    return "\n".join(lines) + "\n"


class _Found(NamedTuple):
    label: str
    value: float


def _found(label: str, report: Report) -> _Found | None:
    if label == SECONDS:
        seconds = seconds_per_video(report)
        return None if seconds is None else _Found(label, seconds)
    figures = (figure_of(report, "paper", key) for key in KEYS[label])
    return next((_Found(one["label"], one["value"]) for one in figures if one and one["value"] is not None), None)
