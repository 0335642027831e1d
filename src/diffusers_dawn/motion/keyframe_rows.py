"""The keyframes of a text that directs a head, as rows of a table that a person edits, and back into the text."""

from collections.abc import Iterable, Sequence
from typing import Any

from .keyframes import Keyframe
from .script import CHANNELS, SetKeyframe, clauses_of, parse_script

TIME = "time"
COLUMNS = (TIME, *CHANNELS)


def keyframe_rows(text: str, name: str = "motion") -> list[list[float | None]]:
    """List the keyframes that a text sets at times in seconds.

    Args:
        text: The text; it may be empty.
        name: Its name for error messages.

    Returns:
        Rows of `COLUMNS`, by time: seconds, degrees, and eyes (0 is shut, 1 as at rest); None where a keyframe says
        nothing. A row with a time alone leads back to the head's own motion.

    Raises:
        ValueError: The text is not understood.
    """
    rows = []
    for _, statement in _statements(text, name):
        if _has_time(statement):
            values = statement.values or {}
            rows.append([statement.when.at_s, *(values.get(channel) for channel in CHANNELS.values())])
    return sorted(rows, key=lambda row: row[0])


def with_keyframe_rows(text: str, rows: Iterable[Sequence[Any]], name: str = "motion") -> str:
    """Let a text set the keyframes of a table, instead of those that it sets at times in seconds.

    Args:
        text: The text; whatever else it says stays.
        rows: Rows of `COLUMNS`; an empty cell is None, an empty text or NaN. Rows without a time are passed over.
        name: Name of the text for error messages.

    Returns:
        The text.

    Raises:
        ValueError: The text is not understood, or a cell is no number or out of range.
    """
    clauses = [clause for clause, statement in _statements(text, name) if not _has_time(statement)]
    keyframes = [keyframe for row in rows if (keyframe := _keyframe(row)) is not None]
    clauses += [_clause(keyframe) for keyframe in sorted(keyframes, key=lambda keyframe: keyframe.at_s)]
    return "; ".join(clauses)


def _statements(text: str, name: str) -> Iterable[tuple[str, Any]]:
    clauses = clauses_of(text, name)
    return zip(clauses, parse_script(text, name).statements, strict=True) if clauses else ()


def _has_time(statement: Any) -> bool:
    return isinstance(statement, SetKeyframe) and statement.when.at_s is not None


def _keyframe(row: Sequence[Any]) -> Keyframe | None:
    if len(row) != len(COLUMNS):
        raise ValueError(f"a keyframe has {len(row)} cells, must have {len(COLUMNS)}: {', '.join(COLUMNS)}")
    numbers = {name: _number(cell, name) for name, cell in zip(COLUMNS, row, strict=True)}
    at_s = numbers.pop(TIME)
    values = {CHANNELS[name]: number for name, number in numbers.items() if number is not None}
    return None if at_s is None else Keyframe(at_s, values or None)


def _number(cell: Any, name: str) -> float | None:
    """Read a cell of a table, to the digits that a text has."""
    if cell is None or cell == "" or cell != cell:
        return None
    try:
        return round(float(cell), 2)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` of a keyframe is {cell!r}, must be a number") from error


def _clause(keyframe: Keyframe) -> str:
    values = keyframe.values or {}
    said = " ".join(f"{name} {_digits(values[channel])}" for name, channel in CHANNELS.items() if channel in values)
    return f"at {_digits(keyframe.at_s)} s {said or 'back'}"


def _digits(value: float) -> str:
    """Write a number as texts have it, without an exponent."""
    return f"{value + 0.0:.2f}".rstrip("0").rstrip(".")
