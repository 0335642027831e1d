import pytest
import torch
from torch import nn

from diffusers_dawn.conversion.renaming import load_strictly, rename_keys

ONE = torch.ones(1)


def test_first_matching_rule_renames_the_whole_key():
    renamed, left_out = rename_keys({"a.1.x": ONE}, [(r"a\.(\d+)\.x", r"b.\1"), (r"a\..*", "never")])
    assert renamed == {"b.1": ONE}
    assert left_out == []


def test_rule_that_matches_only_a_part_does_not_count():
    with pytest.raises(ValueError, match=r"`abc`"):
        rename_keys({"abc": ONE}, [("ab", "x")])


def test_ignored_keys_are_reported_even_if_a_rule_matches():
    assert rename_keys({"a": ONE, "b": ONE}, [("[ab]", "c")], ignored=["a"]) == ({"c": ONE}, ["a"])


def test_unknown_keys_are_named():
    with pytest.raises(ValueError, match=r"2 key\(s\) `p`, `q` of the checkpoint not known"):
        rename_keys({"a": ONE, "p": ONE, "q": ONE}, [("a", "a")])


def test_many_unknown_keys_are_counted():
    with pytest.raises(ValueError, match="and 4 more"):
        rename_keys({f"k{index}": ONE for index in range(12)}, [])


def test_two_keys_of_one_name_are_an_error():
    with pytest.raises(ValueError, match=r"become `x`; the second is `b`"):
        rename_keys({"a": ONE, "b": ONE}, [("[ab]", "x")])


def test_fitting_state_dict_is_loaded():
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    load_strictly(target, source.state_dict(), "test")
    assert torch.equal(target.weight, source.weight)


def test_everything_that_does_not_fit_is_named_at_once():
    with pytest.raises(ValueError) as caught:
        load_strictly(nn.Linear(2, 3), {"weight": torch.ones(3, 5), "other": ONE}, "lip reader")
    message = str(caught.value)
    assert "the lip reader checkpoint" in message
    assert "missing 1 key(s) `bias`" in message
    assert "unexpected 1 key(s) `other`" in message
    assert "`weight` is (3, 5), must be (3, 2)" in message
