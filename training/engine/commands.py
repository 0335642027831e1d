"""How every training command ends: with an exit status, and one sentence on failure."""

import os
import sys
from collections.abc import Callable

from diffusers_dawn.machine.allocator import keep_freed_memory
from diffusers_dawn.machine.standard_streams import open_missing_streams
from diffusers_dawn.machine.stopping import stopped_by_signals

# what goes wrong with what a user gives has a sentence of its own
USER_ERRORS = (ValueError, OSError, ImportError)
INTERRUPTED = 130


class ToldElsewhere(ValueError):
    """Another of the processes that share the work was refused something, and tells it."""


def run(
    name: str,
    work: Callable[[], None],
    *,
    debug: bool = False,
    after_interrupt: str = "run the same command again to continue",
    shares_work: bool = False,
) -> int:
    """Do a command's work.

    Args:
        name: Name of the command.
        work: What it does.
        debug: Whether an error of the user is raised with its traceback instead of told in one sentence.
        after_interrupt: What is said after Ctrl-C and other signals to stop.
        shares_work: Whether the processes of `accelerate launch` share the work; several are refused otherwise.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    try:
        with stopped_by_signals():
            if not shares_work:
                _refuse_several_processes(name)
            work()
    except KeyboardInterrupt:
        print(f"{name}: interrupted; {after_interrupt}", file=sys.stderr)
        return INTERRUPTED
    except ToldElsewhere:
        return 2
    except USER_ERRORS as error:
        if debug:
            raise
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _refuse_several_processes(name: str) -> None:
    """Refuse to do the same work several times over, into the same files; the first process tells it."""
    num_launched = os.environ.get("WORLD_SIZE", "1")
    if not num_launched.isdecimal() or int(num_launched) <= 1:
        return
    if os.environ.get("RANK", "0") != "0":
        raise ToldElsewhere
    raise ValueError(
        f"accelerate launched {num_launched} processes, must be one: they would all do the same work; run"
        f" `python training/{name}.py`"
    )


def program(main: Callable[[], int]) -> None:
    """Run a command as a program of its own, which keeps freed memory for its next tensors, and exit.

    Args:
        main: The command; returns its exit status.
    """
    open_missing_streams()
    keep_freed_memory()
    sys.exit(main())
