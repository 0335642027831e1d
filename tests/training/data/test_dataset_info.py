import dataclasses
import json

import pytest

from training.data.dataset_info import DatasetInfo, read_dataset_info, write_dataset_info


def test_dataset_info_comes_back_as_it_was_written(tmp_path):
    for info in (DatasetInfo(128), DatasetInfo(256, "facebook/hubert-large-ls960-ft", 1024)):
        (tmp_path / "dataset.json").unlink(missing_ok=True)
        write_dataset_info(tmp_path, info)
        write_dataset_info(tmp_path, info)
        assert read_dataset_info(tmp_path) == info


def test_another_data_sets_folder_is_refused(tmp_path):
    write_dataset_info(tmp_path, DatasetInfo(128))
    with pytest.raises(ValueError, match=r"`folder` holds another data set already, see .*dataset.json"):
        write_dataset_info(tmp_path, DatasetInfo(256))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, must have 1"),
        ({"size_px": "128"}, "entries that are unknown or of another kind"),
        ({"audio_dim": 0}, "entries that are unknown or of another kind"),
        ({"audio_encoder": 7}, "entries that are unknown or of another kind"),
        ({"exact_pose": 1}, "entries that are unknown or of another kind"),
        ({"colour": "red"}, "entries that are unknown or of another kind"),
    ],
)
def test_dataset_info_of_another_kind_is_refused(tmp_path, changes, message):
    (tmp_path / "dataset.json").write_text(json.dumps(dataclasses.asdict(DatasetInfo(128)) | changes))
    with pytest.raises(ValueError, match=message):
        read_dataset_info(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "7", "{}", "[" * 10**5, "9" * 5000, '{"size_px": {}, "fps": ' + "[" * 10**5]
)
def test_a_dataset_info_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset.json cannot be understood"):
        read_dataset_info(tmp_path)
