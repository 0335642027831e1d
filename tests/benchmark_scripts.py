"""Scripts of `benchmarks/` and `examples/`, imported as they are when run: beside their neighbours.

What each of them would do again takes less time here: their own processes begin with everything imported, and how fast
the machine can be at most is measured by small products.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from warm_processes import run_script

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def imported_script(name: str, folder: Path = BENCHMARKS, starts_python: bool = False) -> Iterator[ModuleType]:
    """Import a script.

    Args:
        name: Its name, without `.py`.
        folder: Where it lies.
        starts_python: Whether the processes that it starts are new ones all the same.

    Yields:
        The script.
    """
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        spec = importlib.util.spec_from_file_location(f"{name}_script", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "subprocess") and not starts_python:
            patch.setattr(module, "subprocess", SimpleNamespace(run=run_script, PIPE=subprocess.PIPE))
        if report := sys.modules.get("report"):
            patch.setattr(report, "MATRIX_SIDE_CPU", 64)
            patch.setattr(report, "NUM_PICTURES", 1)
            patch.setattr(report, "NUM_COPIED", 2**16)
        yield module
    for neighbour in set(sys.modules) - before:
        # `benchmarks/training.py` has a namesake
        if Path(getattr(sys.modules[neighbour], "__file__", None) or "").parent == folder:
            del sys.modules[neighbour]
