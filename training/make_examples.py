"""Draw the portraits and speak the recordings of `examples/`: people and sentences that dawn-open was not trained on.

    python training/make_examples.py --output examples

Prints what each file shows or says.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.records import FPS
from training.engine import commands
from training.synthetic.example_inputs import write_portrait, write_speech
from training.synthetic.talking_head import identity_seed

SEED = 0
# people of the test split, of whom nothing is trained; chosen by eye, for variety
PEOPLE = (108, 110, 111, 113, 114, 101)
SECONDS = (4, 6, 10)


def make_examples(folder: Path) -> list[str]:
    """Write the examples.

    Args:
        folder: Where to, made if it does not exist; files of the same names are replaced.

    Returns:
        One line for each file: its name and what it shows or says.

    Raises:
        ImportError: A package of the extra `synthetic` is missing.
        ValueError: The folder cannot be filled.
        OSError: It cannot be written.
    """
    check_folder(folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, person in enumerate(PEOPLE, 1):
        path = folder / f"portrait_{number}.png"
        write_portrait(path, identity_seed(person, "test", SEED))
        lines.append(f"{path.name}: person {person} of the test split")
    for number, (person, seconds) in enumerate(zip(PEOPLE, SECONDS, strict=False), 1):
        path = folder / f"speech_{number}.wav"
        sentences = write_speech(path, identity_seed(person, "test", SEED), seconds * FPS)
        lines.append(f"{path.name}: {seconds} s; {' '.join(sentences)}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 refused.
    """
    parser = argparse.ArgumentParser(description="Draw the portraits and speak the recordings of examples/.")
    parser.add_argument("--output", type=Path, required=True, help="folder for portrait_*.png and speech_*.wav")
    options = parser.parse_args(arguments)
    return commands.run("make_examples", lambda: print("\n".join(make_examples(options.output))))


if __name__ == "__main__":
    commands.program(main)
