"""Keyframes of a text as rows of a table: what goes in comes out, and the rest of the text stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.motion.keyframe_rows import COLUMNS, keyframe_rows, with_keyframe_rows
from diffusers_dawn.motion.script import SetKeyframe, parse_script

REST = 'nod twice at 1.5 s, then look left; at the end yaw 5, pitch 2. transcript "well, at 2 s yaw 3"'
hundredths = st.integers(-9000, 9000).map(lambda number: number / 100)
cells = st.none() | hundredths
rows = st.tuples(st.integers(0, 10**6).map(lambda number: number / 100), cells, cells, cells, st.none() | st.just(0.5))


@given(st.lists(rows, max_size=5, unique_by=lambda row: row[0]), st.sampled_from(["", REST]))
def test_a_table_goes_into_a_text_and_comes_out_again(table, text):
    written = with_keyframe_rows(text, table)
    assert [tuple(row) for row in keyframe_rows(written)] == sorted(table, key=lambda row: row[0])
    assert with_keyframe_rows(written, keyframe_rows(written)) == written


def test_all_else_that_a_text_says_stays():
    text = f"at 1 s yaw 15, roll 3; {REST}; at 3 s back"
    assert keyframe_rows(text) == [[1, 15, None, None, None], [1, None, None, 3, None], [3, *[None] * 4]]
    written = parse_script(with_keyframe_rows(text, [[2, "", None, float("nan"), 0]])).statements
    assert written[:-1] == parse_script(REST).statements
    assert isinstance(written[-1], SetKeyframe) and written[-1].when.at_s == 2
    assert written[-1].values == {"eyes": 0}


def test_rows_without_a_time_are_passed_over():
    assert with_keyframe_rows("nod", [[None] * len(COLUMNS), ["", 15, "", "", ""]]) == "nod"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([1, "far", None, None, None], "`yaw` of a keyframe is 'far', must be a number"),
        ([1, 91, None, None, None], "`yaw_deg` is 91.0, must be from -90 to 90"),
        ([1, None, None, None, 3], "`eyes` is 3.0, must be from 0 to 2"),
        ([1, 5], "a keyframe has 2 cells, must have 5: time, yaw, pitch, roll, eyes"),
        ([-1, 5, None, None, None], "`at_s` of a keyframe is -1.0, must be a time from 0"),
    ],
)
def test_what_is_no_keyframe_is_said(row, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        with_keyframe_rows("", [row])


def test_a_text_that_is_not_understood_is_refused():
    for change in (keyframe_rows, lambda text: with_keyframe_rows(text, [])):
        with pytest.raises(ValueError, match="`motion`: 'fly away' is not understood"):
            change("fly away")
