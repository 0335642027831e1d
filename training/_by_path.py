"""Imported by commands that are run by path: makes `training` importable, instead of the modules beside them."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
