"""Direct a head by a short text: "nod twice at the start, then look left; at 2 s yaw 15; blink rate 0.3".

The text is read into statements here; `direction` says when they happen in a clip and carries them out.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..ranges import check_class
from .blinks import MOST_BLINKS_PER_S
from .gestures import GESTURES, Gesture
from .keyframes import EYES, Keyframe
from .track import MOST_SCALE, MotionTrack

MOST_LETTERS = 20_000
MOST_TEMPERATURE, MOST_TAKES = 3.0, 64
UNSIGNED = r"(?:\d+(?:\.\d+)?|\.\d+)"
NUMBER = f"([-+]?{UNSIGNED})"
CHANNELS = {"yaw": "yaw_deg", "pitch": "pitch_deg", "roll": "roll_deg", "eyes": EYES}
CHANNEL = f"({'|'.join(CHANNELS)})"
COUNTS = {"once": 1, "twice": 2, "two times": 2, "three times": 3, "four times": 4, "five times": 5}
STRENGTHS = {"slightly": 0.5, "gently": 0.5, "a little": 0.5, "strongly": 1.7, "a lot": 1.7}
PLACES = {"at the start": "start", "at the beginning": "start", "in the middle": "middle", "at the end": "end"}
# what may stand in a gesture and says nothing: "shake the head", "look to the left"
FILLERS = {"the", "your", "his", "her", "their", "head", "to", "please", "eyes"}
EXAMPLES = "'nod twice at 1.5 s', 'look left on word 3', 'at 2 s yaw 15', 'blink rate 0.3', 'head from film.mp4'"


@dataclass(frozen=True)
class When:
    """A moment of a clip; one of the three is given.

    Attributes:
        at_s: Its time [s].
        place: "start", "middle", "end", or "next": behind the gesture before.
        word: The word of the transcript that begins then, by its number from 1, or as it is written.
    """

    at_s: float | None = None
    place: str | None = None
    word: int | str | None = None


@dataclass(frozen=True)
class TakeFrom:
    """Take "head", "blinks" or both ("motion") from a file, a track or a video; `track` is what was read from it."""

    part: str
    file: str
    track: MotionTrack | None = None


@dataclass(frozen=True)
class SampleMotion:
    """What PBNet's noise is multiplied by, and which of its candidates counts, from 1."""

    temperature: float | None = None
    take: int | None = None


@dataclass(frozen=True)
class GiveTranscript:
    """What is said, or the file that tells it."""

    text: str


@dataclass(frozen=True)
class Edit:
    """A method of `MotionTrack`, and what it is called with."""

    method: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class SetKeyframe:
    """A keyframe at a moment; no values: back to its own course."""

    when: When
    values: Mapping[str, float] | None


@dataclass(frozen=True)
class Perform:
    """A gesture at a moment; its own time does not count."""

    when: When
    gesture: Gesture


@dataclass(frozen=True)
class Join:
    """Begin or end ("start", "end") at rest, or as a file's track ends or begins; `track` is what was read from it."""

    side: str
    file: str | None
    track: MotionTrack | None = None


Statement: TypeAlias = TakeFrom | SampleMotion | GiveTranscript | Edit | SetKeyframe | Perform | Join


@dataclass(frozen=True)
class MotionScript:
    """What a text directs, in its order.

    Attributes:
        statements: The statements.
        text: The text.
    """

    statements: tuple[Statement, ...]
    text: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Files that it names, for whoever runs texts of strangers and must refuse them."""
        transcripts = (said.text for said in self.statements if isinstance(said, GiveTranscript))
        return self.track_files + tuple(filter(is_text_file, transcripts))

    @property
    def track_files(self) -> tuple[str, ...]:
        """Those that motion is taken from: tracks and videos."""
        return tuple(s.file for s in self.statements if isinstance(s, TakeFrom | Join) and s.file is not None)


def is_text_file(name: str | os.PathLike) -> bool:
    """Tell the name of a text's file from a text, such as a transcript in quotes."""
    return Path(name).suffix.lower() == ".txt"


def parse_script(text: str, name: str = "motion") -> MotionScript:
    """Read a text that directs a head; `docs/motion.md` tells what it may say.

    Statements are apart by commas, semicolons, full stops, line ends, "then" or "and"; what stands in double quotes
    is kept together. Capital letters make no difference. What stands behind "#" is a comment up to the line's end.

    Args:
        text: The text.
        name: Its name for error messages.

    Returns:
        The script.

    Raises:
        ValueError: Something is not understood, out of range, or the text is empty or too long.
    """
    check_class(name, text, str)
    if len(text) > MOST_LETTERS:
        raise ValueError(f"`{name}` has {len(text)} letters, must have {MOST_LETTERS} at most")
    statements: list[Statement] = []
    for clause in clauses_of(text, name):
        try:
            statements.append(_statement(clause, statements[-1] if statements else None))
        except ValueError as error:
            raise ValueError(f"`{name}`: {clause!r} {error}") from error
    if not statements:
        raise ValueError(f"`{name}` says nothing; it may say {EXAMPLES}")
    return MotionScript(tuple(statements), text)


def clauses_of(text: str, name: str = "motion") -> list[str]:
    """Split a text into what makes a statement each, with single spaces and without comments.

    Args:
        text: The text.
        name: Its name for error messages.

    Returns:
        The parts, as many as `parse_script` makes statements of them.

    Raises:
        ValueError: A quote is not closed.
    """
    clauses = [""]
    parts = re.compile(
        r'(?P<kept>"[^"]*")|(?P<comment>#[^\n]*)|(?P<end>[;,\n]|[.!](?=\s|$)|\b(?:and then|then|and)\b)|(?P<letter>.)',
        re.IGNORECASE | re.DOTALL,
    )
    for part in parts.finditer(text):
        if part["letter"] == '"':
            raise ValueError(f"`{name}` has a double quote that is not closed: {text[part.start() :][:40]!r}")
        if part["end"]:
            clauses.append("")
        else:
            clauses[-1] += part["kept"] or part["letter"] or ""
    return [" ".join(clause.split()) for clause in clauses if clause.strip(" .!")]


def _statement(clause: str, before: Statement | None) -> Statement:
    bare = clause if clause.endswith('"') else _without_stops(clause)
    for pattern, make in _PATTERNS:
        match = re.fullmatch(pattern, bare, re.IGNORECASE)
        if match:
            return make(*match.groups())
    when, rest = _split_time(clause)
    if re.fullmatch(f"{CHANNEL} (to )?{NUMBER}( {CHANNEL} (to )?{NUMBER})*", rest, re.IGNORECASE):
        if when is None and isinstance(before, SetKeyframe):
            when = before.when
        if when is None:
            raise ValueError(f"says no time; it may say 'at 2 s {rest}', or 'offset {rest}' for the whole clip")
        values = _channel_values(rest)
        return SetKeyframe(when, _checked(lambda: Keyframe(0.0, values).values))
    if rest.lower() == "back":
        if when is None:
            raise ValueError("says no time; it may say 'at 3 s back'")
        return SetKeyframe(when, None)
    return _gesture(when, rest)


def _without_stops(clause: str) -> str:
    """Take points and exclamation marks off both ends, but not the point of a number such as ".5"."""
    stops = " .!"
    bare, before = clause.strip(stops), clause[: len(clause) - len(clause.lstrip(stops))]
    return f".{bare}" if bare[:1].isdecimal() and before.endswith(".") else bare


def _split_time(clause: str) -> tuple[When | None, str]:
    """Take the time out of a statement."""
    found: list[When] = []

    def note(match: re.Match) -> str:
        seconds, number, quoted, place = match.group("seconds", "number", "quoted", "place")
        if seconds is not None:
            found.append(When(at_s=float(seconds)))
        elif number is not None:
            if int(number) < 1:
                raise ValueError("counts words from 1")
            found.append(When(word=int(number)))
        elif quoted is not None:
            found.append(When(word=quoted))
        else:
            found.append(When(place=PLACES[place.lower()]))
        return " "

    rest = re.sub(
        rf"\bat (?P<seconds>{UNSIGNED}) ?(?:s|sec|seconds?)\b|\bon (?:the )?word (?P<number>\d+)\b"
        rf'|\bon (?:the )?(?:word )?"(?P<quoted>[^"]+)"|\b(?P<place>{"|".join(PLACES)})\b',
        note,
        clause,
        flags=re.IGNORECASE,
    )
    if len(found) > 1:
        raise ValueError("has two times, must have one")
    return (found[0] if found else None), " ".join(rest.split()).strip(" .!:")


def _gesture(when: When | None, rest: str) -> Perform:
    """Read a gesture and how often, how strongly, how far and how long; in any order."""
    taken: dict[str, str] = {}

    def take(name: str, pattern: str) -> None:
        nonlocal rest
        match = re.search(rf"(?<!\S){pattern}(?!\S)", rest, re.IGNORECASE)
        if match:
            taken[name] = match[1].lower()
            rest = f"{rest[: match.start()]} {rest[match.end() :]}"

    take("degrees", rf"by ({UNSIGNED}) ?(?:degrees?|deg|°)")
    take("duration_s", rf"for ({UNSIGNED}) ?(?:s|sec|seconds?)")
    take("count", rf"({'|'.join(COUNTS)})")
    take("times", r"(\d+) times")
    take("strength", rf"({'|'.join(STRENGTHS)})")
    words = [word for word in rest.lower().split() if word not in FILLERS]
    kind = " ".join(words)
    if kind not in GESTURES:
        raise ValueError(_not_understood(kind))
    degrees = float(taken["degrees"]) if "degrees" in taken else None
    if "strength" in taken:
        if degrees is not None or not GESTURES[kind].number:
            raise ValueError(f"has {taken['strength']!r}, which goes with no degrees and no blink")
        degrees = abs(GESTURES[kind].degrees) * STRENGTHS[taken["strength"]]
    if {"count", "times"} <= taken.keys():
        raise ValueError("has two counts, must have one")
    times = COUNTS[taken["count"]] if "count" in taken else int(taken.get("times", 1))
    duration_s = float(taken["duration_s"]) if "duration_s" in taken else None
    gesture = _checked(lambda: Gesture(kind, 0.0, times, degrees, duration_s))
    return Perform(when or When(place="next"), gesture)


def _not_understood(kind: str) -> str:
    first = f"is not understood: {kind!r}" if kind else "is not understood"
    close = difflib.get_close_matches(kind, GESTURES, n=1)
    hint = f"; is {close[0]!r} meant?" if close else "."
    return f"{first}{hint} It may be one of {', '.join(GESTURES)}, or as in {EXAMPLES}"


def _checked(make: Callable[[], object]) -> object:
    """Let a refusal of a record follow the statement that it quotes."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"cannot be: {error}") from error


def _channel_values(text: str) -> dict[str, float]:
    pairs = re.findall(f"{CHANNEL} (?:to )?{NUMBER}", text, re.IGNORECASE)
    values = {CHANNELS[channel.lower()]: float(number) for channel, number in pairs}
    if len(values) < len(pairs):
        raise ValueError("has one of yaw, pitch, roll and eyes twice")
    return values


def _within(value: str, low: float, high: float) -> float:
    if not low <= float(value) <= high:
        raise ValueError(f"has {value}, must have a number from {low:g} to {high:g}")
    return float(value)


def _take_from(part: str, file: str) -> TakeFrom:
    return TakeFrom({"pose": "head", "blink": "blinks"}.get(part.lower(), part.lower()), file.strip('"'))


def _offset(text: str) -> Edit:
    if not re.fullmatch(f"{CHANNEL} {NUMBER}( {CHANNEL} {NUMBER})*", text, re.IGNORECASE):
        raise ValueError("is not understood; it may say 'offset yaw 5 pitch -3'")
    values = _channel_values(text)
    if EYES in values:
        raise ValueError("has eyes, which have no offset")
    for value in values.values():
        _within(str(value), -90, 90)
    return Edit("turned", values)


def _limit(channel: str, low: str, high: str | None) -> Edit:
    if high is None:
        low, high = str(-abs(float(low))), str(abs(float(low)))
    if float(low) > float(high):
        raise ValueError("has the larger number first")
    return Edit("limited", {CHANNELS[channel.lower()]: (float(low), float(high))})


def _blinks_per(number: str, unit: str) -> Edit:
    per_s = float(number) / (60 if unit.lower() == "minute" else 1)
    return Edit("with_blink_rate", {"per_s": _within(f"{per_s:.6g}", 0, MOST_BLINKS_PER_S)})


def _whole(text: str, most: int) -> int:
    if not text.isdecimal():
        raise ValueError(f"has {text}, must have a whole number")
    return int(_within(text, 1, most))


_FILE = r'("[^"]+"|[^\s"]\S*)'
# each form of a statement that is no gesture and no keyframe
_PATTERNS: tuple[tuple[str, Callable[..., Statement]], ...] = (
    (rf"(head|pose|blinks?|motion) from {_FILE}", _take_from),
    (rf"transcript {_FILE}", lambda text: GiveTranscript(text.strip('"'))),
    (rf"temperature {NUMBER}", lambda number: SampleMotion(temperature=_within(number, 0, MOST_TEMPERATURE))),
    (rf"take {NUMBER}", lambda number: SampleMotion(take=_whole(number, MOST_TAKES))),
    (rf"head motion {NUMBER}", lambda number: Edit("scaled", {"head": _within(number, 0, MOST_SCALE)})),
    (r"(?:keep )?(?:the )?(?:head still|still head)|no head motion", lambda: Edit("scaled", {"head": 0.0})),
    (rf"blink strength {NUMBER}", lambda number: Edit("scaled", {"blinks": _within(number, 0, MOST_SCALE)})),
    (rf"blink rate {NUMBER}", lambda number: _blinks_per(number, "second")),
    (rf"{NUMBER} blinks (?:per|a|an) (second|minute)", _blinks_per),
    (rf"blink {NUMBER} times (?:per|a|an) (second|minute)", _blinks_per),
    (r"no blinks|(?:do not|don't|never) blink", lambda: _blinks_per("0", "second")),
    (rf"smooth {NUMBER} ?(?:s|sec|seconds?)", lambda number: Edit("smoothed", {"duration_s": _within(number, 0, 10)})),
    (rf"limit {CHANNEL} {NUMBER}(?: to {NUMBER})?", _limit),
    (r"offset (.+)", _offset),
    (r"(?:begin|start) at rest", lambda: Join("start", None)),
    (r"end at rest", lambda: Join("end", None)),
    (rf"(?:begin|start) after {_FILE}", lambda file: Join("start", file.strip('"'))),
    (rf"end before {_FILE}", lambda file: Join("end", file.strip('"'))),
)
