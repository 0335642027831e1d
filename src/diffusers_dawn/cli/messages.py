"""What the `dawn` command prints, and what it keeps from its users."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def quiet_libraries() -> None:
    """Keep what diffusers and transformers tell developers away from users."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each warning once, as one line."""
    seen = set()

    def show(message: Warning | str, *_: object) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            print(f"dawn: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"diffusers_dawn(\..*)?")
        warnings.showwarning = show
        yield
