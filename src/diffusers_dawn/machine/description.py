"""This machine in words, for whoever reads a measurement."""

import importlib.metadata
import os
import platform
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
ENVIRONMENT = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "LD_PRELOAD", "OMP_WAIT_POLICY")


def describe_machine() -> str:
    """Name the processor, the versions and the settings of allocator and threads.

    Returns:
        One line.
    """
    names = [line for line in CPU_INFO.read_text().splitlines() if "model name" in line] if CPU_INFO.exists() else []
    processor = names[0].split(":")[1].strip() if names else platform.processor()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "diffusers", "numpy"))
    if torch.cuda.is_available():
        packages += f"; {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    settings = ", ".join(f"{name} {os.environ.get(name, 'not set')}" for name in ENVIRONMENT)
    return (
        f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {memory_gib:.0f} GiB, "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()} {packages}; {settings}"
    )
