import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from tiny_loop import LAUNCH_TWO, ON_CPU, largest_difference, loop_config, run

from training.engine.config import config_to_yaml
from training.engine.loop import run_script
from training.engine.stop_signals import StopSignals
from training.train_pbnet import PBNetConfig, PBNetStage

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tiny_data_set, tmp_path) -> PBNetConfig:
    return loop_config(tiny_data_set, tmp_path / "out")


def signalled(number: int, at: int = 2, stage_class: type[PBNetStage] = PBNetStage) -> Callable[[PBNetConfig], Any]:
    """Build a stage in whose step `at` the process gets a signal."""

    def build(config: PBNetConfig) -> PBNetStage:
        stage = stage_class(config)
        calls = []

        def send(module, inputs):
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), number)

        stage.objectives["pbnet"].register_forward_pre_hook(send)
        return stage

    return build


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_after_the_step_with_a_checkpoint_that_goes_on(config, tmp_path, caplog, number, code):
    run(config)
    file, handler = tmp_path / "settings.yaml", signal.getsignal(number)
    stopped = replace(config, output_dir=str(tmp_path / "stopped"), dataloader_num_workers=1)
    file.write_text(config_to_yaml(stopped))
    assert run_script(signalled(number), PBNetConfig, "", ["--config", str(file)]) == code
    assert [path.name for path in Path(stopped.output_dir).glob("*checkpoint*")] == ["checkpoint-2"]
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        "interrupted after step 2 of 5; continue with the same command and `--resume_from_checkpoint latest`"
    ]
    assert signal.getsignal(number) is handler
    run(replace(stopped, resume_from_checkpoint="latest"))
    assert largest_difference(*(Path(one.output_dir, "checkpoint-5") for one in (config, stopped))) == 0


def test_interruption_of_the_last_validation_ends_without_a_traceback(config, tmp_path, capsys):
    class StageInterruptedAtTheEnd(PBNetStage):
        def validate(self):
            raise KeyboardInterrupt

    file = tmp_path / "settings.yaml"
    file.write_text(config_to_yaml(replace(config, max_train_steps=1, num_validation_clips=1)))
    assert run_script(StageInterruptedAtTheEnd, PBNetConfig, "", ["--config", str(file)]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_second_signal_ends_at_once_unless_it_comes_with_the_first(tmp_path):
    program = """
import os, signal, time
from accelerate import Accelerator
from training.engine import stop_signals
with stop_signals.StopSignals(Accelerator(cpu=True)) as signals:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.agreed() == signal.SIGINT
    print("noted", flush=True)
    stop_signals.SAME_WISH_S = 0
    time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGTERM and ended.stdout == "noted\n" and "Traceback" not in ended.stderr


def test_ignored_signals_stay_ignored():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals(Accelerator(cpu=True)) as signals:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == signals._receive
    finally:
        signal.signal(signal.SIGINT, earlier)


@pytest.mark.slow
def test_processes_stop_after_the_same_step_whichever_gets_the_signal(config, tmp_path):
    file, script = tmp_path / "settings.yaml", tmp_path / "stop.py"
    file.write_text(config_to_yaml(config))
    script.write_text(
        "import os, signal, sys\n"
        f"sys.path[:0] = {[str(ROOT), str(ROOT / 'tests' / 'training'), str(Path(__file__).parent)]}\n"
        "from test_stop_signals import PBNetConfig, PBNetStage, run_script, signalled\n"
        "build = signalled(signal.SIGTERM) if os.environ['RANK'] == '1' else PBNetStage\n"
        "code = run_script(build, PBNetConfig, '', sys.argv[1:])\n"
        "print(f'ended with {code}\\n', end='', flush=True)\n"
    )
    command = [sys.executable, *LAUNCH_TWO, str(script), "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ON_CPU, timeout=300)
    assert ended.stdout.count("ended with 143") == 2, ended.stderr
    assert ended.stderr.count("interrupted after step 2 of 5") == 1
    assert [path.name for path in Path(config.output_dir).glob("*checkpoint*")] == ["checkpoint-2"]
