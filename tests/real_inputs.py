"""Where the real pictures, recordings and videos lie that some tests need."""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("DAWN_REAL", Path(__file__).parents[1].parent / "shared" / "real"))
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real inputs: set DAWN_REAL to their folder")
