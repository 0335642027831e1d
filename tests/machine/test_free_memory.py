import subprocess
import sys

import pytest

from diffusers_dawn.machine.free_memory import free_bytes, group_bytes, process_limit_bytes

VERSIONS = {
    "2": ("", "0::", "memory.max", "memory.current", "inactive_file"),
    "1": ("memory/", "4:cpu,memory:", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def limit_group(folder, files, limit, used, cache):
    limit_name, used_name, cache_name = files
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / used_name).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used}\n{cache_name} {cache}\n")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("group", ["", "system.slice", "slurm/uid_0/job_7"])
def test_every_group_from_the_own_one_to_the_root_leaves_what_is_not_used_but_by_a_cache(tmp_path, version, group):
    folder, line, *files = VERSIONS[version]
    own = tmp_path / "cgroup"
    own.write_text(f"9:name=systemd:/elsewhere\n{line}/{group}\n")
    limit_group(tmp_path / folder, files, 9000, 3000, 500)
    assert group_bytes(tmp_path, own) == ([6500] if not group else [6500])
    limit_group(tmp_path / folder / group, files, 4000, 3000, 500)
    assert min(group_bytes(tmp_path, own)) == 1500
    limit_group(tmp_path / folder / group, files, "max", 3000, 500)
    assert group_bytes(tmp_path, own) == ([] if not group else [6500])


def test_high_water_marks_of_a_group_count_as_limits(tmp_path):
    limit_group(tmp_path, ("memory.high", "memory.current", "inactive_file"), 4000, 3000, 500)
    assert group_bytes(tmp_path, tmp_path / "none") == [1500]


@pytest.mark.parametrize("path", ["/../../other", "/gone"])
def test_a_group_that_cannot_be_seen_from_here_leaves_those_that_can(tmp_path, path):
    (tmp_path / "cgroup").write_text(f"0::{path}\n")
    limit_group(tmp_path, ("memory.max", "memory.current", "inactive_file"), 4000, 3000, 0)
    assert group_bytes(tmp_path, tmp_path / "cgroup") == [1000]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux'")
def test_a_limit_of_address_space_bounds_what_is_free():
    code = (
        "import resource; from diffusers_dawn.machine.free_memory import free_bytes, process_limit_bytes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); print(free_bytes(), *process_limit_bytes())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    free, left = map(int, found.stdout.split())
    assert free == pytest.approx(left, abs=2**24) and 2**29 < left < 2**31


def test_without_limits_the_machine_decides():
    assert free_bytes() > 0 and all(left >= 0 for left in process_limit_bytes())
