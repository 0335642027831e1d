import pytest
import torch
from accelerate import PartialState

from training.engine import commands
from training.engine.processes import PATIENCE, device_of_process, each, together
from warm_processes import begin_two, exit_codes


def test_work_of_the_main_process_is_everyones():
    state = PartialState(cpu=True)
    assert together(state, lambda: 3) == 3
    with pytest.raises(ValueError, match="bad"):
        together(state, lambda: int("bad"))


def refused_in(ranks):
    state = PartialState(cpu=True, timeout=PATIENCE)

    def work():
        if str(state.process_index) in ranks:
            raise ValueError(f"process {state.process_index} is refused")

    try:
        return commands.run("share", lambda: each(state, work), shares_work=True)
    finally:
        state.destroy_process_group()


@pytest.mark.parametrize("ranks", ["0", "1", "01"])
def test_what_one_process_is_refused_ends_all_of_them_with_one_sentence(ranks, tmp_path):
    said = tmp_path / "said.txt"
    assert exit_codes(begin_two(refused_in, list(ranks), said)) == [2, 2]
    assert said.read_text().count("share: ") == 1 and f"share: process {ranks[0]} is refused\n" in said.read_text()
    assert "Traceback" not in said.read_text()


def test_named_device_is_taken_and_processes_share_what_there_is():
    assert device_of_process("meta", 3) == torch.device("meta")
    assert device_of_process(None, 1).type == ("cuda" if torch.cuda.is_available() else "cpu")
