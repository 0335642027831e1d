import pytest
import torch

from benchmark_scripts import imported_script


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("denoiser") as script:
        yield script


# both sum float32 in different orders; values are of the order of 1
@pytest.mark.parametrize("num_frames", [1, 7, 11])
@torch.no_grad()
def test_plain_denoiser_equals_ours(benchmark, num_frames):
    args = benchmark.parse_arguments(["--tiny", "--size", "64"])
    functions = benchmark.compare_denoisers(args, num_frames).formulations()
    torch.testing.assert_close(functions["ours"](), functions["plain"](), atol=1e-4, rtol=0)


@torch.no_grad()
def test_plain_decoder_equals_ours(benchmark):
    args = benchmark.parse_arguments(["--tiny", "--size", "64"])
    functions = benchmark.compare_decoders(args, 5).formulations()
    torch.testing.assert_close(functions["ours"](), functions["plain"](), atol=1e-4, rtol=0)


def test_script_prints_tables_of_both_tasks(benchmark, capsys):
    num_threads = torch.get_num_threads()
    benchmark.main([
        "--tiny",
        "--size",
        "64",
        "--frames",
        "3",
        "5",
        "--decoded-frames",
        "2",
        "--repeats",
        "2",
        "--no-memory",
    ])
    assert torch.get_num_threads() == num_threads
    printed = capsys.readouterr().out
    assert "MALLOC_MMAP_MAX_" in printed.splitlines()[0]
    assert "GFLOP/s" in printed and "GB/s" in printed  # what the machine can do
    assert printed.count(" to ") >= 3 * 3  # ours, plain and ratio of every length, with their spread
    for title in (
        "denoising: one call",
        "prepare_context",
        "denoising: our call by kind",
        "decoding: one call",
    ):
        assert title in printed


@torch.no_grad()
def test_arithmetic_is_that_of_products_and_convolutions_by_their_outermost_kind(benchmark):
    args = benchmark.parse_arguments(["--tiny", "--size", "64"])
    kinds = benchmark.KINDS_OF_DENOISING
    counts = []
    for num_frames in (4, 8):
        comparison = benchmark.compare_denoisers(args, num_frames)
        function = comparison.formulations()["ours"]
        counts.append(benchmark.arithmetic_by_kind(comparison.networks["ours"], function, kinds))
    convolutions, temporal, spatial, cross, norms, _, total = counts[0]
    assert min(convolutions, temporal, spatial, cross) > 0 == norms
    # linear in the frames, but for the time embedding, which every block projects once
    assert counts[1][0] == pytest.approx(2 * convolutions, rel=1e-3)
    assert total == pytest.approx(sum(counts[0][:-1]))
    image, kernel = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)
    by_hand = 2 * 2 * 5 * 3 * 9 * 64 / 1e9
    counted = benchmark.arithmetic_by_kind(torch.nn.Identity(), lambda: torch.conv2d(image, kernel, padding=1), kinds)
    assert counted[0] == counted[-1] == pytest.approx(by_hand)


def test_a_power_law_is_found_again(benchmark):
    lengths = [40, 100, 200]
    assert benchmark.fitted_exponent(lengths, [3 * n**1.5 for n in lengths]) == pytest.approx(1.5)


@pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(),
    reason="a processor without bfloat16 takes minutes to measure its products",
)
@torch.no_grad()
def test_half_precision_is_compared_with_float32(benchmark, capsys):
    arguments = ["--tiny", "--size", "64", "--frames", "4", "--repeats", "1", "--no-memory", "--dtype", "bfloat16"]
    benchmark.main([*arguments, "--tasks", "denoising"])
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.split()[:1] == ["4"])
    assert 0 < float(row[8]) < 0.5 * float(row[9])


def test_longer_clips_skip_the_plain_formulation(benchmark, capsys):
    arguments = ["--tiny", "--size", "64", "--frames", "5", "--repeats", "1", "--no-memory"]
    benchmark.main([*arguments, "--tasks", "denoising", "--skip-plain-above", "4"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["5"])
    assert row.split()[2] == "-"


def test_memory_is_measured_in_a_process_of_its_own(benchmark):
    args = benchmark.parse_arguments(["--tiny", "--size", "64"])
    assert benchmark.memory_in_new_process(args, "denoising", "ours", 5) >= 0


def test_processor_time_of_several_threads_is_refused(benchmark):
    with pytest.raises(SystemExit, match="--processor-time takes --threads 1, not 2"):
        benchmark.main(["--tiny", "--threads", "2", "--processor-time"])


@pytest.mark.slow
def test_end_to_end_script_finds_equal_pictures_and_compares_three_ways(capsys):
    with imported_script("end_to_end") as script:
        script.main(["--network", "tiny", "--seconds", "0.2", "--timed-steps", "1", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[-4:-1]]
    assert [row[-10:-8] for row in rows] == [["ours", "10"], ["published", "20"], ["plain", "20"]]
    assert rows[-1][-3] == rows[-1][-1] == "1"  # plain / plain, time and memory
    # sums in another order may round to the next whole number
    assert int(lines[-1].split()[-3]) <= 1


@pytest.fixture
def training_benchmark(monkeypatch):
    with imported_script("training") as script:
        monkeypatch.setattr(script, "NUM_CLIPS", 1)
        monkeypatch.setattr(script, "NUM_FRAMES", 25)
        yield script


@pytest.mark.slow
def test_training_script_prints_a_row_per_stage_size_and_precision(training_benchmark, capsys):
    words = ["--sizes", "toy", "--stages", "lfg", "audio_encoder", "--precisions", "fp32", "--steps", "1"]
    training_benchmark.main([*words, "--batch-size", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:4] == ["stage", "size", "parameters", "batch"]
    assert [line.split()[:3] for line in printed[2:]] == [["lfg", "toy", "fp32"], ["audio_encoder", "toy", "fp32"]]


@pytest.mark.slow
def test_training_script_counts_the_published_runs(training_benchmark, capsys):
    words = ["--arithmetic", "--sustained-tflops", "50", "--stages", "pbnet", "--num-clips", "300"]
    training_benchmark.main(words)
    printed = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: [float(word.replace(",", "")) for word in line.split()[1:]] for line in printed[3:]}
    assert {name: row[0] for name, row in rows.items()} == {"pbnet_pose": 40_000 * 300, "pbnet_blink": 95_000 * 300}
    for samples, each_gflop, exa, hours in rows.values():
        assert exa == pytest.approx(samples * each_gflop / 1e9, rel=0.01)
        assert hours == pytest.approx(exa * 1e6 / 50 / 3600, rel=0.01)


@pytest.mark.slow
def test_whole_pipeline_script_prints_a_row_per_length_and_preset(capsys):
    with imported_script("whole_pipeline") as script:
        script.main(["--seconds", "0.4", "0.8", "--repeats", "1", "--allocator", "default"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [row[:3] for row in rows] == [
        [seconds, preset, str(calls)]
        for seconds in ("0.4", "0.8")
        for preset, calls in (("balanced", 10), ("fast", 4))
    ]
    for row in rows:
        *parts, total = map(float, row[3:])
        # three printed digits
        assert sum(parts) == pytest.approx(total, rel=0.02)
