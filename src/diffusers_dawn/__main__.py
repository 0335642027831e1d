"""The `dawn` command, also as `python -m diffusers_dawn`."""

import signal
import sys


def program() -> int:
    """Run the command; Ctrl-C while its modules are imported ends it without a word.

    Returns:
        Exit status, as of `cli.command.main`.
    """
    # a signal that is ignored stays so
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli.command import program as run

    return run()


if __name__ == "__main__":
    sys.exit(program())
