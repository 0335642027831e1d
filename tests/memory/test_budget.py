import psutil
import pytest
import torch

from diffusers_dawn.memory.budget import WINDOW_FRAMES, available_bytes, choose_windows

GIB = 2**30


def needed(num_frames: int, window_frames: int) -> int:
    # 1 GiB of weights, 10 MiB per frame denoised at once, 0.1 MiB per frame of the clip
    return GIB + 10 * 2**20 * window_frames + num_frames * 2**20 // 10


def choose(num_frames, budget, window_frames=None, overlap=40):
    windows = choose_windows(num_frames, window_frames, overlap, needed, budget).slices
    return len(windows), windows[0].stop


def test_clip_that_fits_is_one_pass():
    assert choose(500, 7 * GIB) == (1, 500)
    assert choose(500, None) == (1, 500)
    assert choose(10, 2 * GIB) == (1, 10)


def test_clip_that_does_not_fit_goes_in_windows_of_the_first_size_that_does():
    assert choose(500, 4 * GIB) == (3, WINDOW_FRAMES[0])
    assert choose(500, 2.5 * GIB) == (8, WINDOW_FRAMES[1])


def test_own_window_is_taken_even_where_one_pass_would_fit():
    assert choose(500, 7 * GIB, window_frames=60) == (23, 60)
    assert choose(500, None, window_frames=1000) == (1, 500)


def test_overlap_longer_than_a_window_leaves_that_size_out():
    assert choose(500, 4 * GIB, overlap=150) == (7, 200)
    with pytest.raises(ValueError, match="200 frames at a time"):
        choose(500, 2.5 * GIB, overlap=150)


def test_clip_that_cannot_fit_is_refused_with_what_would():
    message = r"`num_frames` is 15000, which needs 3.4 GiB of memory even 100 frames at a time.* 2.9 GiB, enough for 9"
    with pytest.raises(ValueError, match=message) as caught:
        choose(15_000, 2.9 * GIB)
    longest = int(str(caught.value).split()[-2])
    assert choose(longest, 2.9 * GIB)[1] == 100
    with pytest.raises(ValueError, match="`num_frames`"):
        choose(longest + 1, 2.9 * GIB)


def test_where_nothing_fits_the_message_says_so():
    with pytest.raises(ValueError, match="enough for none: a smaller size or half precision"):
        choose(100, GIB // 2)


def test_own_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="400 frames at a time"):
        choose(500, 4 * GIB, window_frames=400)


@pytest.mark.parametrize(("window_frames", "overlap"), [(30, 30), (None, 200), (0, 0)])
def test_windows_that_cannot_cover_a_clip_are_refused(window_frames, overlap):
    with pytest.raises(ValueError, match="`window_"):
        choose(500, None, window_frames, overlap)


def test_available_memory_counts_loaded_weights_once():
    free = psutil.virtual_memory().available
    module = torch.nn.Linear(4000, 4000)
    found = available_bytes(torch.device("cpu"), [module])
    # other programs come and go
    assert found == pytest.approx(0.9 * free + 4 * 4000 * 4001, rel=0.2)


def test_of_an_unknown_device_nothing_is_known():
    assert available_bytes(torch.device("meta"), []) is None


def test_limits_of_the_process_bound_what_is_free(monkeypatch):
    monkeypatch.setattr("diffusers_dawn.memory.budget.free_bytes", lambda: 1000)
    assert available_bytes(torch.device("cpu"), []) == 900
