"""Reports that `training/evaluate.py` writes: read them, and find out whether two of them fit each other."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPORT_NAME = "report.json"
# programs that read a report know by this what it holds
FORMAT = 2
HIGHER, LOWER = "higher", "lower"
MARKS = {HIGHER: "↑", LOWER: "↓"}
# what both reports must have been measured on
SAME_EVERYWHERE = ("dataset", "test_split", "size_px", "clip_seconds")
# what matters to some sections only
SAME_IN = {
    "reconstruction": ("frame_stride",),
    "long": ("long_seconds",),
    "recordings": ("recordings",),
    "films": ("real_clips",),
    "portraits": ("portraits", "recordings"),
}

Report = Mapping[str, Any]


def read_report(place: str, name: str) -> Report:
    """Read a report.

    Args:
        place: The file, or the folder that `training/evaluate.py` wrote it to.
        name: What errors call it.

    Returns:
        What the file holds.

    Raises:
        ValueError: There is none, or it is none that can be compared.
    """
    path = Path(place)
    path = path / REPORT_NAME if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise ValueError(f"`{name}` is {place}, must be a folder with {REPORT_NAME}, or such a file")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{name}` is {place}, which is not JSON: {error}") from error
    if not isinstance(report, dict) or not {"settings", "sections"} <= report.keys():
        raise ValueError(f"`{name}` is {place}, which is no report of training/evaluate.py")
    if report.get("format") != FORMAT:
        raise ValueError(
            f"`{name}` is {place}, a report of format {report.get('format', 1)}, must be of format {FORMAT}, which "
            "says what each clip has: evaluate again"
        )
    return report


def common_sections(first: Report, second: Report) -> list[str]:
    """Name the sections that both reports measured, and make sure that they measured the same in them.

    Args:
        first: A report.
        second: Another one.

    Returns:
        The names, at least one.

    Raises:
        ValueError: They do not fit each other; the message says in what.
    """
    _check_same(first["settings"], second["settings"], SAME_EVERYWHERE, "")
    networks = [report["settings"].get("extractors", {}) for report in (first, second)]
    _check_same(*networks, sorted(networks[0].keys() & networks[1].keys()), "extractors: ")
    measured = [
        [name for name, section in report["sections"].items() if "figures" in section] for report in (first, second)
    ]
    names = [name for name in measured[0] if name in measured[1]]
    if not names:
        lists = (", ".join(found) or "nothing" for found in measured)
        raise ValueError(f"`A` and `B` do not fit: they have measured {' and '.join(lists)}, no section in common")
    for name in names:
        _check_same(first["settings"], second["settings"], SAME_IN.get(name, ()), f"section {name}: ")
        clips = [report["sections"][name]["clips"] for report in (first, second)]
        if clips[0] != clips[1]:
            shared = len(set(clips[0]) & set(clips[1]))
            raise ValueError(
                f"`A` and `B` do not fit: section {name} is of {len(clips[0])} and {len(clips[1])} clips, which share "
                f"{shared}; must be the same"
            )
    return names


def marked(label: str, better: str | float | None, beside: float | None = None) -> str:
    """Say in a figure's label which value would be better.

    Args:
        label: The label.
        better: `HIGHER`, `LOWER`, or one nearer to this number; None: neither.
        beside: What stands beside the figure, and need not be said.

    Returns:
        The label, with ↑, ↓ or ≈.
    """
    if isinstance(better, str):
        return f"{label} {MARKS[better]}"
    if better is None or not math.isfinite(better):
        return label
    return f"{label} ≈" if better == beside else f"{label} ≈ {better:.4g}"


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Find the entries in which two mappings differ.

    Args:
        first: A mapping.
        second: Another one.

    Returns:
        Both values by name; None where one has none.
    """
    pairs = {name: (first.get(name), second.get(name)) for name in {**first, **second}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _check_same(first: Mapping[str, Any], second: Mapping[str, Any], names: Any, where: str) -> None:
    for name in names:
        values = first.get(name), second.get(name)
        if values[0] != values[1]:
            raise ValueError(f"`A` and `B` do not fit: {where}{name} is {values[0]} and {values[1]}, must be the same")
