import csv
import json

import numpy as np
import pytest
from made_clips import SIZE_PX, made_clip, made_dataset
from PIL import Image

from training.data.clip_shards import ClipShards
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.prepared_report import (
    BOX_COLOUR,
    LANDMARK_COLOUR,
    splits_of,
    write_contact_sheet,
    write_report,
    write_statistics,
)
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard

REASON = "no face in any of its 6 frames"


@pytest.fixture
def dataset(tmp_path):
    made_dataset(tmp_path, ("anna_1", "ben_1", "faceless_1", "ben_2", "faceless_2"))
    return made_dataset(tmp_path, ("cleo_1",), split="test")


def test_the_report_lists_skipped_clips_of_all_splits_with_their_reasons(dataset):
    with open(write_report(dataset), newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert rows == [
        {"clip_id": "faceless_1", "split": "train", "reason": REASON},
        {"clip_id": "faceless_2", "split": "train", "reason": REASON},
    ]


def test_statistics_count_clips_identities_and_reasons_per_split(dataset):
    statistics = write_statistics(dataset)
    assert statistics == json.loads((dataset / "statistics.json").read_text())
    train, test = statistics["splits"]["train"], statistics["splits"]["test"]
    assert (train["num_clips"], train["num_identities"], train["num_frames"]) == (3, 2, 18)
    assert (test["num_clips"], test["num_identities"], test["num_frames"]) == (1, 1, 6)
    assert train["skipped"] == {"no face in any of its # frames": 2} and test["skipped"] == {}
    assert train["hours"] == round(18 / 25 / 3600, 4)


def test_statistics_are_those_of_the_labels(dataset):
    labels = write_statistics(dataset)["splits"]["train"]["labels"]
    shards = ClipShards(dataset)
    pose, blink, mouth_px = (
        np.concatenate([shards.read_labels(index)[name] for index in range(3)])
        for name in ("pose", "blink", "mouth_px")
    )
    # five digits are written
    assert labels["yaw_deg"]["mean"] == pytest.approx(pose[:, 0].mean(), rel=1e-4)
    assert labels["y"]["std"] == pytest.approx(pose[:, 5].std(), rel=1e-4)
    assert labels["blink_right"]["p95"] == pytest.approx(np.percentile(blink[:, 1], 95), rel=1e-4)
    # the boxes of made clips are 0.6 of the height
    assert labels["face_height"]["p1"] == labels["face_height"]["p99"] == pytest.approx(0.6, rel=1e-4)
    gap = np.linalg.norm(mouth_px[:, 18] - mouth_px[:, 14], axis=1) / (0.6 * SIZE_PX)
    assert labels["mouth_gap"]["p50"] == pytest.approx(np.median(gap), rel=1e-4)


def test_a_face_without_height_is_refused_and_not_measured_as_infinite(tmp_path):
    clip = made_clip("anna_1", face_box_px=np.full((6, 4), 8, np.float32))
    write_shard(shard_path(tmp_path, "train", 0), ["anna_1"], lambda clip_id: clip)
    write_dataset_info(tmp_path, DatasetInfo(SIZE_PX))
    with pytest.raises(ValueError, match="`face_box_px` has a height of 0 px"):
        write_statistics(tmp_path)


def test_the_contact_sheet_shows_a_row_per_clip_with_box_and_mouth(dataset):
    sheet = np.asarray(Image.open(write_contact_sheet(dataset)))
    rows = np.split(sheet, 4)
    for row in rows:
        for colour in (BOX_COLOUR, LANDMARK_COLOUR):
            assert (row == colour).all(axis=-1).sum() >= 20
    # the clips differ in colour
    assert len({tuple(row[80, 10]) for row in rows}) == 4


def test_the_contact_sheet_samples_evenly_over_many_clips(dataset):
    sheet = Image.open(write_contact_sheet(dataset, num_clips=2))
    assert sheet.height == Image.open(write_contact_sheet(dataset, num_clips=4)).height // 2


def test_landmarks_are_drawn_where_they_are(tmp_path):
    mouth_px = np.full((6, 20, 2), 8, np.float32)
    clip = made_clip("anna_1", mouth_px=mouth_px)
    write_shard(shard_path(tmp_path, "train", 0), ["anna_1"], lambda clip_id: clip)
    write_dataset_info(tmp_path, DatasetInfo(SIZE_PX))
    sheet = np.asarray(Image.open(write_contact_sheet(tmp_path)))
    rows, columns = np.nonzero((sheet == LANDMARK_COLOUR).all(axis=-1))
    # a quarter of the 128 px tile, behind margin and caption; once per frame
    assert set(rows) == {14 + 32} and list(columns) == [4 + 132 * place + 32 for place in range(6)]


def test_a_data_set_whose_clips_were_all_skipped_has_a_report_and_no_sheet(tmp_path):
    made_dataset(tmp_path, ("faceless_1", "faceless_2"))
    assert len(write_report(tmp_path).read_text().splitlines()) == 3
    assert write_statistics(tmp_path)["splits"]["train"]["num_clips"] == 0
    assert write_contact_sheet(tmp_path) is None


def test_an_unfinished_data_set_is_an_error_that_names_the_shard(dataset):
    (dataset / "train-00001.tar").unlink()
    for write in (write_report, write_statistics, write_contact_sheet):
        with pytest.raises(ValueError, match=r"missing or unfinished: .*train-00001.tar"):
            write(dataset)


def test_splits_are_listed_with_training_first(dataset):
    assert splits_of(dataset) == ["train", "test"]


def test_writing_again_gives_the_same_bytes(dataset):
    def written():
        write_statistics(dataset)
        return write_report(dataset).read_bytes(), write_contact_sheet(dataset).read_bytes()

    assert written() == written()
