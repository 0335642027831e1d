import json
import math

import pytest

from diffusers_dawn.cli.evaluation_reports import FORMAT, HIGHER, LOWER
from training.evaluation.report import (
    SectionReport,
    report_as_markdown,
    report_as_numbers,
    unseen_note,
    write_report,
)


def section():
    report = SectionReport("Lips: of two clips", ["a", "b", "c"])
    report.add_mean("speech", "with speech, r", [0.5, 0.7, math.nan], 0, beside=0.9, better=HIGHER)
    report.add("lag", "lag [frames]", math.nan)
    report.notes.append("A note.")
    report.beside = "ceiling"
    return report


def test_clips_that_do_not_count_are_in_neither_mean_nor_number():
    (figure, _) = section().figures
    assert figure.value == 0.6 and figure.count == 2
    assert figure.interval == (0.5, 0.7)


def test_mean_of_no_clip_is_nothing():
    report = SectionReport("Empty")
    report.add_mean("speech", "r", [math.nan], 0)
    assert math.isnan(report.figures[0].value) and report.figures[0].count == 0


def test_table_shows_every_figure_and_no_empty_column():
    text = report_as_markdown("Heading.", {"lips": section()})
    lines = text.splitlines()
    assert lines[0] == "Heading." and lines[2] == "### Lips: of two clips"
    assert lines[4] == "| figure | value | 95 % interval | ceiling | n |"
    assert lines[6] == "| with speech, r ↑ | 0.6 | 0.5 to 0.7 | 0.9 | 2 |"
    assert lines[7] == "| lag [frames] | – |  |  |  |"
    assert lines[-1] == "A note."
    plain = SectionReport("Plain")
    plain.add("lag", "lag", 1)
    assert "| figure | value |\n" in report_as_markdown("", {"plain": plain})


@pytest.mark.parametrize(("better", "mark"), [(LOWER, " ↓"), (2.5, " ≈"), (1.0, " ≈ 1"), (None, ""), (math.nan, "")])
def test_label_says_which_value_would_be_better(better, mark):
    report = SectionReport("Blinks")
    report.add("blinks", "blinks", 2, beside=2.5, better=better)
    assert f"\n| blinks{mark} | 2 | 2.5 |\n" in report_as_markdown("", {"tracks": report})


def test_mean_has_a_value_for_every_clip_that_the_section_names():
    report = SectionReport("Lips", ["a", "b"])
    with pytest.raises(ValueError, match="`values` of speech are 1, must be 2, one per clip"):
        report.add_mean("speech", "r", [0.5], 0)
    nameless = SectionReport("Lips")
    nameless.add_mean("speech", "r", [0.5], 0)
    assert nameless.figures[0].per_clip is None


def test_part_that_was_left_out_says_why_in_both_reports():
    found = {"long": "the clips are too short"}
    assert "### Long\n\nLeft out: the clips are too short." in report_as_markdown("Heading.", found)
    assert report_as_numbers({}, found)["sections"]["long"] == {"left_out": "the clips are too short"}


def test_written_numbers_are_plain_json_without_nan(tmp_path):
    write_report(tmp_path, report_as_numbers({"settings": {"seed": 3}}, {"lips": section()}), "text\n")
    numbers = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: 1 / 0)
    assert numbers["settings"] == {"seed": 3} and numbers["format"] == FORMAT
    assert numbers["sections"]["lips"]["clips"] == ["a", "b", "c"]
    figures = numbers["sections"]["lips"]["figures"]
    assert figures["speech"]["value"] == 0.6 and figures["speech"]["interval"] == [0.5, 0.7]
    assert figures["speech"]["per_clip"] == [0.5, 0.7, None] and figures["speech"]["better"] == "higher"
    nothing = dict.fromkeys(("value", "interval", "beside", "count", "better", "per_clip"))
    assert figures["lag"] == {"label": "lag [frames]"} | nothing
    assert numbers["sections"]["lips"]["notes"] == ["A note."]
    assert (tmp_path / "report.md").read_text() == "text\n"


def test_note_counts_clips_without_a_face():
    assert unseen_note(2, "5 clips").startswith("In 2 of 5 clips the reader sees the face in less than 90 %")
