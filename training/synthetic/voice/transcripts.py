"""What is said in recordings: a table of transcripts, or the names of GRID's files."""

import re
from pathlib import Path

# the corpus's grammar of six words by the letters of a file's name (Cooke et al. 2006, doi 10.1121/1.2229005)
GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    # British talkers; the letter w is not used
    {letter: "zed" if letter == "z" else letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(
        zip(
            "123456789z", ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "zero"], strict=True
        )
    ),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
RECORDING_SUFFIXES = (
    *(".flac", ".wav", ".opus", ".ogg", ".mp3", ".m4a"),
    *(".mkv", ".mp4", ".mov", ".webm", ".mpg", ".avi"),
)


def grid_sentence(name: str) -> str:
    """Read the sentence of a GRID recording from its name.

    Args:
        name: The file's name without suffix; its last six letters are the sentence's, as in "s2_bbaf2n".

    Returns:
        The six words: "bin blue at f two now".

    Raises:
        ValueError: The name has no such letters.
    """
    letters = name.lower()[-6:]
    if len(letters) < 6 or any(letter not in words for letter, words in zip(letters, GRID_WORDS, strict=True)):
        raise ValueError(f"`name` is {name!r}, must end with the six letters of a GRID sentence, like bbaf2n")
    return " ".join(words[letter] for letter, words in zip(letters, GRID_WORDS, strict=True))


def read_transcripts(path: Path) -> dict[str, str]:
    """Read a table of transcripts.

    Args:
        path: Text file (UTF-8); each line has a recording's name without suffix, a tab, and what is said.

    Returns:
        What is said by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line has another form, or a name occurs twice.
    """
    transcripts: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not (name.strip() and tab and text.strip()) or "\t" in text:
            raise ValueError(f"`transcripts`: line {number} of {path} must be a name, one tab, and what is said")
        if name.strip() in transcripts:
            raise ValueError(f"`transcripts`: {path} has {name.strip()!r} twice")
        transcripts[name.strip()] = text.strip()
    return transcripts


def list_recordings(folder: Path) -> list[Path]:
    """List the recordings of a folder and all folders in it, by name; videos count.

    Args:
        folder: Where to look.

    Returns:
        The files, sorted.

    Raises:
        ValueError: It is no folder, holds none, or two of the same name.
    """
    if not folder.is_dir():
        raise ValueError(f"`recordings` is {folder}, must be a folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in RECORDING_SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"`recordings`: {folder} holds no recordings ({', '.join(RECORDING_SUFFIXES)})")
    places: dict[str, Path] = {}
    for path in found:
        if path.stem in places:
            raise ValueError(f"`recordings`: {places[path.stem]} and {path} have the same name; rename one of them")
        places[path.stem] = path
    return found


def speaker_of(name: str) -> str:
    """Tell who speaks from a recording's name: what stands before the first "-" or "_", as in LibriSpeech and GRID."""
    return re.split("[-_]", name, maxsplit=1)[0]
