import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.media.sound_timeline import MOST_RECORDING_S, STAMP_TOLERANCE_S, SoundTimeline

RATE_HZ = 8000


def collect(blocks, channel=0, end_s=None):
    timeline = SoundTimeline(RATE_HZ, channel, "audio", "channel")
    for samples, start_s in blocks:
        timeline.add(np.atleast_2d(samples).astype(np.float32), start_s)
    return timeline.finish(end_s, 0.12)


@given(
    pieces=st.lists(
        st.tuples(st.integers(20, 2000), st.integers(0, 4000), st.floats(-0.001, 0.001)), min_size=1, max_size=12
    )
)
def test_every_block_lies_where_its_time_stamp_says(pieces):
    blocks, start = [], 0
    for index, (length, gap, jitter_s) in enumerate(pieces):
        start += gap
        blocks.append((np.full(length, index + 1), max(start / RATE_HZ + jitter_s, 0)))
        start += length
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = collect(blocks)
    for values, start_s in blocks:
        found = np.flatnonzero(samples == values[0])
        assert len(found) == len(values) and np.ptp(found) == len(values) - 1
        assert abs(found[0] / RATE_HZ - start_s) <= STAMP_TOLERANCE_S + 0.003


def test_a_gap_is_silent_and_said():
    with pytest.warns(UserWarning, match="`audio` has 1 gap, filled with 0.50 s of silence"):
        samples = collect([(np.ones(800), 0.0), (np.ones(800), 0.6)])
    assert np.array_equal(np.flatnonzero(samples == 0), np.arange(800, 4800)) and len(samples) == 5600


def test_what_is_missing_at_the_end_is_silent_too():
    with pytest.warns(UserWarning, match="filled with 0.90 s of silence"):
        assert len(collect([(np.ones(800), 0.0)], end_s=1.0)) == RATE_HZ
    assert len(collect([(np.ones(800), 0.0)], end_s=0.2)) == 800  # a codec's padding


def test_a_start_after_the_picture_is_silent_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = collect([(np.ones(800), 0.5)])
    assert np.flatnonzero(samples)[0] == 4000


def test_a_start_long_after_the_picture_is_said():
    with pytest.warns(UserWarning, match=r"`audio` begins to sound after 9.50 s, which are silent$"):
        samples = collect([(np.ones(800), 9.5)])
    assert np.flatnonzero(samples)[0] == 76_000


def test_blocks_without_time_stamps_are_joined():
    assert len(collect([(np.ones(800), None), (np.ones(800), None)])) == 1600


def test_what_is_said_twice_is_heard_once():
    with pytest.warns(UserWarning, match="says 0.50 s twice"):
        samples = collect([(np.ones(8000), 0.0), (np.full(8000, 2), 0.5)])
    assert len(samples) == 12_000 and np.count_nonzero(samples == 1) == 8000


def test_time_stamps_that_begin_anew_are_joined_and_later_gaps_still_filled():
    with pytest.warns(UserWarning, match="1 gap, filled with 0.25 s .*begins to count its time anew 1 times"):
        samples = collect([(np.ones(16_000), 0.0), (np.full(800, 2), 0.0), (np.full(800, 3), 0.35)])
    assert np.flatnonzero(samples == 2)[0] == 16_000 and np.flatnonzero(samples == 3)[0] == 18_800


def test_the_loudest_channel_is_the_one_of_most_energy_over_all_blocks():
    blocks = [(np.array([[0.9] * 10, [0.1] * 10]), None), (np.array([[0.0] * 800, [0.5] * 800]), None)]
    assert collect(blocks, "loudest")[-1] == 0.5


@pytest.mark.parametrize("start_s", [36_000.0, MOST_RECORDING_S + 1])
def test_a_recording_that_grows_beyond_the_limit_is_refused_before_it_takes_memory(start_s):
    for blocks in ([(np.ones(8), start_s)], [(np.ones(8), 0.0), (np.ones(8), start_s)]):
        with pytest.raises(ValueError, match=f"`audio` lasts .* must last at most {MOST_RECORDING_S} s"):
            collect(blocks)


def test_the_limit_is_the_same_however_many_channels_are_kept():
    timeline = SoundTimeline(10, "loudest", "audio", "channel")
    for start_s in (0.0, MOST_RECORDING_S - 2.0):
        timeline.add(np.ones((8, 10), np.float32), start_s)
    with pytest.warns(UserWarning, match="1 gap"):
        assert len(timeline.finish(None, 0.12)) == 10 * (MOST_RECORDING_S - 1)


def test_silence_takes_its_memory_once():
    tracemalloc.start()
    try:
        with pytest.warns(UserWarning, match="1 gap"):
            samples = collect([(np.ones(8), 0.0), (np.ones(8), 3600.0)])
        # and what a growing buffer takes beforehand
        assert tracemalloc.get_traced_memory()[1] < 1.4 * samples.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("channel", "counts", "heard"),
    [
        ("loudest", (1, 2), [1, 2]),
        ("loudest", (2, 1), [2, 1]),
        ("loudest", (2, 6), [2, 6]),
        ("mix", (2, 1), [1.5, 1]),
        (1, (2, 1), [2, 1]),
        (0, (1, 2), [1, 1]),
    ],
)
def test_files_that_were_joined_may_differ_in_their_channels(channel, counts, heard):
    # channel c holds c + 1
    blocks = [(np.tile(np.arange(1.0, count + 1)[:, None], 10), None) for count in counts]
    assert collect(blocks, channel)[::10].tolist() == heard


def test_a_recording_that_does_not_fit_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr("diffusers_dawn.media.sound_timeline.free_bytes", lambda: 5 * 4 * RATE_HZ)
    with pytest.raises(ValueError, match="must last at most 4 s, which fits in memory"):
        collect([(np.ones(RATE_HZ), None)] * 6)
