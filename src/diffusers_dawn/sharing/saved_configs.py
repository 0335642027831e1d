"""Check what the configs of a saved pipeline say before anything is built of them."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..models.size_limits import MOST_LAYERS

# more than any width, number of training steps or sampling rate; building what they ask for would take all memory
MOST_OF_A_CONFIG = 10**6
CONFIG_NAMES = ("config.json", "scheduler_config.json", "preprocessor_config.json")


def check_saved_numbers(folder: str | os.PathLike) -> None:
    """Refuse a saved pipeline whose configs hold absurd numbers, also those of parts that are not of this package.

    Args:
        folder: The pipeline's folder.

    Raises:
        ValueError: A number of layers is above 256, another whole number above a million, a number is NaN, a count is
            negative, or a convolution has no size.
    """
    for path in sorted(place for name in CONFIG_NAMES for place in Path(folder).glob(f"*/{name}")):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # said by what loads it
            continue
        for name, value in _numbers_of(config):
            most = MOST_LAYERS if name.startswith("num_") and name.endswith(("layers", "blocks")) else MOST_OF_A_CONFIG
            # strides, kernels and channels of convolutions, and counts; others may be of any sign
            least = 1 if name.startswith("conv_") else 0 if name.startswith("num_") else -math.inf
            if math.isnan(value) or value < least or (isinstance(value, int) and abs(value) > most):
                allowed = f"of at most {most:,}" if least < 0 else f"from {least} to {most:,}"
                raise ValueError(f"`{name}` in {path.parent.name}/{path.name} is {value}, must be a number, {allowed}")


def _numbers_of(config: Any, name: str = "") -> Iterator[tuple[str, int | float]]:
    """Numbers anywhere in a config, by the innermost name."""
    if isinstance(config, dict):
        for inner, value in config.items():
            yield from _numbers_of(value, inner)
    elif isinstance(config, list):
        for value in config:
            yield from _numbers_of(value, name)
    elif isinstance(config, int | float) and not isinstance(config, bool):
        yield name, config
