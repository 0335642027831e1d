"""The `dawn` command as `python -m diffusers_dawn`."""

import sys

from .cli.command import program

if __name__ == "__main__":
    sys.exit(program())
