import subprocess
import sys

import pytest

from benchmark_scripts import imported_script
from diffusers_dawn.machine.threads import COUNT


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("threads", starts_python=True) as script:
        yield script


def test_threads_that_spin_and_that_sleep_are_compared_alone_and_beside_other_work(benchmark, monkeypatch, capsys):
    asked, answers = [], iter(["1.5", "1.5", "2 2 9", "6", "1", "2"])

    def answer(command, env, **_):
        asked.append((env[COUNT], env.get("OMP_WAIT_POLICY")))
        assert command[:2] == [sys.executable, benchmark.__file__] and command[-1] == "--measure"
        return subprocess.CompletedProcess(command, 0, stdout=next(answers))

    monkeypatch.setattr(subprocess, "run", answer)
    benchmark.main(["--threads", "1", "2"])
    assert asked == 2 * [("1", None)] + 2 * [("2", None)] + 2 * [("2", "passive")]
    *_, one, spinning, sleeping = (line.split() for line in capsys.readouterr().out.splitlines())
    assert one == ["1", "-", "1.5", "1.5", "1", "1"]
    assert spinning == ["2", "spin", "2", "(2", "to", "9)", "6", "1", "1"]
    assert sleeping == ["2", "sleep", "1", "2", "2", "3"]


def test_a_process_measures_calls_after_an_untimed_one(benchmark, capsys):
    benchmark.main(["--tiny", "--size", "64", "--frames", "5", "--repeats", "2", "--measure"])
    assert len([float(word) for word in capsys.readouterr().out.split()]) == 2


def test_other_work_ends_with_the_measurement(benchmark, monkeypatch):
    started, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words: started.append(start(*words)) or started[-1])
    with pytest.raises(ValueError, match="stop"), benchmark.other_work(2):
        assert [process.poll() for process in started] == [None, None]
        raise ValueError("stop")
    assert all(process.poll() for process in started)
