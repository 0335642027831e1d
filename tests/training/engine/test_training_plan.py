import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.engine.config import TrainingConfig
from training.engine.training_plan import BatchPlan, TrainingPlan

COUNTS = st.integers(1, 7)


def config(**changes) -> TrainingConfig:
    return TrainingConfig(dataset="", output_dir="", **changes)


@given(num_clips=COUNTS, batch_size=COUNTS, num_processes=COUNTS, num_batches=COUNTS)
def test_processes_together_draw_what_one_with_a_larger_batch_draws(num_clips, batch_size, num_processes, num_batches):
    parts = [
        list(BatchPlan(num_clips, batch_size, num_batches, 3, 0, index, num_processes))
        for index in range(num_processes)
    ]
    whole = list(BatchPlan(num_clips, batch_size * num_processes, num_batches, 3))
    assert [list(itertools.chain(*batch)) for batch in zip(*parts, strict=True)] == whole


@given(num_clips=COUNTS, batch_size=COUNTS, first=st.integers(0, 9))
def test_plan_from_a_later_batch_is_the_rest_of_the_plan(num_clips, batch_size, first):
    def length(rng):
        return int(rng.integers(5, 9))

    whole = list(BatchPlan(num_clips, batch_size, 10, 1, draw_num_frames=length))
    rest = BatchPlan(num_clips, batch_size, 10, 1, first, draw_num_frames=length)
    assert list(rest) == whole[first:] and len(rest) == 10 - first


@given(num_clips=COUNTS, passes=COUNTS)
def test_every_pass_draws_every_clip_once(num_clips, passes):
    drawn = [draw.index for batch in BatchPlan(num_clips, 1, num_clips * passes) for draw in batch]
    for begin in range(0, len(drawn), num_clips):
        assert sorted(drawn[begin : begin + num_clips]) == list(range(num_clips))


def test_no_two_samples_have_the_same_random_numbers():
    draws = [draw for batch in BatchPlan(3, 2, 20) for draw in batch]
    assert len({draw.random().integers(2**62) for draw in draws}) == len(draws)


def test_length_is_one_per_batch_and_varies_between_batches():
    plan = BatchPlan(4, 3, 30, draw_num_frames=lambda rng: int(rng.integers(30, 41)))
    lengths = [{draw.num_frames for draw in batch} for batch in plan]
    assert all(len(length) == 1 for length in lengths) and len(set.union(*lengths)) > 3


def test_length_is_one_for_all_batches_of_a_step():
    plan = BatchPlan(4, 1, 12, draw_num_frames=lambda rng: int(rng.integers(0, 10**6)), batches_per_step=3)
    lengths = [batch[0].num_frames for batch in plan]
    assert lengths == [lengths[index - index % 3] for index in range(12)] and len(set(lengths)) == 4


def test_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="`dataset` holds no clips"):
        BatchPlan(0, 1, 1)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_learning_rate_rises_then_falls_to_its_end(schedule):
    plan = TrainingPlan(
        config(max_train_steps=100, learning_rate=1.0, lr_scheduler=schedule, lr_warmup_steps=9, lr_end=0.1), 5, 1
    )
    rates = [plan.learning_rate(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert all(first > second for first, second in itertools.pairwise(rates[9:]))
    assert rates[100] == pytest.approx(0.1)


def test_constant_learning_rate_stays():
    plan = TrainingPlan(config(max_train_steps=10, learning_rate=0.5, lr_scheduler="constant"), 5, 1)
    assert {plan.learning_rate(step) for step in range(10)} == {0.5}


def test_epochs_count_clips_repeats_and_the_samples_of_a_step():
    plan = TrainingPlan(
        config(num_train_epochs=3, clip_repeats=4, train_batch_size=2, gradient_accumulation_steps=5), 25, 2
    )
    assert plan.samples_per_step == 20
    assert plan.num_steps == 3 * 25 * 4 // 20
    assert plan.epoch(5) == pytest.approx(1)
