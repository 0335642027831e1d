import pytest

from benchmark_scripts import imported_script


def test_script_prints_latency_seams_and_lips(capsys):
    with imported_script("stream") as script:
        words = ["--seconds", "0.8", "--preset", "fast", "--windows", "10,4,2", "5,0,0", "--allocator", "default"]
        script.main([*words, "--size", "96"])
    printed = capsys.readouterr().out
    assert ", 96 px, " in printed
    rows = [line.split() for line in printed.splitlines()]
    for hop, ahead, past, stated_s in (("10", "4", "2", 0.56), ("5", "0", "0", 0.2)):
        latency, stages = (row for row in rows if row[:3] == [hop, ahead, past])
        assert float(latency[3]) == stated_s < float(latency[4])
        assert float(latency[8]) > 0 and len(stages) == 8
    assert [row[0] for row in rows[-2:]] == ["speech", "silence,"]
    assert all(float(number) > 0 for row in rows[-2:] for number in row[-2:])


def test_long_streams_print_what_must_not_grow(capsys):
    with imported_script("stream") as script:
        words = ["--seconds", "0.8", "--preset", "fast", "--windows", "5,2,3", "--allocator", "default"]
        script.main([*words, "--tasks", "long", "--minutes", str(4 / 60), "--size", "64"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()][-10:]
    assert [round(60 * float(row[0]), 1) for row in rows] == pytest.approx([0.4 * n for n in range(1, 11)], abs=0.2)
    memory, samples, frames = ([float(row[column]) for row in rows] for column in (1, 2, 3))
    assert min(memory) > 0 and max(samples[5:]) == max(samples) and max(frames[5:]) == max(frames)
    assert all(float(row[5]) > 0 for row in rows)
    differs = [float(row[6]) for row in rows]
    assert differs[0] == 0 < differs[1] < 20
