import dataclasses
import os
import pickle
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_clips import SIZE_PX, made_clip, made_dataset, made_or_skipped

from training.data.clip_members import SAMPLES_PER_FRAME
from training.data.clip_shards import ClipShards
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard
from warm_processes import begin, exit_codes

CLIP_IDS = ("anna_1", "faceless_1", "ben_1", "ben_2", "cleo_1")


def be_killed_in_a_clip(words):
    """Make clips until the given number of them, then be killed in the middle of writing the next."""
    path, num_before, calls = Path(words[0]), int(words[1]), []

    def make(clip_id):
        calls.append(clip_id)
        if len(calls) > num_before:
            with path.with_suffix(".tar.partial").open("ab") as half_written:
                half_written.write(b"half a clip")
            with path.with_suffix(".jsonl").open("ab") as half_written:
                half_written.write(b'{"clip_id": ')
            os.kill(os.getpid(), signal.SIGKILL)
        return made_or_skipped(clip_id)

    write_shard(path, words[2:], make)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return made_dataset(tmp_path_factory.mktemp("dataset"))


# writing


def test_equal_clips_make_equal_bytes(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "train-00000.tar", CLIP_IDS, made_or_skipped)
    assert bytes_of(tmp_path / "first") == bytes_of(tmp_path / "second")
    assert sorted(bytes_of(tmp_path / "first")) == ["train-00000.jsonl", "train-00000.tar"]


@pytest.mark.parametrize("num_before", [0, 2, 4])
def test_a_killed_shard_is_finished_to_the_same_bytes_without_redoing_a_clip(tmp_path, num_before):
    whole, resumed = tmp_path / "whole" / "train-00000.tar", tmp_path / "resumed" / "train-00000.tar"
    whole.parent.mkdir()
    resumed.parent.mkdir()
    write_shard(whole, CLIP_IDS, made_or_skipped)
    killed = begin(be_killed_in_a_clip, [resumed, num_before, *CLIP_IDS])
    assert exit_codes([killed]) == [-signal.SIGKILL] and not resumed.exists()
    made = []

    def make(clip_id):
        made.append(clip_id)
        return made_or_skipped(clip_id)

    report = write_shard(resumed, CLIP_IDS, make)
    assert made == list(CLIP_IDS[num_before:]) and report.num_made == len(CLIP_IDS) - num_before
    assert bytes_of(resumed.parent) == bytes_of(whole.parent)


def test_an_error_in_one_clip_leaves_the_others_for_the_next_run(tmp_path):
    path = tmp_path / "train-00000.tar"

    def fail_at_ben(clip_id):
        if clip_id == "ben_1":
            raise MemoryError
        return made_clip(clip_id)

    with pytest.raises(MemoryError):
        write_shard(path, ("anna_1", "ben_1"), fail_at_ben)
    assert write_shard(path, ("anna_1", "ben_1"), made_clip).num_made == 1


def test_a_finished_shard_is_left_as_it_is(tmp_path):
    path = tmp_path / "train-00000.tar"
    first = write_shard(path, CLIP_IDS, made_or_skipped)
    again = write_shard(path, CLIP_IDS, None)
    assert again == dataclasses.replace(first, num_made=0)
    assert (first.num_clips, first.num_frames, first.num_made) == (4, 24, 5)
    assert first.skipped == {"faceless_1": "no face in any of its 6 frames"}


def test_a_shard_begun_with_other_clips_is_refused(tmp_path):
    path = tmp_path / "train-00000.tar"
    write_shard(path, CLIP_IDS, made_or_skipped)
    with pytest.raises(ValueError, match=r"train-00000.tar was started with other clips"):
        write_shard(path, CLIP_IDS[1:], made_or_skipped)


def test_a_partial_shard_shorter_than_its_journal_is_refused(tmp_path):
    path = tmp_path / "train-00000.tar"
    write_shard(path, CLIP_IDS, made_or_skipped)
    path.unlink()
    with pytest.raises(ValueError, match=r"train-00000.tar.partial is shorter than its journal says"):
        write_shard(path, CLIP_IDS, made_or_skipped)


def test_a_shard_of_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` is named clips.tar, must have a name such as train-00000.tar"):
        write_shard(tmp_path / "clips.tar", CLIP_IDS, made_or_skipped)


def test_a_clip_of_another_name_than_asked_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`make_clip` made 'ben' when asked for 'anna'"):
        write_shard(tmp_path / "train-00000.tar", ["anna"], lambda clip_id: made_clip("ben"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_id": "a.b"}, "`clip_id` is 'a.b', must be 1 to 90 letters"),
        ({"identity": ""}, "has no `identity`"),
        ({"frames": np.zeros((6, 32, 30, 3), np.uint8)}, r"`frames` is uint8 \(6, 32, 30, 3\)"),
        ({"frames": np.zeros((6, 31, 31, 3), np.uint8)}, "`frames` is 31 px wide, must have an even width"),
        ({"frames": np.zeros((0, 32, 32, 3), np.uint8)}, r"`frames` is uint8 \(0, "),
        ({"samples": np.zeros(100, np.float32)}, r"`samples` is \(100,\), must be 3840 finite samples"),
        ({"pose": np.zeros((6, 6))}, r"label `pose` is float64 \(6, 6\), must be float32 \(6, 6\)"),
        ({"mouth_px": np.zeros((5, 20, 2), np.float32)}, r"label `mouth_px` is float32 \(5, 20, 2\)"),
        ({"audio_features": np.zeros((5, 8), np.float16)}, r"label `audio_features` is float16 \(5, 8\)"),
        ({"blink": np.full((6, 2), np.nan, np.float32)}, "label `blink` holds values that are not finite"),
    ],
)
def test_a_clip_that_does_not_keep_the_format_is_refused(tmp_path, changes, message):
    clip = made_clip("anna_1")
    attributes = {name: value for name, value in changes.items() if hasattr(clip, name)}
    labels = {name: value for name, value in changes.items() if name not in attributes}
    clip = dataclasses.replace(clip, **attributes, labels=clip.labels | labels)
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / "train-00000.tar", [clip.clip_id], lambda clip_id: clip)


def test_a_missing_label_is_refused(tmp_path):
    clip = made_clip("anna_1")
    del clip.labels["blink"]
    with pytest.raises(ValueError, match=r"label `blink` is missing, must be float32 \(6, 2\)"):
        write_shard(tmp_path / "train-00000.tar", ["anna_1"], lambda clip_id: clip)


def test_a_shard_is_a_plain_tar_file_whose_headers_tell_nothing_of_the_machine(dataset):
    with tarfile.open(dataset / "train-00000.tar") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        f"{clip_id}.{suffix}" for clip_id in ("anna_1", "ben_1") for suffix in ("mp4", "wav", "npz", "json")
    ]
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}


# reading


def test_clips_are_read_as_they_were_made(dataset):
    shards = ClipShards(dataset)
    assert [entry.clip_id for entry in shards.entries] == ["anna_1", "ben_1", "ben_2"]
    assert [entry.identity for entry in shards.entries] == ["anna", "ben", "ben"]
    assert len(shards) == 3 and shards.info == DatasetInfo(SIZE_PX, "audio_encoder", 8)
    for index, entry in enumerate(shards.entries):
        clip = made_clip(entry.clip_id)
        labels = shards.read_labels(index)
        assert set(labels) == set(clip.labels)
        for name, values in labels.items():
            np.testing.assert_array_equal(values, clip.labels[name])
            assert values.dtype == clip.labels[name].dtype
        # 16 bits
        np.testing.assert_allclose(shards.read_samples(index), clip.samples, atol=0.5 / 32768 + 1e-7)
        assert shards.read_info(index) == {
            "clip_id": entry.clip_id,
            "identity": entry.identity,
            "split": "train",
            "num_frames": 6,
            "source": f"{entry.clip_id}.mp4",
        }
        # colours of 8 bits through YCbCr of limited range, where 219 steps stand for 255
        frames = shards.read_frames(index, range(6))
        np.testing.assert_allclose(frames.astype(int), clip.frames, atol=3)


@given(frame_indices=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_any_frames_in_any_order_are_those_of_sequential_reading(dataset, frame_indices):
    shards = ClipShards(dataset)
    np.testing.assert_array_equal(shards.read_frames(1, frame_indices), shards.read_frames(1, range(6))[frame_indices])


def test_every_frame_is_a_key_frame_of_full_colour_resolution_and_exact_time(dataset):
    import av

    entry = ClipShards(dataset).entries[0]
    with tarfile.open(dataset / entry.shard) as archive:
        content = archive.extractfile(f"{entry.clip_id}.mp4")
        with av.open(content) as container:
            frames = list(container.decode(video=0))
    assert all(frame.key_frame and frame.format.name == "yuv444p" for frame in frames)
    assert [frame.time for frame in frames] == [index / 25 for index in range(6)]


def test_noise_survives_encoding_within_the_quantiser(tmp_path):
    clip = made_clip("anna_1")
    clip.frames[:] = np.random.default_rng(0).integers(0, 256, clip.frames.shape)
    write_shard(tmp_path / "train-00000.tar", ["anna_1"], lambda clip_id: clip)
    write_dataset_info(tmp_path, DatasetInfo(SIZE_PX))
    error = ClipShards(tmp_path).read_frames(0, range(6)).astype(float) - clip.frames
    # white noise is the worst that can be encoded: quantiser 12 has steps of 2.5 in each component
    assert np.sqrt((error**2).mean()) < 2


def test_extra_labels_of_any_length_and_type_are_kept(tmp_path):
    extras = {"phonemes": np.arange(12, dtype=np.int16), "flow_visible": np.ones((5, 4, 4), bool)}
    write_shard(tmp_path / "test-00000.tar", ["anna_1"], lambda clip_id: made_clip(clip_id, **extras))
    write_dataset_info(tmp_path, DatasetInfo(SIZE_PX))
    labels = ClipShards(tmp_path, "test").read_labels(0, ["flow_visible", "phonemes"])
    assert list(labels) == ["flow_visible", "phonemes"]
    for name, values in labels.items():
        np.testing.assert_array_equal(values, extras[name])


def test_full_scale_sound_is_limited_not_wrapped(tmp_path):
    clip = made_clip("anna_1")
    clip.samples[:] = np.sign(clip.samples)
    write_shard(tmp_path / "train-00000.tar", ["anna_1"], lambda clip_id: clip)
    write_dataset_info(tmp_path, DatasetInfo(SIZE_PX))
    np.testing.assert_allclose(ClipShards(tmp_path).read_samples(0), clip.samples, atol=1e-4)


def test_a_reader_can_be_pickled(dataset):
    shards = ClipShards(dataset)
    shards.read_samples(0)
    copied = pickle.loads(pickle.dumps(shards))
    np.testing.assert_array_equal(copied.read_frames(2, [4, 1]), shards.read_frames(2, [4, 1]))


def test_hugging_face_datasets_streams_the_shards_offline(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import Features, List, Value, load_dataset

    # sound and video as bytes: to decode them itself, `datasets` needs torchcodec
    labels = {"pose": 6, "blink": 2, "face_box_px": 4, "audio_features": 8}
    features = Features(
        {"__key__": Value("string"), "__url__": Value("string"), "mp4": Value("binary"), "wav": Value("binary")}
        | {
            "npz": {name: List(List(Value("float32"))) for name in labels}
            | {"mouth_px": List(List(List(Value("float32"))))}
        }
        | {"json": {"clip_id": Value("string"), "identity": Value("string"), "num_frames": Value("int64")}}
    )
    files = str(dataset / "train-*.tar")
    arguments = {"data_files": files, "features": features, "streaming": True, "cache_dir": str(tmp_path)}
    streamed = load_dataset("webdataset", split="train", **arguments)
    shards = ClipShards(dataset)
    rows = list(streamed.shuffle(seed=0, buffer_size=2))
    assert len(rows) == 3
    rows = list(streamed)
    assert [row["__key__"] for row in rows] == [entry.clip_id for entry in shards.entries]
    for index, row in enumerate(rows):
        assert row["json"]["identity"] == shards.entries[index].identity
        assert row["mp4"][4:8] == b"ftyp" and row["wav"][:4] == b"RIFF"
        for name, values in shards.read_labels(index).items():
            np.testing.assert_array_equal(np.array(row["npz"][name]), values)


# what goes wrong in reading


@pytest.mark.parametrize("frame_indices", [[], [6], [-1], [0, 99]])
def test_frames_that_are_not_there_are_an_error(dataset, frame_indices):
    with pytest.raises(ValueError, match=r"`frame_indices` is .*, must be from 0 to 5 in ben_1"):
        ClipShards(dataset).read_frames(1, frame_indices)


def test_a_label_that_is_not_there_is_an_error_that_names_the_others(dataset):
    with pytest.raises(ValueError, match=r"anna_1.npz in .*train-00000.tar: there is no label flow; there are .*pose"):
        ClipShards(dataset).read_labels(0, ["pose", "flow"])


def test_a_folder_without_a_data_set_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"`dataset` .* holds no finished data set: .*{tmp_path.name}"):
        ClipShards(tmp_path)


def test_a_split_without_clips_is_an_error(dataset):
    with pytest.raises(ValueError, match=f"`dataset` holds no clips of the split 'test': .*{dataset.name}"):
        ClipShards(dataset, "test")


@pytest.mark.parametrize("lost", ["train-00000.tar", "train-00001.tar"])
def test_a_missing_or_unfinished_shard_is_an_error_that_names_it(tmp_path, lost):
    made_dataset(tmp_path)
    (tmp_path / lost).rename(tmp_path / f"{lost}.partial")
    with pytest.raises(ValueError, match=f"missing or unfinished: .*{lost}"):
        ClipShards(tmp_path)


def test_a_shard_cut_short_is_an_error_that_names_it(tmp_path):
    made_dataset(tmp_path)
    content = (tmp_path / "train-00001.tar").read_bytes()
    (tmp_path / "train-00001.tar").write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match=r"cut short: .*train-00001.tar has less than \d+ bytes"):
        ClipShards(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), shard=st.sampled_from([0, 1]))
def test_a_finished_shard_with_a_part_of_its_journal_is_an_error_wherever_it_is_read(tmp_path, share, shard):
    if not (tmp_path / "dataset.json").exists():
        made_dataset(tmp_path, ("anna_1", "ben_1", "ben_2", "cleo_1"))
    journal = tmp_path / f"train-0000{shard}.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: int(share * len(whole))])
    clip_ids = [("anna_1", "ben_1"), ("ben_2", "cleo_1")][shard]
    try:
        with pytest.raises(ValueError, match=f"journal is damaged: .*{journal.name}"):
            ClipShards(tmp_path)
        with pytest.raises(ValueError, match=r"started with other clips|journal is damaged"):
            write_shard(journal.with_suffix(".tar"), clip_ids, made_clip)
    finally:
        journal.write_bytes(whole)


def test_a_shard_without_its_journal_is_an_error_that_names_it(tmp_path):
    made_dataset(tmp_path)
    (tmp_path / "train-00001.jsonl").unlink()
    with pytest.raises(ValueError, match="missing or unfinished: .*train-00001.tar"):
        ClipShards(tmp_path)


@pytest.mark.parametrize("suffix", ["mp4", "wav", "npz", "json"])
def test_a_damaged_file_is_an_error_that_names_clip_and_shard(tmp_path, suffix):
    made_dataset(tmp_path)
    shards = ClipShards(tmp_path)
    offset, size = shards.entries[2].members[suffix]
    with open(tmp_path / "train-00001.tar", "r+b") as shard:
        shard.seek(offset)
        shard.write(bytes([255] * size))
    read = {
        "mp4": lambda: shards.read_frames(2, [0]),
        "wav": lambda: shards.read_samples(2),
        "npz": lambda: shards.read_labels(2),
        "json": lambda: shards.read_info(2),
    }
    with pytest.raises(ValueError, match=rf"ben_2.{suffix} in .*train-00001.tar: "):
        read[suffix]()


DAMAGED_LINES = [
    b"{no json",
    b"5",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"clip_id": "a"}',
    b'{"clip_id": 3, "skipped": "x"}',
    b'{"clip_id": "a", "skipped": null}',
    b'{"clip_id": "a", "identity": "b", "num_frames": -1, "end": 5, "members": {"mp4": [0, 1]}}',
    b'{"clip_id": "a", "identity": "b", "num_frames": 1, "end": "5", "members": {"mp4": [0, 1]}}',
    b'{"clip_id": "a", "identity": "b", "num_frames": 1, "end": 5, "members": {}}',
    b'{"clip_id": "a", "identity": "b", "num_frames": 1, "end": 5, "members": {"mp4": [-1, 1]}}',
    None,  # it is missing
]


def test_a_damaged_line_of_a_journal_is_an_error_that_names_it(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path, dirs_exist_ok=True)
    journal = tmp_path / "train-00000.jsonl"
    whole = journal.read_bytes().splitlines()
    for damaged in DAMAGED_LINES:
        lines = [*([] if damaged is None else [damaged]), *whole[1:]]
        journal.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(ValueError, match=r"journal is damaged: .*train-00000.jsonl|train-00000.jsonl is damaged"):
            ClipShards(tmp_path)


def test_shards_are_named_by_split_and_number():
    assert shard_path("data", "train", 7) == Path("data/train-00007.tar")
    assert SAMPLES_PER_FRAME == 640
