import pytest

from benchmark_scripts import imported_script


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("denoiser_variants") as script:
        yield script


WORDS = ["--tiny", "--size", "64", "--repeats", "1", "--allocator", "default"]


def rows_below(title, printed):
    lines = printed.splitlines()
    (start,) = (index for index, line in enumerate(lines) if line.startswith(f"denoising: {title}"))
    return [line.split() for line in lines[start + 2 :]]


def test_compiled_levels_are_compared_with_the_network_as_it_is(benchmark, capsys):
    benchmark.main([*WORDS, "--tasks", "compiled", "--backend", "eager", "--frames", "5"])
    (row,) = rows_below("one call with levels compiled by eager", capsys.readouterr().out)
    # the same network in another order of sums
    assert row[0] == "5" and float(row[5]) < 1e-4 < float(row[6])


def test_calls_for_several_samples_have_a_row_per_length(benchmark, capsys):
    benchmark.main([*WORDS, "--tasks", "batches", "--frames", "5", "9", "--samples", "1", "2"])
    rows = rows_below("seconds per sample", capsys.readouterr().out)
    assert [row[0] for row in rows] == ["5", "9"]
    assert all(float(row[3]) == pytest.approx(float(row[1]) / float(row[2]), rel=0.02) for row in rows)
