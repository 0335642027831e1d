"""Threads: how many, and how they wait; what OpenMP itself makes of it is asked in a new process."""

import os
import subprocess
import sys

import pytest

from diffusers_dawn.machine.threads import COUNT, WAITING, fit_threads, usable_cores

ASK_TORCH = """
from diffusers_dawn.machine.threads import fit_threads
fit_threads()
import torch
print(torch.get_num_threads())
"""


def machine_of(tmp_path, siblings, quota=None):
    """Folders as Linux shows them: of each processor its core's processors, and of the control group its quota."""
    for number, shared in enumerate(siblings):
        folder = tmp_path / "cpus" / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{shared}\n")
    groups = tmp_path / "groups"
    groups.mkdir()
    if quota is not None:
        (groups / "cpu.max").write_text(quota)
    return tmp_path / "cpus", groups


@pytest.fixture
def eight_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def test_two_processors_of_a_core_are_one(tmp_path, eight_processors):
    assert usable_cores(*machine_of(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)) == 4


def test_processors_that_the_process_may_not_use_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5}, raising=False)
    assert usable_cores(*machine_of(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)) == 2


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("250000 100000\n", 3),
        ("20000 100000\n", 1),
        ("max 100000\n", 8),
        ("1600000 100000\n", 8),
        ("unreadable", 8),
        (None, 8),
    ],
)
def test_a_container_with_a_share_of_the_processors_gets_threads_for_its_share(
    tmp_path, eight_processors, quota, cores
):
    assert usable_cores(*machine_of(tmp_path, map(str, range(8)), quota)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("-1", 8)])
def test_the_first_version_of_control_groups_is_read_too(tmp_path, eight_processors, quota, cores):
    cpus, groups = machine_of(tmp_path, map(str, range(8)))
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(cpus, groups) == cores


def test_without_the_systems_word_every_processor_is_a_core(tmp_path, eight_processors):
    assert usable_cores(tmp_path / "nothing", tmp_path / "nothing") == 8


@pytest.mark.parametrize(("platform", "count"), [("linux", {COUNT: "3"}), ("darwin", {})])
def test_threads_sleep_while_they_wait_and_are_counted_on_linux(monkeypatch, platform, count):
    environment = {}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("diffusers_dawn.machine.threads.usable_cores", lambda: 3)
    fit_threads()
    assert environment == {"OMP_WAIT_POLICY": "passive"} | count


@pytest.mark.parametrize("waiting", WAITING)
def test_who_has_set_threads_is_left_alone(monkeypatch, waiting):
    environment = {waiting: "5", COUNT: "7"}
    monkeypatch.setattr(os, "environ", environment)
    fit_threads()
    assert environment == {waiting: "5", COUNT: "7"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch chooses")
def test_torch_starts_as_many_threads():
    inherited = {name: value for name, value in os.environ.items() if name not in (*WAITING, COUNT)}
    run = subprocess.run([sys.executable, "-c", ASK_TORCH], env=inherited, check=True, capture_output=True, text=True)
    assert int(run.stdout) == usable_cores()
