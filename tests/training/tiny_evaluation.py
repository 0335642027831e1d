"""Evaluations small enough for tests."""

from collections.abc import Callable
from pathlib import Path

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.data.clip_members import PreparedClip
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard
from training.evaluation.settings import EvaluationSettings

SHORT = EvaluationSettings(
    num_clips=2, clip_seconds=0.6, long_seconds=1.2, num_inference_steps=1, num_videos=0, quiet=True
)


def quiet_pipeline(full: bool = True) -> DAWNPipeline:
    pipe = random_pipeline("tiny", full=full)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_test_split(folder: Path, make_clip: Callable[[str], PreparedClip], info: DatasetInfo) -> Path:
    folder.mkdir()
    write_dataset_info(folder, info)
    write_shard(shard_path(folder, "test", 0), ["test-0", "test-1"], make_clip)
    return folder
