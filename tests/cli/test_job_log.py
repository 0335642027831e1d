"""What became of jobs, as several processes wrote it."""

import csv
import os
import resource

import pytest

from diffusers_dawn.cli.job_log import DONE, FAILED, LOG_FOLDER, STARTED, JobLog, JobState, write_report


def read_report(folder):
    with (folder / "report.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_logs_of_all_processes_are_read_together_and_half_a_line_is_none(tmp_path):
    one, two = JobLog(tmp_path), JobLog(tmp_path)
    one.add("a", STARTED)
    one.add("a", DONE, frames=3)
    two.add("b", STARTED)
    two.add("c", STARTED)
    two.add("c", FAILED, reason="no face")
    two.add("b", STARTED)
    log = next((tmp_path / LOG_FOLDER).glob("*.jsonl"))
    log.write_bytes(log.read_bytes() + b'{"key": "d", "sta')
    states = JobLog(tmp_path).states()
    assert states.of("a") == JobState({"key": "a", "state": DONE, "frames": 3}, 0)
    assert states.of("b") == JobState(None, 2)
    assert states.of("c").last["reason"] == "no face" and states.of("c").num_breaks == 0
    assert states.of("d") == JobState()


@pytest.mark.parametrize("end", [DONE, None])
def test_a_job_is_not_done_once_another_began_to_write_its_files(tmp_path, end):
    log = JobLog(tmp_path)
    log.add("a", STARTED, writes=["1.mp4", "1.npz"])
    log.add("a", DONE)
    log.add("b", STARTED, writes=["2.mp4"])
    log.add("b", DONE)
    assert log.states().of("a").last["state"] == DONE
    log.add("c", STARTED, writes=["1.npz"])
    if end is not None:
        log.add("c", end)
    assert log.states().of("a") == JobState() and log.states().of("b").last["state"] == DONE
    log.add("a", STARTED, writes=["1.mp4", "1.npz"])
    log.add("a", DONE)
    assert log.states().of("a").last["state"] == DONE and log.states().of("c").last is None


def test_a_report_has_a_row_for_every_line_in_order(tmp_path):
    log = JobLog(tmp_path)
    log.add("k2", FAILED, reason='no face, "really"')
    log.add("k1", DONE, frames=13, seconds=0.5, warnings="silent")
    write_report(tmp_path, log, [(1, "a.mp4", "k1"), (2, "b.mp4", "k2"), (5, "ü.mp4", "k3")])
    rows = read_report(tmp_path)
    assert [(row["line"], row["output"], row["status"]) for row in rows] == [
        ("1", "a.mp4", "done"),
        ("2", "b.mp4", "failed"),
        ("5", "ü.mp4", "not run"),
    ]
    assert rows[0]["frames"] == "13" and rows[0]["warnings"] == "silent" and rows[1]["reason"] == 'no face, "really"'


def test_what_others_wrote_while_a_report_was_made_is_in_it(tmp_path, monkeypatch):
    log, late = JobLog(tmp_path), JobLog(tmp_path)
    log.add("k1", DONE)
    states = JobLog.states

    def states_and_another_entry(self):
        found = states(self)
        if found.of("k2").last is None:
            late.add("k2", DONE)
        return found

    monkeypatch.setattr(JobLog, "states", states_and_another_entry)
    write_report(tmp_path, log, [(1, "a.mp4", "k1"), (2, "b.mp4", "k2")])
    assert [row["status"] for row in read_report(tmp_path)] == ["done", "done"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="none"):
        JobLog(tmp_path / "none").add("a", DONE)


def test_a_full_disk_names_the_file(tmp_path):
    log = JobLog(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=rf"{LOG_FOLDER}/.*\.jsonl cannot be written: File too large"):
            log.add("k1", DONE)
        with pytest.raises(OSError, match=r"report\.csv cannot be written: File too large"):
            write_report(tmp_path, log, [(1, "a.mp4", "k1")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == [LOG_FOLDER]
