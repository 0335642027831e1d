"""`dawn compare`: which differences between two reports are more than chance, and which reports fit each other."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.compare import comparison
from diffusers_dawn.cli.evaluation_reports import FORMAT, HIGHER, LOWER
from diffusers_dawn.cli.sign_flips import adjust_for_number, flip_signs, smallest_p

NUM_CLIPS = 40
SETTINGS = {"pipeline": "mine", "dataset": "clips", "test_split": "0a", "size_px": 64, "clip_seconds": 4.0, "seed": 0}


def figure(values, better=HIGHER) -> dict:
    values = None if values is None else [None if value is None else float(value) for value in values]
    mean = 1.5 if values is None else float(np.mean([value for value in values if value is not None]))
    return {"label": "r", "value": mean, "better": better, "per_clip": values}


def report(figures: dict, num_clips: int = NUM_CLIPS, **changes) -> dict:
    clips = [f"test-{index}" for index in range(num_clips)]
    section = {"title": "Lips", "clips": clips, "figures": figures, "notes": []}
    return {"format": FORMAT, "settings": SETTINGS | changes, "sections": {"lips": section}}


def noise(seed: int, num_clips: int = NUM_CLIPS) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=num_clips)


def rows_of(first: dict, second: dict) -> list[list[str]]:
    """Cells of the table's rows."""
    lines = [line for line in comparison(first, second).splitlines() if line.startswith("| ")][2:]
    return [line.strip("| ").split(" | ") for line in lines]


def verdict(first: np.ndarray, second: np.ndarray, better) -> str:
    num_clips = len(first)
    reports = (report({"speech": figure(values, better)}, num_clips) for values in (first, second))
    return rows_of(*reports)[0][-1]


@pytest.mark.parametrize(
    ("better", "said"),
    [(HIGHER, "**B is better**"), (LOWER, "**A is better**"), (0.0, "**A is better**"), (9.0, "**B is better**")],
)
def test_difference_beyond_chance_says_which_is_better(better, said):
    # what clips have in common, here five times the difference, goes out of pairs
    clips = 5 * noise(0)
    first, second = clips - clips.mean() + 1, clips - clips.mean() + 2 + 0.1 * noise(1)
    assert verdict(first, second, None) == "they differ"
    if isinstance(better, str):
        assert verdict(first, second, better) == said
    else:
        assert verdict(1 + 0.1 * noise(2), 2 + 0.1 * noise(1), better) == said


def test_nothing_is_said_of_two_that_are_as_far_from_the_best():
    first, second = (side + 0.1 * noise(seed) for seed, side in enumerate((-1, 1)))
    assert verdict(first, second, None) == "they differ"
    assert verdict(first, second, 0.0) == "not beyond chance"


def test_equal_figures_are_called_equal_and_are_no_tests():
    first, second = (report({"same": figure(noise(0)), "speech": figure(noise(seed))}) for seed in (1, 2))
    same, _ = rows_of(first, second)
    assert same[3:] == ["+0", "", str(NUM_CLIPS), "", "equal"]
    assert "p is raised for the 1 figures" in comparison(first, second)


def test_figures_of_one_report_are_named():
    first = report({"speech": figure(noise(0)), "lpips": figure(noise(1))})
    second = report({"speech": figure(noise(0))})
    assert comparison(first, second).endswith("Left out, as only one report has them: lips.lpips.")


def test_chance_alone_is_hardly_ever_called_more_in_a_whole_report():
    # of 60 reports with 20 figures each, 5 % or so may claim something; uncorrected it would be two thirds
    claims = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        first, second = (
            report({f"figure {index}": figure(rng.normal(size=12)) for index in range(20)}, 12) for _ in range(2)
        )
        claims += any("better" in row[-1] for row in rows_of(first, second))
    assert claims <= 8


def test_few_clips_and_figures_without_clips_are_not_judged():
    figures = [{"speech": figure(side + 0.01 * noise(side, 5)), "fid": figure(None, LOWER)} for side in (1, 2)]
    speech, fid = rows_of(*(report(each, 5) for each in figures))
    assert speech[-1] == "too few clips to tell" and fid[-1] == "not tested"
    assert fid[1:4] == ["1.5", "1.5", "+0"]


def test_figures_of_too_few_clips_take_nothing_from_the_others():
    values = noise(0), noise(0) + 0.4 + noise(1)
    unseen = [None] * (NUM_CLIPS - 5)
    few = [{f"few {key}": figure([*noise(100 * side + key, 5), *unseen]) for key in range(30)} for side in range(2)]
    alone = [report({"speech": figure(each)}) for each in values]
    beside = [report({"speech": figure(each)} | others) for each, others in zip(values, few, strict=True)]
    (row,), (same, *others) = rows_of(*alone), rows_of(*beside)
    assert same == row and 0.002 < float(row[6]) < 0.05 and row[-1] == "**B is better**"
    assert {tuple(other[5:]) for other in others} == {("5", "", "too few clips to tell")}
    assert "p is raised for the 1 figures" in comparison(*beside)


def test_clips_count_only_where_both_reports_count_them():
    values = list(range(NUM_CLIPS))
    gaps = [None, *values[1:]], [*values[:-1], None]
    (row,) = rows_of(*(report({"speech": figure(each)}) for each in gaps))
    assert row[1:4] == ["19.5", "19.5", "+0"] and row[5] == "38"


def test_heading_says_in_what_the_reports_differ():
    first, second = (report({"speech": figure(noise(0))}, scheduler=name) for name in ("DDIM", "UniPC"))
    second["networks"], first["networks"] = {"unet": "1", "lfg": "2"}, {"unet": "0", "lfg": "2"}
    text = comparison(first, second)
    assert "Settings that differ (A / B): scheduler DDIM / UniPC." in text
    assert "Networks that differ (A / B): unet 0 / 1." in text and "Versions" not in text


def refusal(first: dict, second: dict) -> str:
    with pytest.raises(ValueError) as error:
        comparison(first, second)
    return str(error.value)


@pytest.mark.parametrize("name", ["dataset", "test_split", "size_px", "clip_seconds"])
def test_reports_of_other_clips_do_not_fit(name):
    pair = (report({"speech": figure(noise(0))}, **{name: value}) for value in (1, 2))
    assert refusal(*pair) == f"`A` and `B` do not fit: {name} is 1 and 2, must be the same"


def test_reports_of_more_clips_or_of_other_sections_do_not_fit():
    first = report({"speech": figure(noise(0))})
    fewer = report({"speech": figure(noise(0, 30))}, 30)
    assert "section lips is of 40 and 30 clips, which share 30; must be the same" in refusal(first, fewer)
    other = copy.deepcopy(first)
    other["sections"] = {"long": {"left_out": "too short"}, "paper": other["sections"]["lips"]}
    assert "they have measured lips and paper, no section in common" in refusal(first, other)


def test_sections_and_networks_that_both_have_must_be_made_of_the_same():
    first, second = (report({"speech": figure(noise(0))}, long_seconds=length) for length in (24, 48))
    comparison(first, second)
    for each in (first, second):
        each["sections"]["long"] = each["sections"]["lips"]
    assert "section long: long_seconds is 24 and 48" in refusal(first, second)
    first, second = (report({"speech": figure(noise(0))}, extractors={"lpips": name}) for name in ("a.pt", "b.pt"))
    assert "extractors: lpips is a.pt and b.pt" in refusal(first, second)


def test_command_reads_folders_and_files(tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        text = json.dumps(report({"speech": figure(noise(seed))}, seed=seed))
        (tmp_path / name / "report.json").write_text(text)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b" / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert "### Lips" in printed and "seed 0 / 1" in printed and "| not beyond chance |" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be a folder with report.json, or such a file"),
        ("{", "which is not JSON"),
        ("[" * 10**5, "which is not JSON"),
        ("[]", "which is no report of training/evaluate.py"),
        (
            '{"settings": {}, "sections": {}}',
            "a report of format 1, must be of format 2, which says what each clip has",
        ),
    ],
)
def test_what_is_no_report_is_refused(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"dawn: `A` is {tmp_path}") and message in error and error.count("\n") == 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_p_is_a_share_no_smaller_than_flips_allow_and_blind_to_sign_and_order(values):
    differences = np.array(values)
    found = flip_signs(differences)
    assert min(smallest_p(len(values)), 1 / 20_001) <= found.p <= 1 and found.margin >= 0
    assert flip_signs(-differences).p == found.p
    if len(values) <= 14:
        assert flip_signs(differences[::-1].copy()).p == found.p


def test_flips_agree_with_the_t_test_where_that_is_right():
    # 60 normal differences, whose mean is 2.2 standard errors: p = 0.032, margin 2.001 standard errors
    drawn = noise(3, 60)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1)
    found = flip_signs(drawn + 2.2 / np.sqrt(60))
    # 20,000 draws leave 0.0012 of noise in p
    assert found.p == pytest.approx(0.0318, abs=0.006) and found.margin * np.sqrt(60) == pytest.approx(2.0, abs=0.1)


def test_p_is_raised_for_the_number_of_tests_in_steps():
    assert adjust_for_number([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_for_number([0.6, 0.5]) == [1.0, 1.0] and adjust_for_number([]) == []
