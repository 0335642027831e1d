import pytest
import torch
from PIL import Image

from benchmark_scripts import imported_script
from diffusers_dawn.geometry.frame_windows import plan_windows


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("long_audio") as script:
        yield script


def test_seam_table_has_both_seeds_and_every_way_of_denoising(benchmark, capsys):
    words = ["--tasks", "seams", "--seam-frames", "30", "--seam-windows", "12", "16", "--window-overlap", "4"]
    benchmark.main([*words, "--preset", "fast"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-5:]]
    assert [" ".join(row[:3]) for row in rows[:2]] == ["one pass -", "another seed -"]
    assert [row[:4] for row in rows[2:]] == [["4", "x", "12", "4"], ["3", "x", "16", "4"], ["3", "x", "12", "0"]]
    assert float(rows[0][3]) == 0
    assert all(0 < float(row[4]) < float(rows[1][3]) for row in rows[2:])


def test_windows_meet_in_the_middle_of_what_they_share(benchmark):
    meeting = benchmark.where_windows_meet(plan_windows(30, 12, 4), 30)
    # windows start at 0, 6, 12 and 18: from frame 9 on the second counts as much as the first
    assert meeting.nonzero().flatten().tolist() == [7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22]


def test_feature_table_compares_both_kinds_of_pieces(benchmark, capsys):
    benchmark.main(["--tasks", "features", "--feature-frames", "1200"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["as", "overlapping"]
    assert float(rows[0][3]) > float(rows[1][2]) > 0


def test_estimates_are_of_one_pass_and_of_windows(benchmark, capsys):
    benchmark.main(["--tasks", "estimates", "--frames", "50", "300", "15000"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [row[:4] for row in rows] == [
        ["50", "one", "pass", rows[0][3]],
        ["300", "one", "pass", rows[1][3]],
        ["300", "5", "x", "100"],
        ["15000", "250", "x", "100"],
    ]
    assert float(rows[2][4]) < float(rows[1][3])


@pytest.mark.slow
def test_memory_table_has_a_row_per_length(benchmark, capsys, tmp_path):
    num_threads = torch.get_num_threads()
    benchmark.main(
        ["--tasks", "memory", "--frames", "5", "30", "--preset", "fast", "--window-frames", "12"]
        + ["--window-overlap", "4", "--plot", str(tmp_path / "memory.png")]
    )
    assert Image.open(tmp_path / "memory.png").size == (720, 360)
    assert torch.get_num_threads() == num_threads
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [(row[0], " ".join(row[2:5])) for row in rows][1] == ("30", "4 x 12")
    assert rows[0][2:4] == ["one", "pass"]
