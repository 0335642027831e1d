r"""Compare speech encoders on people who were not trained on, and print the figures.

    python training/measure_audio_encoder.py --audio_encoder runs/audio_encoder dawn-128 \
        --aligned_speech labels/speech labels/grid --held_out_speakers 61 908 s2 --dataset grid-128

Phonemes are read by a linear layer, from recordings of `align_speech.py`; the lips, with `--dataset`, by a small
temporal convolution, from a prepared data set whose test split has other people. 40 log-mel bands stand beside. With
the lips it is told by how much each person's sound is off: leave out films whose sound is.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence

import numpy as np

from training.data.clip_shards import ClipShards
from training.data.mouth import mouth_opening
from training.engine import commands
from training.evaluation.speech_probes import (
    LipTrack,
    as_table,
    features_by_name,
    lip_lags,
    probe_lips,
    probe_phonemes,
)
from training.synthetic.voice.aligned_recording import AlignedRecording
from training.synthetic.voice.real_voices import RealVoices

# chosen evenly over the speakers
MAX_TRAIN_RECORDINGS, MAX_TEST_RECORDINGS = 120, 60
# people with many clips must not decide alone
MAX_CLIPS_PER_PERSON = 25
LIP_CORNERS = (0, 6)


def measure(options: argparse.Namespace) -> str:
    """Measure the encoders.

    Args:
        options: The parsed options.

    Returns:
        Tables.

    Raises:
        ValueError: An option does not fit, or something cannot be read.
    """
    compared = features_by_name(options.audio_encoder)
    parts = []
    voices = RealVoices(options.aligned_speech, options.held_out_speakers)
    train, test = _spread(voices.train, MAX_TRAIN_RECORDINGS), _spread(voices.test, MAX_TEST_RECORDINGS)
    if not test:
        raise ValueError("`held_out_speakers` is empty, must name speakers of `aligned_speech`")
    phonemes = {name: probe_phonemes(hear, train, test) for name, hear in compared.items()}
    parts.append(f"Phonemes: {len(test)} recordings of {len({one.speaker for one in test})} held-out speakers\n")
    parts.append(as_table(phonemes))
    if options.dataset is not None:
        lips_train, lips_test = (_lip_tracks(options.dataset, split) for split in ("train", "test"))
        lips = {name: probe_lips(hear, lips_train, lips_test) for name, hear in compared.items()}
        parts.append(f"\nLips: {len(lips_test)} clips of people held out, {len(lips_train)} to learn from\n")
        parts.append(as_table(lips))
        lags = lip_lags(compared[options.audio_encoder[0]], [*lips_train, *lips_test])
        parts.append(f"\nLips after the sound [frames], told by {options.audio_encoder[0]} from other people's\n")
        parts.append(as_table({person: {"lag": lag, "r": r} for person, (lag, r) in sorted(lags.items())}))
    return "\n".join(parts)


def _spread(recordings: Sequence[AlignedRecording], count: int) -> list[AlignedRecording]:
    """Choose recordings evenly over the list, which is sorted by speaker."""
    chosen = np.unique(np.linspace(0, len(recordings) - 1, min(count, len(recordings))).round().astype(int))
    return [recordings[index] for index in chosen]


def _lip_tracks(dataset: Path, split: str) -> list[LipTrack]:
    shards, tracks, seen = ClipShards(dataset, split), [], {}
    for index, entry in enumerate(shards.entries):
        seen[entry.identity] = seen.get(entry.identity, 0) + 1
        if seen[entry.identity] > MAX_CLIPS_PER_PERSON:
            continue
        labels = shards.read_labels(index, ("mouth_px", "face_box_px"))
        mouth_px, box_px = labels["mouth_px"], labels["face_box_px"]
        opening = mouth_opening(mouth_px, box_px).numpy()
        corners_px = mouth_px[:, LIP_CORNERS]
        width = np.linalg.norm(corners_px[:, 0] - corners_px[:, 1], axis=-1) / (box_px[:, 3] - box_px[:, 2])
        lips = np.stack((opening, width), axis=1).astype(np.float32)
        tracks.append(LipTrack(shards.read_samples(index), lips, entry.identity))
    if len(tracks) < 2:
        raise ValueError(f"`dataset` has {len(tracks)} clip(s) in its {split} split, must have 2 at least")
    return tracks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--audio_encoder", nargs="+", required=True, help="folders or Hub ids of encoders")
    parser.add_argument("--aligned_speech", nargs="+", required=True, help="folders of align_speech.py's results")
    parser.add_argument("--held_out_speakers", nargs="+", required=True, help="speakers to measure on")
    parser.add_argument("--dataset", type=Path, help="prepared data set of filmed people, to measure lip reading")
    options = parser.parse_args(arguments)
    return commands.run("measure_audio_encoder", lambda: print(measure(options)), after_interrupt="nothing is kept")


if __name__ == "__main__":
    commands.program(main)
