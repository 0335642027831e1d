"""Whoever judges the clips, and however often it is stopped, each is judged once, and the report is the same."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from tiny_clips import AUDIO_DIM, tiny_clip
from tiny_evaluation import SHORT, quiet_pipeline, write_test_split

from training.data.dataset_info import DatasetInfo
from training.evaluation.clips import Evaluation
from training.evaluation.extractors import Extractors
from training.evaluation.report import report_as_numbers
from training.evaluation.sections.catalogue import run_sections
from training.evaluation.shared_work import SharedWork

PLACES = {"a": 1, "b/c": 2, "d": 3}


def figures_of(report: dict) -> dict:
    return {key: figure for section in report["sections"].values() for key, figure in section["figures"].items()}


def row_of(place: int) -> dict:
    curves = (np.arange(place), None, np.float32(0.5))
    return {"number": place, "curves": curves, "nan": math.nan, "is_even": np.bool_(place % 2 == 0)}


def test_what_a_stopped_run_has_found_is_not_worked_out_again(tmp_path):
    done = []

    def work(place: int) -> dict:
        if place == 3 and len(done) == 2:
            raise KeyboardInterrupt
        done.append(place)
        return row_of(place)

    for attempt in range(2):
        if not attempt:
            with pytest.raises(KeyboardInterrupt):
                SharedWork(tmp_path).rows("lips, own", PLACES, work)
            done.append("again")
    rows = SharedWork(tmp_path).rows("lips, own", PLACES, work)
    assert done == [1, 2, "again", 3]
    assert [(row["number"], row["curves"][0].tolist(), row["is_even"]) for row in rows] == [
        (1, [0], False),
        (2, [0, 1], True),
        (3, [0, 1, 2], False),
    ]
    assert rows[0]["curves"][1:] == [None, 0.5] and math.isnan(rows[0]["nan"])
    # another clip at the place of one that was there
    SharedWork(tmp_path).rows("lips, own", {"a": 1, "e": 5, "d": 3}, work)
    assert done[4:] == [5]


def test_two_processes_share_the_clips_and_report_what_one_does(tmp_path):
    folder = write_test_split(tmp_path / "clips", tiny_clip, DatasetInfo(64, "x", AUDIO_DIM))
    # of equal weights, and made one after the other, as they are drawn from one global seed
    pipes = [quiet_pipeline() for _ in range(3)]
    networks = Extractors(inception=lambda pictures: pictures.mean(dim=(2, 3)))

    def report(work: SharedWork) -> tuple[dict, list[int]]:
        evaluation = Evaluation(pipes.pop(), folder, SHORT, None, None, networks)
        evaluation.work, judged, likeness = work, [], evaluation.likeness
        evaluation.likeness = lambda place: judged.append(place) or likeness(place)
        sections, counts = run_sections(evaluation, ["pictures", "paper"])
        assert counts["paper"]["videos"] == counts["pictures"]["videos"] == 2
        return report_as_numbers({}, sections), judged

    alone, of_all = report(SharedWork())
    wait = Barrier(2, timeout=60).wait
    with ThreadPoolExecutor(2) as threads:
        of_two = list(threads.map(report, (SharedWork(tmp_path / "rows", number, 2, wait) for number in range(2))))
    assert [judged for _, judged in of_two] == [[0], [1]] and of_all == [0, 1]
    assert of_two[0][0] == of_two[1][0] and figures_of(alone)["fid"]["value"] > 0
    assert list(figures_of(alone)) == list(figures_of(of_two[0][0]))
    for figures in zip(*(figures_of(report).values() for report in (alone, of_two[0][0])), strict=True):
        numbers = [(figure["value"], figure["count"], *(figure["per_clip"] or ())) for figure in figures]
        # sums of float32 depend on where they lie in memory
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)
