"""Share work between the processes of `accelerate launch`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from training.engine.commands import USER_ERRORS, ToldElsewhere

# processes may finish hours apart; what they ask torch to wait for each other
PATIENCE = timedelta(days=30)


def each(state: PartialState, work: Callable[[], Any]) -> Any:
    """Run something in every process of `accelerate launch`, in all of which it fails if it fails in one.

    Args:
        state: This process among the others; all of them must call this.
        work: What to do.

    Returns:
        What `work` returned in this process.

    Raises:
        ValueError: As the first process that failed raises it, like OSError and ImportError; the others raise
            `commands.ToldElsewhere`.
    """
    outcome = error = None
    try:
        outcome = work()
    except USER_ERRORS as refusal:
        error = refusal
    refused = gather_object([error is not None])
    if any(refused):
        raise error if refused.index(True) == state.process_index else ToldElsewhere
    return outcome


def together(state: PartialState, work: Callable[[], Any]) -> Any:
    """Run something once, in the main process of `accelerate launch`; all processes get its result, or fail with it.

    Args:
        state: This process among the others; all of them must call this.
        work: What to do.

    Returns:
        What `work` returned.

    Raises:
        ValueError: As `work` raises it, see `each`.
    """
    outcome = [each(state, lambda: work() if state.is_main_process else None)]
    return broadcast_object_list(outcome)[0]


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
