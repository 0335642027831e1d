"""What the `dawn` command prints, and what it keeps from its users."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import CRITICAL
from typing import Any, TextIO


class PatientStream:
    """A stream of the process that swallows what nobody reads any more, so that the work is not lost with its reader.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text

    def write(self, text: str) -> int:
        """Write, or do nothing where that is no longer possible."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is held back, or forget it."""
        try:
            self._stream.flush()
        except OSError:
            # the interpreter flushes once more when it ends
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        """Give what else the stream has."""
        return getattr(self._stream, name)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def quiet_libraries() -> None:
    """Keep what diffusers and transformers tell developers away from users."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        # what goes wrong is said once, in the command's own sentence
        logging.set_verbosity(CRITICAL)
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
