"""Compute an encoder's speech features for a prepared data set, which may have another encoder's already.

    python training/add_speech_features.py --dataset DATA --audio_encoder runs/audio_encoder

Pictures and labels stay as they are; the features are written beside the shards. The same command goes on after a
stop.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence
from dataclasses import replace

from tqdm.auto import tqdm

from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.data.clip_plan import SPLITS
from training.data.clip_shards import ClipShards
from training.data.dataset_info import read_dataset_info, replace_dataset_info
from training.data.features_beside import features_path, remove_other_features, write_features
from training.data.shard_journal import finished_shards
from training.data.speech_features import SpeechFeatures, stored_encoder_name
from training.engine import commands
from training.engine.processes import device_of_process


def add_features(folder: Path, audio_encoder: str, device: str | None = None) -> None:
    """Compute the features of all clips of a data set; see `add_speech_features.py --help`.

    Args:
        folder: The data set's folder.
        audio_encoder: Folder or Hub id of the encoder, see `speech_features.load_speech_encoder`.
        device: Where it runs; None: a GPU if there is one.

    Raises:
        ValueError: There is no such data set or encoder.
    """
    info = read_dataset_info(folder)
    name = stored_encoder_name(audio_encoder, folder)
    features = SpeechFeatures(audio_encoder, device_of_process(device, 0))
    written = set()
    for split in SPLITS:
        if not finished_shards(folder, split):
            continue
        clips = ClipShards(folder, split)
        for shard in tqdm(sorted({entry.shard for entry in clips.entries}), desc=split, unit="shard"):
            path = features_path(folder / shard, name)
            written.add(path)
            if path.is_file():
                continue
            of_shard = [(index, entry) for index, entry in enumerate(clips.entries) if entry.shard == shard]
            found = {
                entry.clip_id: features(Waveform(clips.read_samples(index), SAMPLE_RATE_HZ), entry.num_frames)
                for index, entry in of_shard
            }
            write_features(path, found)
    replace_dataset_info(folder, replace(info, audio_encoder=name, audio_dim=features.dim))
    remove_other_features(folder, written)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description="Give a prepared data set the speech features of an encoder.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--audio_encoder", required=True, help="folder or Hub id of a HuBERT, or folder of a pipeline")
    parser.add_argument("--device", help="where the encoder runs (default: a GPU if there is one)")
    options = parser.parse_args(arguments)
    return commands.run(
        "add_speech_features", lambda: add_features(options.dataset, options.audio_encoder, options.device)
    )


if __name__ == "__main__":
    commands.program(main)
