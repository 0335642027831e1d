"""What the words of options mean that are more than a number or a text."""

import argparse

from ..records import SquareCrop


def weights_of(word: str) -> float | dict[str, float]:
    """Read a weight, or weights by name, as "speech=2,blink=1.5".

    Args:
        word: The word.

    Returns:
        The weight, or those of each name.

    Raises:
        ArgumentTypeError: It is something else, or has a name twice.
    """
    pairs = [pair.partition("=") for pair in word.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    try:
        if "=" not in word:
            return float(word)
        weights = {name: float(weight) for name, (_, _, weight) in zip(names, pairs, strict=True)}
    except ValueError:
        weights = {}
    if len(weights) < len(names):
        raise argparse.ArgumentTypeError(
            f"{word!r} must be a number, or numbers by name, each once, as speech=2,blink=1.5"
        )
    return weights


def square_of(word: str) -> SquareCrop:
    """Read a square of a picture, as "120,40,300".

    Args:
        word: The word.

    Returns:
        The square.

    Raises:
        ArgumentTypeError: It is something else.
    """
    try:
        return SquareCrop(*map(int, word.split(",")))
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"`--crop` is {word!r}, must be left, top and side as 120,40,300") from error
