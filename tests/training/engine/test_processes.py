import pytest
import torch
from accelerate import PartialState

from training.engine.processes import device_of_process, together


def test_work_of_the_main_process_is_everyones():
    state = PartialState(cpu=True)
    assert together(state, lambda: 3) == 3
    with pytest.raises(ValueError, match="bad"):
        together(state, lambda: int("bad"))


def test_named_device_is_taken_and_processes_share_what_there_is():
    assert device_of_process("meta", 3) == torch.device("meta")
    assert device_of_process(None, 1).type == ("cuda" if torch.cuda.is_available() else "cpu")
