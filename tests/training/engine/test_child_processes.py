import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.engine.child_processes import run_command, run_workers


def write_number(index, folder):
    (Path(folder) / str(index)).write_text(str(os.getpid()))


def refuse_the_second(index, folder):
    if index == 1:
        raise ValueError("`folder` is no good")
    time.sleep(60)


def die(index, folder):
    os._exit(7)


def write_and_wait(index, folder):
    write_number(index, folder)
    time.sleep(60)


def is_running(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]


def test_every_task_has_a_process_of_its_own(tmp_path):
    looks = []
    run_workers(write_number, [str(tmp_path)] * 2, lambda: looks.append(1))
    written = {path.read_text() for path in tmp_path.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
    assert len(written) == 2 and str(os.getpid()) not in written and looks


def test_refusal_of_one_worker_ends_the_others(tmp_path):
    start = time.monotonic()
    with pytest.raises(ValueError, match="`folder` is no good"):
        run_workers(refuse_the_second, [str(tmp_path)] * 2)
    assert time.monotonic() - start < 40


def test_dead_worker_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 7"):
        run_workers(die, [str(tmp_path)])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    program = (
        "import sys; sys.path.insert(0, 'tests/training/engine'); "
        "from test_child_processes import run_workers, write_and_wait; "
        f"run_workers(write_and_wait, [{str(tmp_path)!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        worker = tmp_path / "0"
        deadline = time.monotonic() + 60
        while not (worker.exists() and worker.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        parent.kill()
    process_id = int(worker.read_text())
    while is_running(process_id) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(process_id)


@pytest.mark.parametrize(("number", "send"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_interrupted_command_ends_in_its_own_way(tmp_path, number, send):
    child = (
        "import pathlib, signal, sys, time\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        f"signal.signal({number:d}, lambda *_: (time.sleep(1), (folder / 'saved').touch(), sys.exit(3)))\n"
        "(folder / 'ready').touch()\n"
        "time.sleep(60)\n"
    )
    program = (
        "import signal, sys\n"
        "from diffusers_dawn.machine.stopping import stopped_by_signals\n"
        "from training.engine.child_processes import run_command\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    with stopped_by_signals():\n"
        f"        run_command([sys.executable, '-c', {child!r}, {str(tmp_path)!r}])\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(5)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as parent:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        # to both, as a terminal does; or to the parent alone, as a scheduler does
        send(parent.pid, number)
        assert parent.wait(timeout=60) == 5
    assert (tmp_path / "saved").exists()


def test_exit_code_of_a_command_is_returned():
    assert run_command([sys.executable, "-c", "raise SystemExit(4)"]) == 4
