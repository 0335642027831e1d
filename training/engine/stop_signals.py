"""Signals to stop a training: noticed at once, obeyed by all processes after the same step."""

import signal
import threading
import time
from types import FrameType, TracebackType

import torch
from accelerate import Accelerator

from diffusers_dawn.machine.stopping import STOP_SIGNALS

# what comes this soon after the first is the same wish: launchers pass on what the processes got already
SAME_WISH_S = 1.0
# shells call a process that a signal ended so
SIGNAL_EXIT_CODE = 128


class TrainingInterrupted(Exception):
    """A training stopped because a signal asked for it, with a checkpoint of its last step.

    Args:
        signal_number: The signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = SIGNAL_EXIT_CODE + signal_number


class StopSignals:
    """Note the first signal inside a `with` block; a second one ends the process at once.

    Signals that are ignored stay so, and all are left alone in threads, where Python cannot handle them.

    Args:
        accelerator: Knows the other processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.received, self._received_s = 0, 0.0
        self._earlier: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        """Begin to take note."""
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
            self._earlier = {number: found for number, found in handlers.items() if found is not signal.SIG_IGN}
            for number in self._earlier:
                signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the signal handlers."""
        for number, handler in self._earlier.items():
            # None: not from Python
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def agreed(self) -> int:
        """Tell whether any process was asked to stop; all processes must call this and get the same answer.

        Returns:
            Number of the signal; 0: none came.
        """
        if self.accelerator.num_processes == 1:
            return self.received
        flag = torch.tensor([self.received], device=self.accelerator.device)
        return int(self.accelerator.gather(flag).max())

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.received and now_s - self._received_s > SAME_WISH_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif not self.received:
            self.received, self._received_s = number, now_s


def leave_signals_to_parent(worker: int) -> None:
    """Let a worker process of a data loader outlive signals to the whole group; it ends with the process it works for.

    Args:
        worker: Its number; not used.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
