"""Calls that wait for each other, where an object has the state of one call only."""

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


class CallLock:
    """A lock that a thread may take again while it has it. A copy, also from a file, is a new one that is free."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        """Take the lock, or wait for it."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self._lock.release()

    def __reduce__(self) -> tuple[type["CallLock"], tuple[()]]:
        """Copy it as a new one: locks of threads cannot be copied."""
        return CallLock, ()


def one_at_a_time(method: Callable[Concatenate[Any, Inputs], Result]) -> Callable[Concatenate[Any, Inputs], Result]:
    """Let a method wait until other threads have left it and others like it, of the same object's `call_lock`."""

    @functools.wraps(method)
    def wait_and_run(self: Any, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        with self.call_lock:
            return method(self, *args, **kwargs)

    return wait_and_run
