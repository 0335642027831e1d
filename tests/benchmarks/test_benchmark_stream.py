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
