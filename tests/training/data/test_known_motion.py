import numpy as np
import pytest
import torch
from moving_clips import moving_clip
from tiny_clips import write_tiny_data_set

from diffusers_dawn.geometry.flow import cell_centres, warp_frames
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.datasets import MotionWindows
from training.data.draw import Draw
from training.data.known_motion import KnownMotion
from training.data.known_pairs import KnownPairs, blur_motion


@pytest.fixture
def clips(moving_data_set):
    return ClipShards(moving_data_set)


@pytest.mark.parametrize("crop_px", [None, 32])
def test_known_flow_warps_the_source_to_the_driving_frame_also_mirrored_and_cropped(clips, crop_px):
    pairs = KnownPairs(clips, crop_px, colour_jitter=0)
    for seed in range(8):
        sample = pairs[Draw(0, (seed,))]
        warped = warp_frames(sample["source"][None], sample["flow"][None, None], border="repeated")[0, 0]
        # rolled columns come back at the edge, and videos are compressed
        inside = (slice(None), slice(4, -4), slice(8, -8))
        assert (warped - sample["driving"])[inside].abs().mean() < 0.02


def test_a_crop_takes_its_places_along(clips):
    sample = KnownPairs(clips, 32, colour_jitter=0, flip=False)[Draw(0, (3,))]
    assert sample["driving"].shape == (3, 32, 32) and sample["flow"].shape == (8, 8, 2)
    whole = KnownPairs(clips, None, colour_jitter=0, flip=False)[Draw(0, (3,))]
    shift = whole["mouth_px"] - sample["mouth_px"]
    assert (shift == shift[:1]).all() and (shift % 4 == 0).all()
    left, top = shift[0].int().tolist()
    torch.testing.assert_close(sample["driving"], whole["driving"][:, top : top + 32, left : left + 32])


def test_soft_motion_spreads_jumps_and_leaves_what_moves_as_one(clips):
    sharp, soft = (KnownPairs(clips, None, 0, False, soft_motion_share=share)[Draw(0, (3,))] for share in (0, 1))
    torch.testing.assert_close(soft["driving"], sharp["driving"])
    torch.testing.assert_close(soft["flow"], sharp["flow"])  # the whole picture moves
    still = cell_centres(16, 16).permute(2, 0, 1).numpy()
    parted = np.concatenate((still, np.ones((1, 16, 16), np.float32)))
    parted[1, 8:] -= 0.25
    steps = np.diff(blur_motion(parted, 1.0)[1] - still[1], axis=0)
    assert -0.12 < steps.min() < -0.05 and (steps[:, 0] < -0.01).sum() == 5
    np.testing.assert_allclose(steps.sum(axis=0), -0.25, atol=1e-3)


def test_windows_of_known_motion_begin_at_a_reference_or_take_a_random_one(clips):
    known = KnownMotion(clips)
    window = known.read(0, 7, 2, 4)
    stored = clips.read_labels(0)["motion"][2:6, 1].astype(np.float32)
    np.testing.assert_array_equal(window[:2].numpy(), stored[:, :2].transpose(1, 0, 2, 3))
    np.testing.assert_allclose(window[2].numpy(), 2 * stored[:, 2] - 1)
    assert known.nearest_reference(0, 6, 8) == 7 and known.nearest_reference(0, 6, 6) == 0
    assert {known.draw_reference(0, np.random.default_rng(seed)) for seed in range(20)} == {0, 7}


def test_colours_may_change_where_the_motion_is_known(clips):
    windows = MotionWindows(clips, 3, 3, "random", colour_jitter=True, cache=KnownMotion(clips))
    sample = windows[Draw(0, (1,), 3)]
    assert sample["motion"].shape == (3, 3, 16, 16) and "frames" not in sample
    assert windows.jitter is not None


def test_a_mixture_is_drawn_by_its_shares_and_skips_what_is_too_short(moving_data_set, tmp_path):
    short = write_tiny_data_set(tmp_path / "short", 1, 0, 4, moving_clip_of_four)
    mixture = ClipMixture({str(moving_data_set): 1, str(short): 5})
    windows = MotionWindows(mixture, 6, 6, "random", colour_jitter=False, cache=KnownMotion(mixture))
    rng = np.random.default_rng(0)
    assert {windows.choose(rng) for _ in range(30)} == {0, 1}
    assert KnownPairs(mixture).choose(rng) in range(3)


def moving_clip_of_four(clip_id, num_frames):
    clip = moving_clip(clip_id, 8)
    labels = {name: values[:4] for name, values in clip.labels.items() if name != "motion_references"}
    labels["motion_references"] = np.array([0, 2], np.int32)
    return type(clip)(clip_id, clip.identity, clip.frames[:4], clip.samples[: 4 * 640], labels)


def test_data_sets_that_do_not_know_their_motion_are_refused(tiny_data_set):
    with pytest.raises(ValueError, match="has no motion, motion_references"):
        KnownMotion(ClipShards(tiny_data_set))


def test_pairs_show_blinks_as_often_as_asked(clips, monkeypatch):
    monkeypatch.setattr("training.data.known_pairs.blinking_frames", lambda *_: np.array([4]))
    pairs = KnownPairs(clips, None, 0, False, blink_share=0.5)
    # frame 4, whose visibility is .8 everywhere, and one of twelve otherwise
    blinks = [bool((pairs[Draw(0, (seed,))]["occlusion"] - 0.8).abs().max() < 1e-3) for seed in range(60)]
    assert 0.35 < np.mean(blinks) < 0.75


@pytest.mark.parametrize("crop_px", [0, 12, 128])
def test_crops_must_fit(clips, crop_px):
    with pytest.raises(ValueError, match="`crop_px`"):
        KnownPairs(clips, crop_px)
