import pytest
import torch

from diffusers_dawn.sampling.conditions import Conditions, null_conditions, relative_conditions


def make_conditions(batch: int = 2, frames: int = 5) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    return Conditions(*(torch.randn(batch, frames, width, generator=generator) for width in (7, 6, 2)))


def test_pose_and_blink_become_differences_to_each_clips_reference():
    given = make_conditions()
    reference_pose, reference_blink = given.pose[:, 0], given.blink[:, 3]
    result = relative_conditions(*given, reference_pose, reference_blink)
    assert result.audio_features is given.audio_features
    for clip in range(2):
        assert torch.equal(result.pose[clip], given.pose[clip] - reference_pose[clip])
        assert torch.equal(result.blink[clip], given.blink[clip] - reference_blink[clip])
    assert not result.pose[:, 0].any()
    assert not result.blink[:, 3].any()


def test_one_reference_serves_every_clip():
    given = make_conditions()
    result = relative_conditions(*given, given.pose[:1, 0], given.blink[:1, 0])
    assert torch.equal(result.pose, given.pose - given.pose[0, 0])


def test_relative_conditions_leave_their_inputs_alone():
    given = make_conditions()
    before = [condition.clone() for condition in given]
    relative_conditions(*given, given.pose[:, 0], given.blink[:, 0])
    assert all(map(torch.equal, given, before))


def test_null_condition_is_all_zeros_of_the_same_shapes():
    given = make_conditions()
    for null, condition in zip(null_conditions(given), given, strict=True):
        assert torch.equal(null, torch.zeros_like(condition))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_null_condition_keeps_the_dtype(dtype):
    given = Conditions(*(condition.to(dtype) for condition in make_conditions()))
    for mask in (None, torch.ones(2, 5, dtype=torch.bool)):
        assert {condition.dtype for condition in null_conditions(given, mask)} == {dtype}


def test_masked_frames_lose_all_conditions_and_the_others_none():
    given = make_conditions()
    mask = torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    for null, condition in zip(null_conditions(given, mask), given, strict=True):
        assert not null[mask].any()
        assert torch.equal(null[~mask], condition[~mask])


def test_conditions_can_be_lost_apart():
    given = make_conditions()
    mask = torch.zeros(2, 5, 3, dtype=torch.bool)
    mask[1, :, 0] = mask[0, 2, 2] = True
    lost = null_conditions(given, mask)
    assert torch.equal(lost.pose, given.pose)
    for part, kept, is_lost in (
        (lost.audio_features, given.audio_features, mask[..., 0]),
        (lost.blink, given.blink, mask[..., 2]),
    ):
        assert not part[is_lost].any() and torch.equal(part[~is_lost], kept[~is_lost])


def test_full_mask_equals_no_mask():
    given = make_conditions()
    full = null_conditions(given, torch.ones(2, 5, dtype=torch.bool))
    assert all(map(torch.equal, full, null_conditions(given)))


def test_null_condition_hides_values_that_are_not_finite():
    given = make_conditions()
    given.pose[0, 0] = torch.nan
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 0] = True
    assert null_conditions(given, mask).pose.isfinite().all()
