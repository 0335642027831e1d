import os
from pathlib import Path

import pytest
from moving_clips import NUM_FRAMES, moving_clip
from tiny_clips import eyed_clip, write_tiny_data_set
from tiny_stages import stage_configs

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from training.engine.config import TrainingConfig

MATERIAL = Path(os.environ.get("DAWN_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def head_file() -> Path:
    path = MATERIAL / "ict_face.npz"
    if not path.is_file():
        pytest.skip("no morphable head: set DAWN_DATA to the folder of ict_face.npz")
    return path


@pytest.fixture(scope="session")
def tiny_data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("data") / "clips")


@pytest.fixture(scope="session")
def eyed_data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("eyed") / "clips", 2, make_clip=eyed_clip)


@pytest.fixture(scope="session")
def moving_data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("moving") / "clips", 2, 1, NUM_FRAMES, moving_clip)


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    random_pipeline("tiny").save_pretrained(folder)
    return folder


@pytest.fixture
def configs(tiny_data_set, tiny_pipeline_folder, tmp_path) -> dict[str, TrainingConfig]:
    return stage_configs(tiny_data_set, tiny_pipeline_folder, tmp_path / "out")
