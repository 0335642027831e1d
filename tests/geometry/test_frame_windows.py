import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.geometry.frame_windows import FrameWindows, pass_over, plan_windows


@st.composite
def requests(draw):
    window_frames = draw(st.integers(1, 300))
    return draw(st.integers(1, 2000)), window_frames, draw(st.integers(0, window_frames - 1))


def blended(values: list[torch.Tensor], windows: FrameWindows, num_frames: int) -> torch.Tensor:
    result = torch.zeros(num_frames)
    for value, window, weights in zip(values, windows.slices, windows.weights(), strict=True):
        result[window] += weights * value
    return result


@given(requests())
def test_windows_cover_all_frames_in_order_with_one_size(request_):
    num_frames, window_frames, overlap = request_
    windows = plan_windows(num_frames, window_frames, overlap).slices
    assert windows[0].start == 0
    assert windows[-1].stop == num_frames
    assert {window.stop - window.start for window in windows} == {min(window_frames, num_frames)}
    for one, other in zip(windows, windows[1:], strict=False):
        assert one.start < other.start
        assert one.stop - other.start >= overlap


@given(requests())
def test_windows_are_the_fewest(request_):
    num_frames, window_frames, overlap = request_
    num_windows = len(plan_windows(num_frames, window_frames, overlap).slices)
    # one less, overlapping as asked, would leave frames out
    assert num_windows == 1 or (num_windows - 1) * (window_frames - overlap) + overlap < num_frames


@given(requests())
def test_windows_are_spread_evenly(request_):
    starts = [window.start for window in plan_windows(*request_).slices]
    hops = {after - before for before, after in zip(starts, starts[1:], strict=False)}
    assert max(hops, default=0) - min(hops, default=0) <= 1


@given(requests())
def test_weights_of_every_frame_sum_to_one_and_none_is_negative(request_):
    num_frames, window_frames, overlap = request_
    windows = plan_windows(num_frames, window_frames, overlap)
    assert all((weights >= 0).all() for weights in windows.weights())
    ones = [torch.ones(window.stop - window.start) for window in windows.slices]
    torch.testing.assert_close(blended(ones, windows, num_frames), torch.ones(num_frames))


@given(requests())
def test_blend_of_windows_of_one_track_is_the_track(request_):
    num_frames, window_frames, overlap = request_
    track = torch.randn(num_frames, generator=torch.Generator().manual_seed(0))
    windows = plan_windows(num_frames, window_frames, overlap)
    found = blended([track[window] for window in windows.slices], windows, num_frames)
    torch.testing.assert_close(found, track)


@given(st.integers(2, 40), st.data())
def test_one_window_passes_into_the_next_by_small_steps(window_frames, data):
    overlap = data.draw(st.integers(0, window_frames - 1))
    windows = plan_windows(5 * window_frames, window_frames, overlap)
    num_before = data.draw(st.integers(0, len(windows.slices)))
    values = [torch.full((window_frames,), float(index < num_before)) for index in range(len(windows.slices))]
    steps = blended(values, windows, 5 * window_frames).diff().abs()
    # the steepest step of half a cosine's wave over n frames is pi / (2 n)
    assert steps.max() <= 1.6 / max(overlap, 1.6)


def test_frames_at_the_edge_of_a_window_count_nothing_where_it_shares_more_than_needed():
    windows = plan_windows(210, 200, 40)
    assert windows.slices == [slice(0, 200), slice(10, 210)]
    first, second = windows.weights()
    assert not first[-70:].any()
    assert not second[:70].any()


def test_without_overlap_windows_are_cut_hard():
    assert [weight.tolist() for weight in plan_windows(20, 10, 0).weights()] == [[1.0] * 10, [1.0] * 10]


@pytest.mark.parametrize("num_frames", [1, 9, 10])
def test_clip_that_fits_is_one_window_of_its_own_length(num_frames):
    windows = plan_windows(num_frames, 10, 4)
    assert windows.slices == [slice(0, num_frames)]
    assert windows.weights()[0].tolist() == [1.0] * num_frames


@pytest.mark.parametrize(
    ("window_frames", "overlap", "message"),
    [
        (0, 0, "`window_frames` is 0"),
        (2.5, 0, "`window_frames` is 2.5"),
        (10, -1, "`window_overlap` is -1"),
        (10, 10, "`window_overlap` is 10, must be less than a window's 10 frames"),
    ],
)
def test_windows_that_cannot_cover_a_clip_are_refused(window_frames, overlap, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(100, window_frames, overlap)


@pytest.mark.parametrize("dim", [1, -1])
def test_window_that_follows_takes_over_as_windows_of_a_clip_do(dim):
    earlier, later = torch.zeros(2, 6), torch.ones(2, 6)
    weights = FrameWindows([slice(0, 10), slice(4, 14)], overlap=6).weights()[1][:6]
    torch.testing.assert_close(pass_over(earlier, later, dim), weights.expand(2, 6))


def test_windows_that_share_no_frame_follow_each_other_hard():
    assert pass_over(torch.zeros(1, 0, 3), torch.ones(1, 0, 3), 1).shape == (1, 0, 3)
