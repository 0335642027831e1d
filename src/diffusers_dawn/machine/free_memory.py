"""How much memory this process may still use, given the machine and every limit on the process."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

# Linux' control groups (admin-guide/cgroup-v2 of the Linux kernel): a container, a job of Slurm, a unit of systemd
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# folder of the version's groups, then limits, use, and the part of the use that is a cache of files
GROUP_FILES = (
    ("", ("memory.max", "memory.high"), "memory.current", "inactive_file"),
    ("memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes() -> int:
    """Find how much memory this process may still take.

    Returns:
        Bytes: what the machine has available, or less where a control group or a limit of the process leaves less.
    """
    return min(psutil.virtual_memory().available, *group_bytes(), *process_limit_bytes())


def group_bytes(root: Path = CONTROL_GROUPS, own: Path = OWN_GROUPS) -> list[int]:
    """Find how much memory the control groups leave that this process is in, from its own up to the root.

    Args:
        root: Folder of the control groups.
        own: File that names those of the process.

    Returns:
        Bytes that each limit leaves; none where there is no limit.
    """
    left = []
    for version_folder, limit_names, used_name, cache_name in GROUP_FILES:
        for group in _with_parents(_own_group(own, version_folder)):
            folder = root / version_folder / group
            for limit_name in limit_names:
                try:
                    limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
                    details = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    left.append(max(limit - used + int(details.get(cache_name, 0)), 0))
                except (OSError, ValueError):  # no such file, or "max"
                    continue
    return left


def process_limit_bytes() -> list[int]:
    """Find how much memory the limits of the process itself leave (`ulimit -v` and `ulimit -d`).

    Returns:
        Bytes that each limit leaves; none where there is no limit.
    """
    try:
        import resource
    except ImportError:  # Windows
        return []
    memory, left = psutil.Process().memory_info(), []
    for name, used in (("RLIMIT_AS", memory.vms), ("RLIMIT_DATA", getattr(memory, "data", memory.vms))):
        limit = resource.getrlimit(getattr(resource, name))[0]
        if limit != resource.RLIM_INFINITY:
            left.append(max(limit - used, 0))
    return left


def _own_group(own: Path, controller: str) -> PurePosixPath:
    """Path of the process's group below the folder of groups; the root where it is not known."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    # version 2 has one line without controllers, version 1 one per set of controllers
    paths = [fields[2] for fields in lines if len(fields) == 3 and controller in fields[1].split(",")]
    parts = PurePosixPath(paths[0]).parts[1:] if paths else ()
    return PurePosixPath(*parts) if ".." not in parts else PurePosixPath()


def _with_parents(group: PurePosixPath) -> Iterator[PurePosixPath]:
    yield group
    yield from group.parents
