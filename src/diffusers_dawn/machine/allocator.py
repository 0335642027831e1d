"""Make the C library's allocator keep freed memory instead of returning it to the system after every layer."""

import ctypes
import os
import sys

# glibc's malloc.h: parameters of mallopt, and the variables by which users set them themselves
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "LD_PRELOAD", "GLIBC_TUNABLES")
TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Make this process keep memory that it frees, for its next tensors; only glibc (Linux) can.

    By default glibc returns large tensors to the system and faults their pages in anew, which can cost more than
    computing them. It is a decision about the whole process, so a program makes it, never a library; and it leaves
    alone who has set the allocator in the environment.

    Returns:
        Whether the allocator took it.
    """
    if sys.platform != "linux" or any(name in os.environ for name in USERS_OWN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: TOP_PAD_BYTES}
    return all(mallopt(parameter, value) == 1 for parameter, value in settings.items())
