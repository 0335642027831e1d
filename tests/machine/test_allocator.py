"""Keeping freed memory: what a new process does with large tensors."""

import os
import resource
import sys

import pytest
import torch

from diffusers_dawn.machine.allocator import USERS_OWN, keep_freed_memory
from warm_processes import begin, exit_codes

glibc_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")


def churn(words):
    """Print whether freed memory is kept, if so asked, and the pages faulted in while large tensors come and go."""
    for name in USERS_OWN:
        os.environ.pop(name, None)
    print(keep_freed_memory() if words == ["keep"] else None)
    for _ in range(20):
        torch.ones(16 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def churned(said, mode):
    assert exit_codes([begin(churn, [mode], said)]) == [0], said.read_text()
    answer, num_faults = said.read_text().split()
    return answer, int(num_faults)


@glibc_only
def test_tensors_that_come_and_go_fault_their_pages_in_once(tmp_path):
    kept, num_faults = churned(tmp_path / "kept.txt", "keep")
    assert kept == "True"
    _, num_faults_by_default = churned(tmp_path / "default.txt", "default")
    assert num_faults < num_faults_by_default / 10


@glibc_only
@pytest.mark.parametrize("name", USERS_OWN)
def test_who_has_set_the_allocator_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "131072")
    assert keep_freed_memory() is False


def test_elsewhere_it_says_no(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
