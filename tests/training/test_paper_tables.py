"""The paper's tables are made by one command, row by row, and compared with the paper's."""

import pytest
from tiny_clips import tiny_clip
from tiny_evaluation import write_test_split

from training import evaluate
from training.data.dataset_info import DatasetInfo
from training.evaluation.paper_tables import orders_as_markdown
from training.paper_tables import main

TINY = ("--num_clips", "1", "--num_videos", "0", "--num_inference_steps", "1", "--device", "cpu", "--quiet")


def report_of(seconds: float, **figures: float) -> dict:
    found = {key: {"label": key.upper(), "value": value} for key, value in figures.items()}
    return {"sections": {"paper": {"figures": found}}, "rendering": {"paper": {"seconds": seconds, "videos": 1}}}


def test_rows_in_another_order_than_the_papers_are_named():
    reports = {
        "all_at_once": report_of(1, fid=9, lse_c_dawn_sync=0.3),
        "sar": report_of(3, fid=8, lse_c_dawn_sync=0.1),
        "ttr": report_of(2, fid=10, lse_c_dawn_sync=0.2),
    }
    seconds, fid, fvd, sync = orders_as_markdown("strategy", reports).splitlines()[2:]
    assert seconds.endswith("all_at_once 7.32 / 1, sar 11.42 / 3, ttr 19.25 / 2; another order of sar and ttr.")
    assert fid.endswith("another order of all_at_once and sar, sar and ttr.")
    assert fvd == "- FVD16: not measured in two rows or more."
    assert sync.startswith("- LSE-C of the paper / LSE_C_DAWN_SYNC here:") and sync.endswith("in the same order.")


@pytest.mark.slow
def test_tables_are_made_by_one_command_as_far_as_data_and_pipelines_go(
    tiny_pipeline_folder, tmp_path, capsys, monkeypatch
):
    def no_reader(num_processes: int):
        raise ImportError("no reader")

    # reading hundreds of faces takes longer than all the rest
    monkeypatch.setattr(evaluate, "FaceReader", no_reader)
    data = write_test_split(tmp_path / "clips", lambda name: tiny_clip(name, 50), DatasetInfo(64, "x", 32))
    program = tmp_path / "mine.py"
    program.write_text("def inception():\n    return lambda pictures: pictures.mean(dim=(2, 3))\n")
    output, pipeline = tmp_path / "tables", str(tiny_pipeline_folder)
    words = ["--pipeline", pipeline, "--dataset", str(data), "--output", str(output), *TINY]
    words += ["--stages", f"stage1={pipeline}", f"both={pipeline}", "--clip_seconds", "0.6"]
    words += ["--extractors", f"inception={program}:inception", "--trust_remote_code"]
    tables = {"clip_seconds": ["1.6", "4"], "motion": ["pbnet", "held"], "pipeline": ["stage1", "both"]}
    assert main([*words, "--tables", ",".join(tables)]) == 0
    text = (output / "tables.md").read_text()
    for name, rows in tables.items():
        assert f"## {name}\n" in text and f"Beside the paper's table of HDTF ({name}):" in text
        assert {path.name for path in output.glob(f"{name}-*")} == {f"{name}-{row}" for row in rows}
    assert "Left out of clip_seconds, for want of speech as long, or of a pipeline: 8, 16, 24." in text
    capsys.readouterr()
    assert main([*words, "--tables", "motion"]) == 0 and capsys.readouterr().out.count("measured before") == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tables", "window"], "`tables` has 'window', must be some of strategy, clip_seconds"),
        (["--tables", "pipeline"], "`tables` has 'pipeline', which needs `stages`"),
        (["--stages", "stage3=x"], "`stages` has 'stage3=x', must be NAME=PIPELINE, NAME one of stage1, stage2, both"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, more, message):
    words = ["--pipeline", "x", "--dataset", "x", "--output", str(tmp_path / "tables"), *more]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
