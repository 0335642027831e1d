"""What only a generated data set can tell about itself: synthetic_statistics.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from diffusers_dawn.records import FPS
from training.data.clip_shards import ClipShards
from training.data.dataset_info import write_text_atomically
from training.data.prepared_report import splits_of
from training.synthetic.head_motion import speech_energy
from training.synthetic.phonemes import PHONEME_CLASSES

STATISTICS_NAME = "synthetic_statistics.json"
LABELS = ("pose", "blink", "mouth_opening", "phonemes")
# lids are closed below this share of the clip's usual openness
CLOSED_SHARE = 0.5


def write_speech_statistics(folder: Path) -> dict[str, Any]:
    """Measure speech, blinks and poses of a generated data set.

    Args:
        folder: The data set's folder.

    Returns:
        What was written, by split: `num_clips`, `duration_s`, `blinks_per_s`, `yaw_deg`, `pitch_deg` and `roll_deg`
        (5th and 95th percentile), `mouth_opening` (mean, 95th percentile), `mouth_speech_correlation` (mean over the
        clips of the correlation between mouth opening and loudness), `num_sentences`, and `phonemes` (share of each
        class in the time).

    Raises:
        ValueError: The data set is missing, unfinished or damaged.
    """
    statistics = {split: _statistics_of(ClipShards(folder, split)) for split in splits_of(folder)}
    write_text_atomically(folder / STATISTICS_NAME, json.dumps(statistics, indent=2) + "\n")
    return statistics


def count_blinks(openness: np.ndarray) -> int:
    """Count how often the lids close.

    Args:
        openness: Array (F,): openness of one eye or of both on average.

    Returns:
        Number of blinks, also those that the clip begins or ends in.
    """
    is_closed = openness < CLOSED_SHARE * np.median(openness)
    return int(is_closed[0]) + int(np.sum(is_closed[1:] & ~is_closed[:-1]))


def _statistics_of(shards: ClipShards) -> dict[str, Any]:
    poses, openings, correlations = [], [], []
    phonemes = np.zeros(len(PHONEME_CLASSES), int)
    num_blinks = num_sentences = 0
    for index in range(len(shards)):
        labels = shards.read_labels(index, LABELS)
        energy = speech_energy(shards.read_samples(index), len(labels["pose"]))
        num_blinks += count_blinks(labels["blink"].mean(axis=1))
        num_sentences += len(shards.read_info(index)["sentences"])
        phonemes += np.bincount(labels["phonemes"], minlength=len(phonemes))
        poses.append(labels["pose"])
        openings.append(labels["mouth_opening"])
        # a clip too short to hold a word has neither
        if openings[-1].std() > 0 and energy.std() > 0:
            correlations.append(np.corrcoef(openings[-1], energy)[0, 1])
    pose, opening = np.concatenate(poses), np.concatenate(openings)
    duration_s = len(pose) / FPS
    angles = {
        name: np.percentile(pose[:, column], (5, 95)).round(2).tolist()
        for column, name in enumerate(("yaw_deg", "pitch_deg", "roll_deg"))
    }
    return {
        "num_clips": len(shards),
        "duration_s": round(duration_s, 2),
        "blinks_per_s": round(num_blinks / duration_s, 3),
        **angles,
        "mouth_opening": [round(float(opening.mean()), 4), round(float(np.percentile(opening, 95)), 4)],
        "mouth_speech_correlation": round(float(np.mean(correlations)), 3) if correlations else None,
        "num_sentences": num_sentences,
        "phonemes": {
            phoneme_class.name: round(float(share), 5)
            for phoneme_class, share in zip(PHONEME_CLASSES, phonemes / phonemes.sum(), strict=True)
        },
    }
