"""Run code in new processes that begin with everything imported, which takes longer than most of them run.

They are forked from one process that has imported and done nothing else. What a process does before its imports, and
what it imports, needs a process of its own: `subprocess`.
"""

import gc
import json
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([
    "diffusers_dawn.cli.animate",
    "diffusers_dawn.conversion.random_pipeline",
    "training.train_a2v",
    "training.prepare_clips",
    "training.make_synthetic_clips",
])


def begin(
    main: Callable[[Sequence[str]], Any], arguments: Sequence[Any], said: Path | None = None, **environment: str
) -> ForkServerProcess:
    """Begin to run a function in a new process.

    Args:
        main: Of a module; what it returns is the exit code.
        arguments: Its only argument; taken as texts.
        said: File for all that it prints; None: nobody reads that.
        environment: More environment variables, set after the imports.

    Returns:
        The process.
    """
    process = CONTEXT.Process(target=_run, args=(main, [*map(str, arguments)], said, environment))
    process.start()
    return process


def begin_two(
    main: Callable[[Sequence[str]], Any], arguments: Sequence[Any], said: Path | None = None
) -> list[ForkServerProcess]:
    """Begin to run a function in two processes, with the variables that `accelerate launch` gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return [begin(main, arguments, said, RANK=rank, LOCAL_RANK=rank, **common) for rank in "01"]


def exit_codes(processes: Sequence[ForkServerProcess], timeout_s: float = 300) -> list[int | None]:
    """Wait for processes; a negative code is the number of the signal that ended one, None says that it still runs."""
    for process in processes:
        process.join(timeout_s)
    return [process.exitcode for process in processes]


def begin_workers_warm(patch: pytest.MonkeyPatch) -> None:
    """Let workers that `multiprocessing` would start anew, as other tests claim, begin with everything imported."""
    patch.setattr(multiprocessing, "get_context", lambda method: CONTEXT)


def run_script(command: Sequence[str], **_: Any) -> CompletedProcess[str]:
    """Run a script of Python as `subprocess.run` does, which must succeed; what it prints is always captured.

    Args:
        command: Words of the command: Python, the script's file, its options.

    Returns:
        What it printed.
    """
    with TemporaryDirectory() as folder:
        printed = Path(folder, "printed.txt")
        done = CompletedProcess(
            command, *exit_codes([begin(_run_script, [printed, *command[1:]])]), printed.read_text()
        )
    done.check_returncode()
    return done


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a script of Python as `child_processes.run_command` does.

    Args:
        command: Words of the command: Python, the script's file, its options.
        environment: Its environment variables; there are no others.

    Returns:
        Its exit code.
    """
    (code,) = exit_codes([begin(_run_script_in, [json.dumps(dict(environment)), *command[1:]])])
    return code


def _run_script_in(words: list[str]) -> None:
    environment, *words = words
    os.environ.clear()
    os.environ.update(json.loads(environment))
    _run_file(words)


def _run_script(words: list[str]) -> None:
    printed, *words = words
    os.dup2(os.open(printed, os.O_WRONLY | os.O_CREAT, 0o600), 1)
    _run_file(words)


def _run_file(words: list[str]) -> None:
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")


def _run(main: Callable, arguments: list[str], said: Path | None, environment: dict[str, str]) -> None:
    # what was imported is not searched for garbage, which would copy it
    gc.freeze()
    os.environ.update(environment)
    if said is not None:
        # both processes of two write at the file's end
        place = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(place, 1)
        os.dup2(place, 2)
    sys.exit(main(arguments))
