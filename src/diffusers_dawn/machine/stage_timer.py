"""Wall-clock time by stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the time of a block to its stage.

    Args:
        seconds: Seconds by stage, in the order they first ran; changed.
        name: Stage of the block.

    Yields:
        Nothing.
    """
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
