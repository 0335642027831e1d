"""Imported by commands that are run by path: make the package `training` importable, and stop quietly meanwhile."""

import signal
import sys
from pathlib import Path

# Ctrl-C while libraries are imported is no error of theirs; a signal that is ignored stays so
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path[0] = str(Path(__file__).resolve().parents[1])
