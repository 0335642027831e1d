"""Draw portraits of people who do not exist, for `make_photo_clips.py`: so drawn faces learn to speak, too.

    python training/draw_portraits.py --output portraits/drawn --num_portraits 80

They are the drawn heads of `make_synthetic_clips.py`, each another person.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence

from tqdm.auto import tqdm

from diffusers_dawn.machine.output_places import check_folder
from training.engine import commands
from training.synthetic.example_inputs import write_portrait
from training.synthetic.talking_head import identity_seed


def draw_portraits(folder: Path, num_portraits: int, seed: int) -> None:
    """Draw portraits, named by their numbers; those that are there stay.

    Args:
        folder: Where to, made if it does not exist.
        num_portraits: How many.
        seed: Another seed, other people.

    Raises:
        ValueError: `num_portraits` is not positive, or the folder cannot be filled.
        ImportError: A package of the extra `synthetic` is missing.
        OSError: The folder cannot be written.
    """
    if num_portraits < 1:
        raise ValueError(f"`num_portraits` is {num_portraits}, must be at least 1")
    check_folder(folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    for person in tqdm(range(num_portraits), desc="portraits"):
        path = folder / f"drawn_{person:04d}.png"
        if not path.exists():
            write_portrait(path, identity_seed(person, "train", seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 refused, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for drawn_*.png")
    parser.add_argument("--num_portraits", type=int, default=80, help="how many people (default: 80)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people (default: 0)")
    options = parser.parse_args(arguments)
    return commands.run("draw_portraits", lambda: draw_portraits(options.output, options.num_portraits, options.seed))


if __name__ == "__main__":
    commands.program(main)
