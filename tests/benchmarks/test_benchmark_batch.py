import pytest

from benchmark_scripts import imported_script
from diffusers_dawn.cli.command import main


@pytest.mark.slow
def test_script_prints_the_rate_of_every_way(tmp_path, capsys, detector):
    assert main(["init", "--size", "tiny", "-o", str(tmp_path / "tiny")]) == 0
    with imported_script("batch", starts_python=True) as script:
        words = ["--checkpoint", str(tmp_path / "tiny"), "--seconds", "0.2", "--preset", "fast"]
        # every job of these starts Python anew
        script.main([*words, "--ways", "commands", "--jobs", "1"])
        script.main([*words, "--ways", "one-model", "shared-passes", "--jobs", "2", "--clips-per-pass", "2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for way, together in (("commands", "1"), ("one-model", "1"), ("shared-passes", "2")):
        row = next(row for row in rows if row[:1] == [way])
        assert row[1] == together and float(row[4]) > 0
        seconds, work_s, times, times_by_processor = (float(row[column]) for column in (2, 3, 6, 7))
        if way != "shared-passes":  # the first of its call
            first_s, first_work_s = seconds, work_s
        # three digits are printed
        assert times == pytest.approx(first_s / seconds, rel=0.02)
        assert times_by_processor == pytest.approx(first_work_s / work_s, rel=0.02)
