import os
import subprocess
import sys

import pytest

OPENS = """
import os, sys
from diffusers_dawn.machine.standard_streams import open_missing_streams

open_missing_streams()
with open(sys.argv[1], "w") as file:
    print("heard", file=sys.stdout, flush=True)
    print("seen", file=sys.stderr, flush=True)
    os.write(2, b"by a library")
    sys.stdin.read()
    file.write(str(file.fileno()))
"""
SHOWN = {1: b"heard\n", 2: b"seen\nby a library"}


@pytest.mark.parametrize("closed", [(), (2,), (0, 1), (0, 1, 2)])
def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path, closed):
    shown = subprocess.run(
        [sys.executable, "-c", OPENS, tmp_path / "file"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=lambda: [os.close(number) for number in closed],
    )
    assert shown.returncode == 0
    assert (shown.stdout, shown.stderr) == tuple(b"" if number in closed else SHOWN[number] for number in (1, 2))
    assert int((tmp_path / "file").read_text()) > 2


def test_a_refusal_that_nobody_can_read_is_still_one():
    words = [sys.executable, "-m", "diffusers_dawn", "init", "--seed", "-1", "-o", "x"]
    assert subprocess.run(words, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)).returncode == 1
