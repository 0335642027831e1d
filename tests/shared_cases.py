"""Where the inputs lie that once failed, each with its right result."""

import os
from pathlib import Path

import pytest

CASES = Path(os.environ.get("DAWN_CASES", Path(__file__).parents[1].parent / "shared" / "cases"))
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no inputs that failed: set DAWN_CASES to their folder")
