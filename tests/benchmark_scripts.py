"""Scripts of `benchmarks/` and `examples/`, imported as they are when run: beside their neighbours."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def imported_script(name: str, folder: Path = BENCHMARKS) -> Iterator[ModuleType]:
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        spec = importlib.util.spec_from_file_location(f"{name}_script", folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    for neighbour in set(sys.modules) - before:
        # `benchmarks/training.py` has a namesake
        if Path(getattr(sys.modules[neighbour], "__file__", None) or "").parent == folder:
            del sys.modules[neighbour]
