"""Imported by commands that are run by path: make the package `training` importable."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
