import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from tiny_loop import largest_difference, loop_config, run

from training.engine import stop_signals
from training.engine.config import config_to_yaml
from training.engine.loop import run_script
from training.engine.stop_signals import StopSignals
from training.train_pbnet import PBNetConfig, PBNetStage
from warm_processes import begin, begin_two, exit_codes


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


def be_signalled_thrice(words):
    with StopSignals(Accelerator(cpu=True)) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.agreed() == signal.SIGINT
        print("noted", flush=True)
        stop_signals.SAME_WISH_S = 0
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_second_signal_ends_at_once_unless_it_comes_with_the_first(tmp_path):
    process = begin(be_signalled_thrice, [], tmp_path / "said.txt")
    assert exit_codes([process]) == [-signal.SIGTERM]
    said = (tmp_path / "said.txt").read_text()
    assert "noted\n" in said and "Traceback" not in said


def test_ignored_signals_stay_ignored():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals(Accelerator(cpu=True)) as signals:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == signals._receive
    finally:
        signal.signal(signal.SIGINT, earlier)


def train_and_signal_the_second(words):
    build = signalled(signal.SIGTERM) if os.environ["RANK"] == "1" else PBNetStage
    return run_script(build, PBNetConfig, "", words)


def test_processes_stop_after_the_same_step_whichever_gets_the_signal(config, tmp_path):
    file, said = tmp_path / "settings.yaml", tmp_path / "said.txt"
    file.write_text(config_to_yaml(config))
    processes = begin_two(train_and_signal_the_second, ["--config", file], said)
    assert exit_codes(processes) == [143, 143], said.read_text()
    assert said.read_text().count("interrupted after step 2 of 5") == 1
    assert [path.name for path in Path(config.output_dir).glob("*checkpoint*")] == ["checkpoint-2"]
