import re

import pytest

from diffusers_dawn.checkpoint_folder import check_new_folder, save_new
from diffusers_dawn.random_checkpoint import random_pipeline


def test_new_and_empty_folders_are_taken(tmp_path):
    assert check_new_folder(tmp_path / "new") == tmp_path / "new"
    assert check_new_folder(tmp_path) == tmp_path
    assert not (tmp_path / "new").exists()


def test_folders_with_content_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"`there` {re.escape(str(tmp_path))} is not empty"):
        check_new_folder(tmp_path, "there")


def test_files_are_refused_as_folders(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`output` .* is a file"):
        check_new_folder(tmp_path / "file")


def test_folders_without_parent_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`output` lies in a folder that does not exist"):
        check_new_folder(tmp_path / "a" / "b")


def test_failing_save_leaves_nothing(tmp_path):
    broken = random_pipeline("tiny")
    # weights without storage cannot be written
    broken.lfg.to("meta")
    with pytest.raises((NotImplementedError, RuntimeError, ValueError)):
        save_new(broken, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_empty_folder_is_filled(tmp_path):
    save_new(random_pipeline("tiny"), tmp_path)
    assert (tmp_path / "model_index.json").is_file()


def test_folder_that_holds_something_stays_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        save_new(random_pipeline("tiny"), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
