import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.sharing.checkpoint_folder import check_complete, check_new_folder, save_new


def test_new_and_empty_folders_are_taken(tmp_path):
    check_new_folder(tmp_path / "new")
    check_new_folder(tmp_path)
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
    with pytest.raises(OSError):
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


class Quantised(nn.Linear):
    """A layer that saves a scale which no file has, as those of bitsandbytes do."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight.absmax"] = torch.ones(1)


@pytest.fixture
def saved_linear(tmp_path):
    (tmp_path / "unet").mkdir()
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "unet" / "model.safetensors")
    return tmp_path


def test_what_quantised_layers_add_need_not_be_in_the_file(saved_linear):
    check_complete(saved_linear, {"unet": Quantised(3, 2)})


@pytest.mark.parametrize("add", [nn.Module.register_parameter, nn.Module.register_buffer])
def test_parameters_and_buffers_must_be_in_the_file(saved_linear, add):
    part = Quantised(3, 2)
    add(part, "gain", nn.Parameter(torch.ones(2)))
    with pytest.raises(ValueError, match="weights of `unet` lack 1 tensors: gain"):
        check_complete(saved_linear, {"unet": part})


def test_buffers_that_a_quantiser_adds_need_not_be_in_the_file(saved_linear):
    part = nn.Linear(3, 2)
    part.register_buffer("input_scale", torch.ones(1))
    part.hf_quantizer = object()  # as diffusers and transformers leave it there
    check_complete(saved_linear, {"unet": part})
    part.register_parameter("gain", nn.Parameter(torch.ones(2)))
    with pytest.raises(ValueError, match="weights of `unet` lack 1 tensors: gain"):
        check_complete(saved_linear, {"unet": part})


def test_buffers_that_are_never_saved_may_be_missing(saved_linear):
    part = nn.Linear(3, 2)
    part.register_buffer("table", torch.ones(2), persistent=False)
    check_complete(saved_linear, {"unet": part})
