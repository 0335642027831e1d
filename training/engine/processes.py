"""Share work between the processes of `accelerate launch`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from training.engine.commands import USER_ERRORS

# processes may finish hours apart; what they ask torch to wait for each other
PATIENCE = timedelta(days=30)


def together(state: PartialState, work: Callable[[], Any]) -> Any:
    """Run something once, in the main process of `accelerate launch`; all processes get its result or its error.

    Args:
        state: This process among the others; all of them must call this.
        work: What to do.

    Returns:
        What `work` returned.

    Raises:
        ValueError: As `work` raises it, like OSError and ImportError, in every process.
    """
    outcome: list[Any] = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = work()
        except USER_ERRORS as error:
            outcome[1] = error
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def device_of_process(name: str | None, local_process_index: int) -> torch.device:
    """Choose where a process computes.

    Args:
        name: A device of torch; None takes a GPU if there is one, another for every process as far as they go.
        local_process_index: Number of the process on this machine.

    Returns:
        The device.

    Raises:
        ValueError: Torch knows no such device.
    """
    if name is not None:
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"`device` is {name!r}, must be a device of torch such as cpu or cuda:1") from error
    if torch.cuda.is_available():
        return torch.device("cuda", local_process_index % torch.cuda.device_count())
    return torch.device("cpu")
