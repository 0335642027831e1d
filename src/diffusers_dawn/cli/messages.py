"""What the `dawn` command prints, and which library messages it hides."""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging import CRITICAL
from typing import Any, TextIO

from ..machine.free_memory import process_limit_bytes

# Errors in what the user gave explain themselves
USER_ERRORS = (ValueError, OSError, ImportError)
MOST_LETTERS = 1000
# what loaders and allocators say where memory ends, which sounds like a broken installation
OUT_OF_MEMORY = ("shared object", "allocate memory")
# where warnings go is a matter of the process
_LISTENING = threading.Lock()


class PatientStream:
    """A stream that drops its text once nobody reads it, so that a closed pipe does not stop the work.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # file names may not be valid text

    def write(self, text: str) -> int:
        """Write, or do nothing if the reader is gone."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what is buffered if the reader is gone."""
        try:
            self._stream.flush()
        except OSError:
            # the interpreter flushes once more when it ends
            with suppress(OSError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        """Pass on all other attributes of the stream."""
        return getattr(self._stream, name)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def quiet_libraries() -> None:
    """Silence the developer messages of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        # what goes wrong is said once, in the command's own sentence
        logging.set_verbosity(CRITICAL)
        logging.disable_progress_bar()


def describe_error(error: Exception) -> str:
    """Put an error into one line of bounded length; one that does not explain itself also names its type."""
    kind = "" if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: "
    line = f"{kind}{' '.join(str(error).split())}{_limit_that_was_met(error)}"
    # what was given may be of any length, and is part of the message
    is_long = len(line) > MOST_LETTERS
    return f"{line[: MOST_LETTERS // 2]} ... {line[-MOST_LETTERS // 2 :]}" if is_long else line


def _limit_that_was_met(error: Exception) -> str:
    limits = process_limit_bytes()
    if not limits or not (isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)):
        return ""
    return f"; limits of this process (ulimit) leave {min(limits) / 1e6:.0f} MB of memory, which may be too little"


@contextmanager
def told_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Hand over the warnings of this thread; those of others go where they went.

    Only one thread at a time can be within: what is done there should be short.

    Args:
        tell: Called with each warning.
    """
    own = threading.get_ident()
    with _LISTENING, warnings.catch_warnings():
        elsewhere = warnings.showwarning

        def show(message: Warning | str, *place: Any, **named: Any) -> None:
            if threading.get_ident() == own:
                tell(str(message))
            else:
                elsewhere(message, *place, **named)

        warnings.filterwarnings("always", module=r"diffusers_dawn(\..*)?")
        warnings.showwarning = show
        yield


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
