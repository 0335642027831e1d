"""The table of an evaluation with several values of one setting."""

from training.evaluation.variants import variants_as_markdown


def report_of(num_clips: int, fid: float, blinks: float, beside: float, pipeline: str = "mine") -> dict:
    figures = {
        "fid": {"label": "FID", "value": fid, "better": "lower", "beside": None},
        "blinks_per_s": {"label": "blinks", "value": blinks, "better": beside, "beside": beside},
    }
    return {
        "settings": {"num_clips": num_clips, "pipeline": pipeline, "dataset": "clips"},
        "sections": {"paper": {"figures": figures}},
        "rendering": {"paper": {"seconds": 6.0, "videos": 2}},
        "machine": "this one",
    }


def test_a_row_says_of_how_many_clips_it_is_and_what_stands_beside_it():
    reports = {"4": report_of(9, 2, 0.3, 0.25), "24": report_of(2, 3, 0.5, 0.35)}
    lines = variants_as_markdown("clip_seconds", reports).splitlines()
    assert lines[2:7] == [
        "| clip_seconds | clips | s per video | paper: FID ↓ | paper: blinks ≈ |",
        "| --- | --- | --- | --- | --- |",
        "| beside |  |  | – |  |",
        "| 4 | 9 | 3 | 2 | 0.3 (0.25) |",
        "| 24 | 2 | 3 | 3 | 0.5 (0.35) |",
    ]
    assert lines[-1].startswith("`mine` on clips of the test split of `clips`, a row for each `clip_seconds`")


def test_what_is_the_same_beside_all_rows_is_said_once_and_every_pipeline_is_named():
    reports = {name: report_of(9, 2, 0.3, 0.25, name) for name in ("stage1", "both")}
    lines = variants_as_markdown("pipeline", reports).splitlines()
    assert lines[4] == "| beside |  |  | – | 0.25 |" and lines[5] == "| stage1 | 9 | 3 | 2 | 0.3 |"
    assert lines[-1].startswith("`stage1`, `both` on clips")
