"""Signals that ask a program to stop: an interrupt that clears away what is half-written, and is not cut short."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# the last one comes where a terminal is closed; Windows has none
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StoppedBySignal(KeyboardInterrupt):
    """A signal asked the program to stop.

    Args:
        signal_number: The signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn the first stop signal into a KeyboardInterrupt; ignore later ones, so that cleaning up is not cut short.

    Signals that are ignored stay so, as under nohup; all are left alone in threads, where Python cannot handle them.

    Yields:
        Nothing.

    Raises:
        StoppedBySignal: A signal came.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS if is_main}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        for number in before:
            # not SIG_IGN: Python would complain of one that came in together with this one
            signal.signal(number, lambda *_: None)
        raise StoppedBySignal(signal_number)

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: not from Python
            signal.signal(number, handler or signal.SIG_DFL)
