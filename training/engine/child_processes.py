"""Start processes on this machine: commands, and workers that share tasks.

Nothing heavy is imported here, because every worker begins with this module.
"""

import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.queues import SimpleQueue
from typing import Any

from training.engine.commands import USER_ERRORS

# how often the parent looks after its workers
LOOK_S = 0.5


def run_command(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command; when this process is asked to stop, let it finish in its own way.

    Args:
        command: Its words.
        environment: Its environment variables; None: those of this process.

    Returns:
        Its exit code.
    """
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt as interruption:
            number = getattr(interruption, "signal_number", signal.SIGINT)
            if number != signal.SIGINT:  # which a terminal sends to all processes
                process.send_signal(number)
            # a training saves a checkpoint now; `subprocess.run` would kill it
            process.wait()
            raise


def run_workers(
    work: Callable[[int, Any], None], tasks: Sequence[Any], look: Callable[[], None] | None = None
) -> None:
    """Run tasks in parallel, each in a new process on this machine.

    The workers end when this process ends, however it does, so that nobody writes behind a later run's back.

    Args:
        work: Called with a task's number and the task; must be importable.
        tasks: One per worker; must be picklable.
        look: Called now and then while the workers run.

    Raises:
        ValueError: As `work` raises it, like OSError and ImportError; the other workers are ended.
        RuntimeError: A worker dies.
    """
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    workers = [
        context.Process(target=_work, args=(work, index, task, errors), daemon=True)
        for index, task in enumerate(tasks)
    ]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            next(worker for worker in workers if worker.is_alive()).join(LOOK_S)
            if look is not None:
                look()
            if any(worker.exitcode not in (None, 0) for worker in workers):
                break
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
                worker.join()
    if not errors.empty():
        raise errors.get()
    for worker in workers:
        if worker.exitcode != 0:
            raise RuntimeError(f"worker {worker.name} ended with exit code {worker.exitcode}")


def _work(work: Callable[[int, Any], None], index: int, task: Any, errors: "SimpleQueue[Exception]") -> None:
    # an interrupt reaches the parent too, which ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(index, task)
    except USER_ERRORS as error:
        errors.put(error)
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
