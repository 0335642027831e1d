"""Small prepared clips whose content is known."""

import numpy as np

from training.data.clip_members import SAMPLES_PER_FRAME, PreparedClip
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import ClipSkipped, write_shard

SIZE_PX = 32


def made_clip(clip_id, num_frames=6, identity=None, with_features=True, size_px=SIZE_PX, **extras):
    """Every frame has one colour; red counts the frames in steps of 20."""
    rng = np.random.default_rng(sum(clip_id.encode()))
    frames = np.empty((num_frames, size_px, size_px, 3), np.uint8)
    frames[..., 0] = (20 * np.arange(num_frames) % 256)[:, None, None]
    frames[..., 1:] = rng.integers(0, 256, 2)
    box_px = np.array([0.25, 0.75, 0.2, 0.8]) * size_px
    labels = {
        "pose": rng.normal(size=(num_frames, 6)),
        "blink": rng.uniform(0.1, 0.4, (num_frames, 2)),
        "face_box_px": np.tile(box_px, (num_frames, 1)),
        "mouth_px": rng.uniform(0.4, 0.6, (num_frames, 20, 2)) * size_px,
    }
    labels = {name: values.astype(np.float32) for name, values in labels.items()}
    if with_features:
        labels["audio_features"] = rng.normal(size=(num_frames, 8)).astype(np.float16)
    samples = rng.uniform(-0.9, 0.9, num_frames * SAMPLES_PER_FRAME).astype(np.float32)
    return PreparedClip(
        clip_id, identity or clip_id.split("_")[0], frames, samples, labels | extras, {"source": f"{clip_id}.mp4"}
    )


def made_or_skipped(clip_id):
    if "faceless" in clip_id:
        raise ClipSkipped("no face in any of its 6 frames")
    return made_clip(clip_id)


def made_dataset(folder, clip_ids=("anna_1", "ben_1", "ben_2", "faceless_1"), clips_per_shard=2, split="train"):
    for start in range(0, len(clip_ids), clips_per_shard):
        path = shard_path(folder, split, start // clips_per_shard)
        write_shard(path, clip_ids[start : start + clips_per_shard], made_or_skipped)
    write_dataset_info(folder, DatasetInfo(SIZE_PX, "audio_encoder", 8))
    return folder
