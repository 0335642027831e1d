from pathlib import Path

import pytest
from tiny_clips import eyed_clip, write_tiny_data_set

from diffusers_dawn.random_checkpoint import random_pipeline


@pytest.fixture(scope="session")
def tiny_data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="session")
def eyed_data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("eyed") / "clips", 2, make_clip=eyed_clip)


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    random_pipeline("tiny").save_pretrained(folder)
    return folder
