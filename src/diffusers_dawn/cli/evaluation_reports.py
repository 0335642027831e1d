"""What every report of `training/evaluate.py` has in common: its file, its format, its marks."""

import math

REPORT_NAME = "report.json"
# programs that read a report know by this what it holds
FORMAT = 2
HIGHER, LOWER = "higher", "lower"
MARKS = {HIGHER: "↑", LOWER: "↓"}


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
