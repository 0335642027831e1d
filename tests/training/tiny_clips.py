"""Prepared data sets small enough for tests: a disc with a mouth that opens with the sound, at 64 px."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from training.data.clip_members import PreparedClip
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard

AUDIO_DIM = 32


def tiny_clip(clip_id: str, num_frames: int = 30, size: int = 64) -> PreparedClip:
    rng = np.random.default_rng(sum(clip_id.encode()))
    loudness = np.abs(np.sin(np.arange(num_frames) * rng.uniform(0.3, 0.6)))
    samples = np.repeat(loudness, 640) * np.sin(np.arange(640 * num_frames) * 0.2) * 0.5
    column = size / 2 + 4 * np.sin(np.arange(num_frames) * 0.2 + rng.uniform(0, 6))
    colour, background = rng.integers(120, 220, 3), rng.integers(20, 90, 3)
    y, x = np.mgrid[:size, :size]
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    mouths = np.empty((num_frames, 20, 2), np.float32)
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for index in range(num_frames):
        frames[index] = background
        frames[index][(x - column[index]) ** 2 + (y - size / 2) ** 2 < (0.3 * size) ** 2] = colour
        height = 1 + 5 * loudness[index]
        mouth = ((x - column[index]) / 8) ** 2 + ((y - 0.65 * size) / height) ** 2 < 1
        frames[index][mouth] = (90, 20, 30)
        mouths[index] = np.stack((column[index] + 8 * np.cos(angles), 0.65 * size + height * np.sin(angles)), axis=1)
    pose = np.zeros((num_frames, 6), np.float32)
    pose[:, 0], pose[:, 3:] = column - size / 2, (5e-4, 56, 65)
    box = np.stack(
        (column - 0.3 * size, column + 0.3 * size, 0 * column + 0.2 * size, 0 * column + 0.8 * size), axis=1
    )
    features = rng.normal(size=(num_frames, AUDIO_DIM)) * 0.1
    features[:, 0] = loudness
    labels = {
        "pose": pose,
        "blink": np.full((num_frames, 2), 0.3, np.float32)
        + 0.01 * rng.normal(size=(num_frames, 2)).astype(np.float32),
        "face_box_px": box.astype(np.float32),
        "mouth_px": mouths,
        "audio_features": features.astype(np.float16),
    }
    return PreparedClip(clip_id, clip_id.split("-")[0], frames, samples.astype(np.float32), labels)


def eyed_clip(clip_id: str, num_frames: int = 30) -> PreparedClip:
    """Make a clip that knows where the eyes are, as synthetic ones do."""
    clip = tiny_clip(clip_id, num_frames)
    eyes_px = np.array([[20, 28, 24, 30], [36, 44, 24, 29]]) + 0.01 * np.arange(num_frames)[:, None, None]
    return replace(clip, labels=clip.labels | {"eyes_px": eyes_px.astype(np.float32)})


def write_tiny_data_set(
    folder: Path,
    num_clips: int = 6,
    num_test_clips: int = 1,
    num_frames: int = 30,
    make_clip: Callable[[str, int], PreparedClip] = tiny_clip,
) -> Path:
    """Write a data set with its audio encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = random_pipeline("tiny")
    pipe.audio_encoder.save_pretrained(folder / "audio_encoder")
    pipe.feature_extractor.save_pretrained(folder / "audio_encoder")
    write_dataset_info(folder, DatasetInfo(64, "audio_encoder", AUDIO_DIM))
    for split, count in (("train", num_clips), ("test", num_test_clips)):
        names = [f"{split}-{number}" for number in range(count)]
        half = -(-count // 2)
        for shard in range(2 if count > 1 else count):
            part = names[shard * half : (shard + 1) * half]
            write_shard(shard_path(folder, split, shard), part, lambda name: make_clip(name, num_frames))
    return folder
