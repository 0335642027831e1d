from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clips import tiny_clip, write_tiny_data_set

from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.dataset_info import (
    DatasetInfo,
    read_dataset_info,
    replace_dataset_info,
    write_dataset_info,
)
from training.data.datasets import MIRRORED_MOUTH, FramePairs, MotionWindows, Tracks
from training.data.draw import Draw
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard


@pytest.fixture
def clips(tiny_data_set) -> ClipShards:
    return ClipShards(tiny_data_set, "train")


@pytest.fixture
def eyed_clips(eyed_data_set) -> ClipShards:
    return ClipShards(eyed_data_set, "train")


def frame_of(clips: ClipShards, index: int, image: torch.Tensor) -> int | None:
    frames = torch.from_numpy(clips.read_frames(index, range(30))).permute(0, 3, 1, 2).float() / 255
    found = [number for number, frame in enumerate(frames) if torch.equal(frame, image)]
    return found[0] if found else None


def test_pair_is_two_different_frames_of_one_clip(clips):
    sample = FramePairs(clips, colour_jitter=0, flip=False)[Draw(1, (4,))]
    source, driving = (frame_of(clips, 1, sample[name]) for name in ("source", "driving"))
    assert None not in (source, driving) and source != driving
    for name in ("mouth_px", "face_box_px"):
        np.testing.assert_array_equal(sample[name], clips.read_labels(1)[name][[source, driving]])


def test_pair_is_mirrored_with_its_landmarks(clips):
    pairs = FramePairs(clips, colour_jitter=0)
    samples = [pairs[Draw(1, (seed,))] for seed in range(12)]
    mirrored = [sample for sample in samples if frame_of(clips, 1, sample["driving"]) is None]
    assert 0 < len(mirrored) < 12
    for sample in mirrored:
        driving = frame_of(clips, 1, sample["driving"].flip(-1))
        truth = clips.read_labels(1)
        mouth_px, box_px = truth["mouth_px"][driving], truth["face_box_px"][driving]
        np.testing.assert_allclose(sample["mouth_px"][1][MIRRORED_MOUTH], mouth_px * [-1, 1] + [63, 0], rtol=1e-5)
        np.testing.assert_allclose(sample["face_box_px"][1], [63 - box_px[1], 63 - box_px[0], *box_px[2:]], rtol=1e-5)


def test_mirror_swaps_the_eyes(eyed_clips):
    eyes_px = eyed_clips.read_labels(0)["eyes_px"]
    pairs = FramePairs(eyed_clips, colour_jitter=0, eyes=True)
    samples = [pairs[Draw(0, (seed,))] for seed in range(12)]
    mirrored = [sample for sample in samples if frame_of(eyed_clips, 0, sample["driving"]) is None]
    assert 0 < len(mirrored) < 12
    for sample in mirrored:
        left, right = eyes_px[frame_of(eyed_clips, 0, sample["driving"].flip(-1))]
        wanted = [[63 - eye[1], 63 - eye[0], eye[2], eye[3]] for eye in (right, left)]
        np.testing.assert_allclose(sample["eyes_px"][1], wanted, rtol=1e-5)


def test_mirror_keeps_the_middle_of_the_lips_and_swaps_their_corners():
    # of points 48 to 67: corners 48 and 54, 60 and 64; middles 51, 57, 62 and 66
    pairs = {48: 54, 60: 64, 49: 53, 50: 52, 59: 55, 58: 56, 61: 63, 67: 65, 51: 51, 57: 57, 62: 62, 66: 66}
    for first, second in pairs.items():
        assert MIRRORED_MOUTH[first - 48] == second - 48 and MIRRORED_MOUTH[second - 48] == first - 48


@pytest.fixture
def blinking_clips(tmp_path) -> ClipShards:
    """Clips with a blink in frames 10 and 11."""

    def blinking(name, num_frames):
        clip = tiny_clip(name, num_frames)
        clip.labels["blink"][10:12] = 0.01
        return clip

    return ClipShards(write_tiny_data_set(tmp_path / "clips", 2, make_clip=blinking), "train")


def test_share_of_driving_frames_is_drawn_from_blinks(blinking_clips):
    pairs = FramePairs(blinking_clips, colour_jitter=0, flip=False, blink_share=0.5)
    drawn = [frame_of(blinking_clips, 0, pairs[Draw(0, (seed,))]["driving"]) for seed in range(60)]
    share = sum(frame in {10, 11} for frame in drawn) / 60
    # 0.53 +- 3 standard deviations
    assert 0.34 < share < 0.73


def test_clips_without_blinks_are_drawn_as_always(clips):
    pairs = FramePairs(clips, colour_jitter=0, flip=False, blink_share=1.0)
    drawn = {frame_of(clips, 0, pairs[Draw(0, (seed,))]["driving"]) for seed in range(40)}
    assert len(drawn) > 15


def test_jitter_changes_both_frames_alike(clips):
    sample = FramePairs(clips, colour_jitter=0.3, flip=False)[Draw(0, (2,))]
    # the background, which is one colour in all frames
    assert torch.equal(sample["source"][:, 0, 0], sample["driving"][:, 0, 0])
    assert frame_of(clips, 0, sample["source"]) is None


def test_track_longer_than_the_clip_is_padded_and_its_length_is_told(clips):
    sample = Tracks(clips, max_frames=40)[Draw(0, (1,))]
    assert sample["length"] == 30 and sample["pose"].shape == (40, 6)
    np.testing.assert_array_equal(sample["pose"][:30], clips.read_labels(0)["pose"])
    assert not sample["audio_features"][30:].any()


def test_track_shorter_than_the_clip_is_a_piece_of_it(clips):
    sample = Tracks(clips, max_frames=10)[Draw(0, (1,))]
    pose = clips.read_labels(0)["pose"]
    assert sample["length"] == 10
    assert any(np.array_equal(sample["pose"], pose[first : first + 10]) for first in range(21))


def test_measured_poses_are_smoothed_and_exact_ones_stay(tmp_path):
    def shaking(name, num_frames):
        clip = tiny_clip(name, num_frames)
        clip.labels["pose"][:] = 5.0
        clip.labels["pose"][::2] += 1
        return clip

    folders = {exact: write_tiny_data_set(tmp_path / str(exact), 1, make_clip=shaking) for exact in (False, True)}
    replace_dataset_info(folders[True], replace(read_dataset_info(folders[True]), exact_pose=True))
    mixture = ClipMixture({str(folder): 1 for folder in folders.values()})
    windows = MotionWindows(mixture, 30, 30, colour_jitter=False, pose_smoothing_s=0.4)
    measured, exact = (windows[Draw(index, (0,), 30)] for index in (0, 1))
    np.testing.assert_array_equal(exact["pose"], mixture.read_labels(1)["pose"])
    np.testing.assert_allclose(measured["pose"][10:20], 5.5, atol=0.01)
    np.testing.assert_array_equal(measured["reference_pose"], measured["pose"][0])
    tracks = Tracks(mixture, 30, pose_smoothing_s=0.4)
    for index, windows_sample in enumerate((measured, exact)):
        np.testing.assert_array_equal(tracks[Draw(index, (0,))]["pose"], windows_sample["pose"])


def test_reference_of_the_first_stage_is_the_first_frame_of_the_window(clips):
    sample = MotionWindows(clips, 4, 4, "first", colour_jitter=False)[Draw(0, (7,), 4)]
    assert torch.equal(sample["reference"], sample["frames"][0])
    assert torch.equal(sample["reference_pose"], sample["pose"][0])


def test_reference_of_the_second_stage_is_any_frame(clips):
    windows = MotionWindows(clips, 4, 4, "random", colour_jitter=False)
    found = set()
    for seed in range(40):
        sample = windows[Draw(0, (seed,), 4)]
        number = frame_of(clips, 0, sample["reference"])
        found.add(number)
        np.testing.assert_array_equal(sample["reference_pose"], clips.read_labels(0)["pose"][number])
    assert len(found) > 15


def test_window_is_cut_alike_out_of_frames_and_labels(clips):
    sample = MotionWindows(clips, 5, 5, "random", colour_jitter=False)[Draw(3, (1,), 5)]
    first = frame_of(clips, 3, sample["frames"][0])
    labels = clips.read_labels(3)
    for name in ("pose", "blink", "mouth_px", "audio_features"):
        np.testing.assert_array_equal(sample[name], labels[name][first : first + 5].astype(np.float32))


def test_share_of_windows_is_drawn_around_blinks(blinking_clips):
    windows = MotionWindows(blinking_clips, 3, 3, "random", colour_jitter=False, blink_share=1.0)
    firsts = [frame_of(blinking_clips, 0, windows[Draw(0, (seed,), 3)]["frames"][0]) for seed in range(40)]
    # wherever in the window the blink is
    assert set(firsts) == {8, 9, 10, 11}


def test_windows_around_blinks_stay_inside_the_clip(blinking_clips):
    windows = MotionWindows(blinking_clips, 29, 29, "random", colour_jitter=False, blink_share=1.0)
    firsts = {frame_of(blinking_clips, 0, windows[Draw(0, (seed,), 29)]["frames"][0]) for seed in range(20)}
    assert firsts <= {0, 1}


def test_clips_without_blinks_give_windows_as_always(clips):
    windows = MotionWindows(clips, 3, 3, "random", colour_jitter=False, blink_share=1.0)
    firsts = {frame_of(clips, 0, windows[Draw(0, (seed,), 3)]["frames"][0]) for seed in range(40)}
    assert len(firsts) > 15


def test_windows_tell_where_the_eyes_are_when_asked(clips, eyed_clips):
    assert "eyes_px" not in MotionWindows(eyed_clips, 4, 4)[Draw(0, (1,), 4)]
    sample = MotionWindows(eyed_clips, 4, 4, colour_jitter=False, eyes=True)[Draw(0, (1,), 4)]
    first = frame_of(eyed_clips, 0, sample["frames"][0])
    np.testing.assert_array_equal(sample["eyes_px"], eyed_clips.read_labels(0)["eyes_px"][first : first + 4])


def test_share_of_frames_without_conditions_is_the_asked_one(clips):
    windows = MotionWindows(clips, 20, 20, null_probability=0.1)
    masks = [windows[Draw(0, (seed,), 20)]["null_mask"] for seed in range(60)]
    share = float(torch.stack(masks).float().mean())
    # 1,200 draws: 0.1 +- 3.5 standard deviations
    assert 0.07 < share < 0.13


def test_each_condition_is_dropped_from_its_own_share_of_windows(clips):
    windows = MotionWindows(clips, 3, 3, null_probability=0, dropped_share=0.3)
    masks = torch.stack([windows[Draw(0, (seed,), 3)]["null_mask"] for seed in range(200)])
    assert torch.equal(masks.all(1), masks.any(1))
    dropped = masks[:, 0].float()
    # 200 draws: 0.3 +- 3.5 standard deviations
    assert ((dropped.mean(0) - 0.3).abs() < 0.115).all()
    assert (dropped.T.corrcoef() - torch.eye(3)).abs().max() < 0.25


def test_shifted_windows_are_noisier(clips):
    windows = [MotionWindows(clips, 3, 3, timestep_shift=shift) for shift in (1.0, 4.0)]
    even, shifted = (
        torch.stack([samples[Draw(0, (seed,), 3)]["timestep"] for seed in range(60)]).double() for samples in windows
    )
    # 60 draws: the mean of the even ones is 500 +- 3.5 standard deviations, that of the others 717
    assert 370 < even.mean() < 630
    assert shifted.mean() > even.mean() + 150


def test_length_of_windows_spans_the_asked_range(clips):
    windows = MotionWindows(clips, 3, 6)
    assert {windows.draw_num_frames(np.random.default_rng(seed)) for seed in range(50)} == {3, 4, 5, 6}


def test_same_draw_is_the_same_sample(clips):
    for samples in (FramePairs(clips), Tracks(clips), MotionWindows(clips, 4, 4)):
        first, again, other = (samples[Draw(0, seed, 4)] for seed in ((1,), (1,), (2,)))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_data_set_without_features_is_refused(clips, tmp_path):
    write_dataset_info(tmp_path, DatasetInfo(64))

    def without_features(name: str):
        clip = tiny_clip(name)
        del clip.labels["audio_features"]
        return clip

    write_shard(shard_path(tmp_path, "train", 0), ["train-0"], without_features)
    bare = ClipShards(tmp_path, "train")
    for samples in (Tracks, MotionWindows):
        with pytest.raises(ValueError, match="was prepared without audio features"):
            samples(bare)


def test_clips_shorter_than_the_window_are_left_out_and_counted(tmp_path, caplog):
    write_dataset_info(tmp_path, DatasetInfo(64, "audio_encoder", 32))
    names = ["train-0", "train-1", "train-2"]
    write_shard(shard_path(tmp_path, "train", 0), names, lambda name: tiny_clip(name, 9 if name == "train-1" else 12))
    clips = ClipShards(tmp_path, "train")
    with caplog.at_level("WARNING", "training"):
        windows = MotionWindows(clips, 10, 10, colour_jitter=False)
    assert len(windows) == 2 and "leaving out 1 clips of less than 10 frames" in caplog.text
    sample = windows[Draw(1, (0,), 10)]
    assert any(np.array_equal(sample["pose"], clips.read_labels(2)["pose"][first : first + 10]) for first in range(3))
    with pytest.raises(ValueError, match="`max_frames` is 13, but no clip of"):
        MotionWindows(clips, 3, 13)
