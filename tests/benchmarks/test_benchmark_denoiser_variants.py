import pytest

from benchmark_scripts import imported_script


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("denoiser_variants") as script:
        yield script


def test_tables_have_a_row_per_length(benchmark, capsys):
    words = ["--tiny", "--size", "64", "--frames", "5", "9", "--repeats", "1", "--allocator", "default"]
    benchmark.main([*words, "--backend", "eager", "--samples", "1", "2"])
    lines = capsys.readouterr().out.splitlines()
    compiled, batches = (
        next(index for index, line in enumerate(lines) if line.startswith(f"denoising: {start}"))
        for start in ("one call with levels compiled by eager", "seconds per sample")
    )
    rows = [line.split() for line in lines[compiled + 2 : compiled + 4]]
    assert [row[0] for row in rows] == ["5", "9"]
    # the same network in another order of sums
    assert all(float(row[5]) < 1e-4 < float(row[6]) for row in rows)
    rows = [line.split() for line in lines[batches + 2 : batches + 4]]
    assert [row[0] for row in rows] == ["5", "9"]
    assert all(float(row[3]) == pytest.approx(float(row[1]) / float(row[2]), rel=0.02) for row in rows)
