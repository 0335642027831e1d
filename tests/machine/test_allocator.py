"""Keeping freed memory: what a new process does with large tensors."""

import os
import subprocess
import sys

import pytest

from diffusers_dawn.machine.allocator import USERS_OWN, keep_freed_memory

# pages faulted in while large tensors come and go
CHURN = """
import resource, sys, torch
from diffusers_dawn.machine.allocator import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for _ in range(20):
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")


def churn(mode, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in USERS_OWN}
    run = subprocess.run(
        [sys.executable, "-c", CHURN, mode], env=inherited | environment, check=True, capture_output=True, text=True
    )
    said, num_faults = run.stdout.split()
    return said, int(num_faults)


@glibc_only
def test_tensors_that_come_and_go_fault_their_pages_in_once():
    said, num_faults = churn("keep")
    assert said == "True"
    _, num_faults_by_default = churn("default")
    assert num_faults < num_faults_by_default / 10


@glibc_only
def test_who_has_set_the_allocator_is_left_alone():
    assert churn("keep", MALLOC_TOP_PAD_="131072")[0] == "False"


def test_elsewhere_it_says_no(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
