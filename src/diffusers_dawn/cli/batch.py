"""`dawn batch`: many talking videos over one model load, by any number of processes."""

import argparse
import os
from typing import TYPE_CHECKING

from ..machine.threads import usable_cores
from .job_lines import Job, read_jobs
from .job_log import DONE, FAILED, REPORT_NAME, write_report
from .messages import say

if TYPE_CHECKING:
    from accelerate import PartialState

    from .job_renderer import JobRenderer


def batch(options: argparse.Namespace) -> None:
    """Render the jobs of a file; see `dawn batch --help`.

    Under `accelerate launch` each process takes every n-th job. Nothing waits for another process: what one of them
    did not do, because it was killed, the same command does when it is run again.

    Args:
        options: The parsed options.

    Raises:
        ValueError: The jobs file or an option cannot be used, or, in a single process, jobs failed.
        KeyboardInterrupt: It was interrupted; finished jobs stay.
    """
    from .job_renderer import JobRenderer

    jobs = read_jobs(options.jobs)
    place = _place(options.device)
    device = str(place.device) if options.device is None and place.num_processes > 1 else options.device
    on_this_machine = 1 if place.device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    renderer = JobRenderer(
        options.output, options.checkpoint, options.lora, device, options.dtype, memory_share=on_this_machine
    )
    if place.device.type == "cpu":
        _advise_processes(on_this_machine)
    own = jobs[place.process_index :: place.num_processes]
    try:
        num_failed = _run(own, renderer, len(jobs))
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt("what is finished stays, and the same command goes on") from interruption
    finally:
        if renderer.folder.is_dir():
            keys = [(job.number, job.output, renderer.key_of(job)) for job in jobs]
            write_report(renderer.folder, renderer.log, keys)
    report = renderer.folder / REPORT_NAME
    say(f"{len(own) - num_failed} of {len(own)} jobs done, see {report}")
    # where there are several, accelerate would stop the others
    if num_failed and place.num_processes == 1:
        raise ValueError(f"{num_failed} of {len(own)} jobs failed, see {report}")


def _place(device: str | None) -> "PartialState":
    """Find out which of the processes this is."""
    from accelerate import PartialState

    return PartialState(cpu=device is not None and device.startswith("cpu"))


def _advise_processes(num_processes: int) -> None:
    """Say how to use the cores that are left, because each process computes on one."""
    if num_processes < (num_cores := usable_cores()):
        say(
            f"using {num_processes} of {num_cores} cores; `accelerate launch --multi_gpu --num_processes {num_cores} "
            "-m diffusers_dawn batch …` uses all (one per process, so that equal jobs give equal files)"
        )


def _run(jobs: list[Job], renderer: "JobRenderer", num_jobs: int) -> int:
    """Render what is not done yet; returns the number of failures."""
    pending = [job for job in jobs if renderer.end_of(job) is None]
    if len(pending) < len(jobs):
        say(f"{len(jobs) - len(pending)} jobs were done before")
    # what killed a process, as by taking all memory, comes last, so that it does not stop the rest again
    pending.sort(key=renderer.num_breaks)
    num_failed = 0
    for job in pending:
        end = renderer.render(job)
        name = job.output or f"line {job.number}"
        if end["state"] == DONE:
            say(f"line {job.number} of {num_jobs}: {name}, {end['frames']} frames, {end['seconds']:.1f} s")
        else:
            num_failed += end["state"] == FAILED
            say(f"line {job.number} of {num_jobs}: {name} failed: {end['reason']}")
        if end.get("warnings"):
            say(f"line {job.number}: warning: {end['warnings']}")
    return num_failed
