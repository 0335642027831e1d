"""Fit the threads that torch computes with to the processors that a program may use, and to other work beside it."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# what users set themselves: how OpenMP's threads wait (of the specification, of GNU's and of Intel's library), and how
# many there are
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNT = "OMP_NUM_THREADS"
# Linux (admin-guide/cputopology, cgroup-v2): processors that share a core; time that a group gets in each period
TOPOLOGY = Path("/sys/devices/system/cpu")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


def fit_threads() -> None:
    """Start one thread per core that this program may use, and let threads sleep while they wait for each other.

    By default they spin: beside other work, they spin away the time of those that they wait for. How many there are is
    chosen on Linux alone. OpenMP reads both settings when it is loaded, so call this before torch is imported. It is a
    decision about the whole process and its children, so a program makes it, never a library; and it leaves alone who
    has set the environment.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    if sys.platform == "linux":  # elsewhere torch chooses well, on Macs the fast cores alone
        os.environ.setdefault(COUNT, str(usable_cores()))


def usable_cores(topology: Path = TOPOLOGY, groups: Path = CONTROL_GROUPS) -> int:
    """Count the cores that this process may use; two processors of one core are one, because products fill a core.

    Args:
        topology: Folder of the processors.
        groups: Folder of the control groups, as the process sees it: in a container its own is the root.

    Returns:
        Cores among the processors that the process may run on, or fewer where a control group gives it less time.
    """
    if hasattr(os, "sched_getaffinity"):
        processors = os.sched_getaffinity(0)
    else:  # macOS, Windows
        processors = range(os.cpu_count() or 1)
    cores = {_siblings(topology / f"cpu{number}") for number in processors}
    return max(1, min([len(cores), *map(math.ceil, _quotas(groups))]))


def _siblings(processor: Path) -> str:
    """The processors that share this one's core; without the system's word, each is a core of its own."""
    try:
        return (processor / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return processor.name


def _quotas(groups: Path) -> Iterator[float]:
    """How many processors' time the control group gets, where it is limited; by both versions of control groups."""
    for names in QUOTA_FILES:
        try:
            quota, period = " ".join((groups / name).read_text() for name in names).split()
            if int(quota) > 0:  # -1: no limit
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
            continue
