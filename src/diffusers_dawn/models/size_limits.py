"""Check the numbers in a network's config before anything is built."""

from collections.abc import Mapping, Sequence

from ..ranges import is_between, is_whole_number

MOST_CHANNELS, MOST_LAYERS, MOST_WINDOW_FRAMES = 2**14, 256, 10**5
MOST_LEVELS = 16
# rows of a table of distances, and the distance from which all share a row, by the names of a config
POSITION_TABLES = {"position_buckets": "position_max_distance", "num_buckets": "max_distance"}
LEAST_ROWS = 4
# from a motion that nothing moves to one that leaves the picture at once; the others are of whole pictures and turns
FLOW_SCALES, CONDITION_SCALES, POSES = (1e-3, 1e3), (-1e6, 1e6), (-1e5, 1e5)


def check_sizes(sizes: Mapping[str, int | Sequence[int]]) -> None:
    """Refuse sizes with which no network can be built.

    Args:
        sizes: Sizes by the names of a config; those that begin with "num_" and end in "blocks" or "layers" count
            layers, sequences hold channels per level.

    Raises:
        ValueError: One is no whole number, below 1, or absurdly large, or a table of distances has fewer than four
            rows, or a distance within the quarter of them that are of one distance each.
    """
    for name, value in sizes.items():
        most = MOST_LAYERS if name.startswith("num_") and name.endswith(("blocks", "layers")) else MOST_CHANNELS
        several = isinstance(value, list | tuple)
        if several and not 1 <= len(value) <= MOST_LEVELS:
            raise ValueError(f"`{name}` has {len(value)} levels, must have 1 to {MOST_LEVELS}")
        least = 0 if most == MOST_LAYERS else 1
        if not all(is_whole_number(size) and least <= size <= most for size in (value if several else [value])):
            raise ValueError(
                f"`{name}` is {value!r}, must be a whole number from {least} to {most}{' per level' * several}"
            )
    for rows, distance in POSITION_TABLES.items():
        if rows in sizes and sizes[rows] < LEAST_ROWS:
            raise ValueError(f"`{rows}` is {sizes[rows]}, must be at least {LEAST_ROWS}")
        # a quarter of the rows are of one distance each, the others of wider and wider ranges beyond
        if rows in sizes and sizes[distance] <= sizes[rows] // 4:
            raise ValueError(
                f"`{distance}` is {sizes[distance]}, must be more than a quarter of `{rows}`, {sizes[rows]}"
            )


def check_windows_in_time(windows: Mapping[str, int | None]) -> None:
    """Refuse windows of attention over frames that see nothing or need absurd memory.

    Args:
        windows: How far a frame sees, by the names of a config; None: without limit.

    Raises:
        ValueError: One is no whole number, negative, or absurdly large.
    """
    for name, value in windows.items():
        if value is not None and not (is_whole_number(value) and 0 <= value <= MOST_WINDOW_FRAMES):
            raise ValueError(f"`{name}` is {value!r}, must be a whole number from 0 to {MOST_WINDOW_FRAMES}, or None")


def check_numbers(numbers: Mapping[str, float | Sequence[float] | None], least: float, most: float) -> None:
    """Refuse factors and bounds that are no numbers, or that turn every motion into none or into infinity.

    Args:
        numbers: Numbers by the names of a config; None: not set.
        least: Smallest one allowed.
        most: Largest one allowed.

    Raises:
        ValueError: One is no number, or out of range.
    """
    for name, value in numbers.items():
        several = value if isinstance(value, list | tuple) else [value]
        if value is not None and not all(is_between(each, least, most) for each in several):
            raise ValueError(f"`{name}` is {value!r}, must be a number from {least:g} to {most:g}")
