import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.geometry.recent_frames import RecentFrames


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-3, 60)), max_size=12))
def test_frames_keep_their_numbers_while_earlier_ones_are_forgotten(turns):
    recent, num_added, num_forgotten = RecentFrames(dim=1), 0, 0
    for num_new, before in turns:
        recent.add(torch.arange(num_added, num_added + num_new)[None])
        num_added += num_new
        recent.forget(before)
        num_forgotten = min(max(num_forgotten, before), num_added)
        assert (recent.stop, recent.num_held) == (num_added, num_added - num_forgotten)
        assert recent.part(num_forgotten, num_added)[0].tolist() == list(range(num_forgotten, num_added))


def test_what_was_added_is_a_copy():
    recent, values = RecentFrames(), torch.zeros(3)
    recent.add(values)
    values += 1
    assert not recent.part(0, 3).any()


@pytest.mark.parametrize(("first", "stop"), [(1, 4), (3, 6), (4, 3)])
def test_frames_that_are_forgotten_or_to_come_are_refused(first, stop):
    recent = RecentFrames()
    recent.add(torch.zeros(5))
    recent.forget(2)
    with pytest.raises(ValueError, match=f"frames {first} to {stop} are not held, those from 2 to 5 are"):
        recent.part(first, stop)


def test_nothing_is_held_at_first():
    recent = RecentFrames()
    recent.forget(3)
    assert (recent.num_held, recent.stop) == (0, 0)
    with pytest.raises(ValueError, match="frames 0 to 0 are not held"):
        recent.part(0, 0)
