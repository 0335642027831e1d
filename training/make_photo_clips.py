r"""Make portraits speak: a prepared data set of photo puppets, with exact motion and visibility.

    python training/make_photo_clips.py --portraits PORTRAITS --morphable_head HEAD.npz --output photos \
        --aligned_speech labels/speech --filmed_clips filmed --num_clips 1000 --test_clips 40 --num_processes 2

A morphable head is fitted to every portrait; it moves head, lids, jaw and lips by recorded, filmed or synthesized
speech. The same command goes on after a kill. Show clips only of people who agreed to be animated.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from tqdm.auto import tqdm

from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Waveform
from training.data.clip_members import PreparedClip
from training.data.clip_plan import SPLITS, identities_by_share, identities_in_list, read_names
from training.data.dataset_info import DatasetInfo, read_record, write_dataset_info, write_text_atomically
from training.data.prepared_report import write_contact_sheet, write_report, write_statistics
from training.data.shard_journal import read_journal, shard_path
from training.data.shard_writing import write_shard
from training.data.speech_features import SpeechFeatures, stored_encoder_name
from training.engine import commands
from training.engine.child_processes import run_workers
from training.synthetic.generated_data import begin
from training.synthetic.puppets.photo_data import PhotoSettings, PuppetClips, check_photo_settings
from training.synthetic.puppets.portraits import ListedPortrait, list_portraits
from training.synthetic.voice.real_voices import RealVoices

PACKAGES = ("espeakng_loader", "numba", "mediapipe")
PORTRAITS_NAME, REFUSED_NAME = "portraits.json", "refused_portraits.json"
# the portraits of the test split, for `evaluate.py --portraits`
HELD_OUT_NAME = "test_portraits.txt"


@dataclass(frozen=True)
class PhotoShard:
    """One shard to be written.

    Attributes:
        path: Its tar file.
        split: "train" or "test".
        clip_ids: Its clips, in order.
    """

    path: Path
    split: str
    clip_ids: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    return commands.run("make_photo_clips", lambda: make_clips(options), debug=options.debug)


def make_clips(options: argparse.Namespace) -> None:
    """Make the data set; see `make_photo_clips.py --help`.

    Args:
        options: The parsed options.

    Raises:
        ValueError: An option is out of range, contradicts an earlier run, or an input cannot be read.
        ImportError: A package of the extras `synthetic` and `face` is missing.
    """
    settings = _settings(options)
    begin(options.output, settings)
    portraits = _portraits(options)
    shards = _plan(options.output, settings)
    total = sum(len(shard.clip_ids) for shard in shards)
    work = partial(_work, settings=settings, options=options, portraits=portraits)
    with tqdm(total=total, initial=_num_done(shards), desc="clips", unit="clip", disable=options.quiet) as progress:
        if options.num_processes == 1:
            work(0, shards, on_clip=progress.update)
        else:
            parts = [
                shards[index :: options.num_processes] for index in range(min(options.num_processes, len(shards)))
            ]
            run_workers(work, parts, lambda: progress.update(_num_done(shards) - progress.n))
    info = DatasetInfo(settings.size_px, exact_pose=True)
    if settings.audio_encoder is not None:
        info = replace(info, audio_encoder=settings.audio_encoder, audio_dim=SpeechFeatures(options.audio_encoder).dim)
    write_dataset_info(options.output, info)
    write_report(options.output)
    statistics = write_statistics(options.output)
    sheet = write_contact_sheet(options.output)
    for split, numbers in statistics["splits"].items():
        print(
            f"{split}: {numbers['num_clips']} clips of {numbers['num_identities']} people, "
            f"{sum(numbers['skipped'].values())} skipped"
        )
    print(f"wrote {options.output}: look at {sheet.name}")


def _portraits(options: argparse.Namespace) -> dict[str, list[ListedPortrait]]:
    """Portraits by split: as an earlier run listed them, or listed now."""
    path = options.output / PORTRAITS_NAME
    if not path.is_file():
        pattern = None if options.identity_pattern is None else re.compile(options.identity_pattern)
        with (
            MediaPipeFaceDetector(max_num_faces=1) as detector,
            tqdm(desc="portraits", disable=options.quiet) as progress,
        ):
            found, refused = list_portraits(options.portraits, detector, pattern, progress.update)
        write_text_atomically(options.output / REFUSED_NAME, json.dumps(refused, indent=1) + "\n")
        write_text_atomically(path, json.dumps([asdict(portrait) for portrait in found], indent=1) + "\n")
    listed = read_record(path, "output", lambda entries: [ListedPortrait(**entry) for entry in entries])
    test = _test_identities({portrait.path: portrait.identity for portrait in listed}, options)
    by_split = {
        split: [portrait for portrait in listed if (portrait.identity in test) == (split == "test")]
        for split in SPLITS
    }
    held_out = (os.path.relpath(options.portraits / portrait.path, options.output) for portrait in by_split["test"])
    write_text_atomically(options.output / HELD_OUT_NAME, "".join(f"{path}\n" for path in held_out))
    return by_split


def _test_identities(identities: dict[str, str], options: argparse.Namespace) -> set[str]:
    if options.test_split is None:
        return identities_by_share(list(identities.values()), options.test_share, options.seed)
    test, unknown = identities_in_list(identities, read_names(options.test_split))
    if unknown:
        print(
            f"make_photo_clips: warning: `test_split` names {len(unknown)} that are no person and no portrait here: "
            f"{', '.join(unknown[:5])}",
            file=sys.stderr,
        )
    if test == set(identities.values()):
        raise ValueError("`test_split` names everyone, must leave at least one person to train on")
    return test


def _plan(folder: Path, settings: PhotoSettings) -> list[PhotoShard]:
    shards = []
    for split, count in (("train", settings.num_clips), ("test", settings.test_clips)):
        names = [f"photo-{split}-{number:06d}" for number in range(count)]
        for index, start in enumerate(range(0, count, settings.clips_per_shard)):
            of_shard = tuple(names[start : start + settings.clips_per_shard])
            shards.append(PhotoShard(shard_path(folder, split, index), split, of_shard))
    return shards


def _work(
    index: int,
    shards: Sequence[PhotoShard],
    settings: PhotoSettings,
    options: argparse.Namespace,
    portraits: dict[str, list[ListedPortrait]],
    on_clip: Callable[[], object] | None = None,
) -> None:
    import cv2

    # the workers share the cores: one thread each
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    features = None if settings.audio_encoder is None else SpeechFeatures(options.audio_encoder)
    makers: dict[str, PuppetClips] = {}

    def make(clip_id: str, split: str) -> PreparedClip:
        if split not in makers:
            inputs = (options.portraits, portraits[split], options.morphable_head)
            makers[split] = PuppetClips(settings, split, *inputs)
        clip = makers[split](clip_id)
        if features is not None:
            clip.labels["audio_features"] = features(Waveform(clip.samples, SAMPLE_RATE_HZ), settings.num_frames)
        if on_clip is not None:
            on_clip()
        return clip

    for shard in shards:
        write_shard(shard.path, shard.clip_ids, partial(make, split=shard.split))


def _num_done(shards: Sequence[PhotoShard]) -> int:
    return sum(len(read_journal(shard.path)) for shard in shards)


def _settings(options: argparse.Namespace) -> PhotoSettings:
    if options.num_processes < 1:
        raise ValueError(f"`num_processes` is {options.num_processes}, must be positive")
    if options.test_split is not None and not options.test_split.is_file():
        raise ValueError(f"`test_split` is no file: {options.test_split}")
    if not options.portraits.is_dir():
        raise ValueError(f"`portraits` is no folder: {options.portraits}")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} is missing: pip install diffusers_dawn[synthetic,face]")
    if options.held_out_speakers is not None:
        if options.aligned_speech is None:
            raise ValueError("`held_out_speakers` is given without `aligned_speech`, whose speakers they are")
        RealVoices([str(options.aligned_speech)], options.held_out_speakers)  # refuses those that are not there
    encoder = options.audio_encoder
    settings = PhotoSettings(
        num_clips=options.num_clips,
        test_clips=options.test_clips,
        test_share=options.test_share,
        test_split=None if options.test_split is None else read_names(options.test_split),
        size_px=options.size,
        num_frames=round(options.seconds * FPS),
        num_references=options.motion_references,
        seed=options.seed,
        clips_per_shard=options.clips_per_shard,
        morphable_head=options.morphable_head.name,
        aligned_speech=None if options.aligned_speech is None else str(options.aligned_speech),
        held_out_speakers=options.held_out_speakers,
        filmed_clips=None if options.filmed_clips is None else str(options.filmed_clips),
        identity_pattern=options.identity_pattern,
        audio_encoder=None if encoder == "none" else stored_encoder_name(encoder, options.output),
    )
    check_photo_settings(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make portraits speak: a prepared data set of photo puppets.")
    add = parser.add_argument
    add("--portraits", type=Path, required=True, help="folder of portraits, searched with its sub-folders")
    add("--morphable_head", type=Path, required=True, metavar="HEAD.npz", help="see pack_morphable_head.py")
    add("--output", type=Path, required=True, help="folder of the data set; an unfinished one is continued")
    add("--num_clips", type=int, default=1000, help="clips for training (default: 1000)")
    add("--test_clips", type=int, default=20, help="clips for testing (default: 20)")
    test = parser.add_mutually_exclusive_group()
    test.add_argument(
        "--test_share", type=float, default=0.1, help="share of people who are used only for testing (default: 0.1)"
    )
    test.add_argument("--test_split", type=Path, help="people or portraits for testing, one per line")
    add("--size", type=int, default=256, help="width and height of the frames (default: 256)")
    add("--seconds", type=float, default=2, help="length of every clip (default: 2)")
    add("--motion_references", type=int, default=2, help="frames from which motion is measured (default: 2)")
    add("--seed", type=int, default=0, help="seed of people and words (default: 0)")
    add("--aligned_speech", type=Path, help="output folder of align_speech.py; the portraits say its recordings")
    add(
        "--held_out_speakers",
        nargs="+",
        help="speakers of --aligned_speech who are heard only in the test split (default: one of ten)",
    )
    add(
        "--filmed_clips",
        type=Path,
        help="data set of prepare_clips.py --morphable_head; the portraits take its lips and sound",
    )
    add(
        "--identity_pattern",
        help="regular expression whose first group is the person's identity (default: all pictures differ)",
    )
    add("--audio_encoder", default="none", help="as for prepare_clips.py (default: none)")
    add("--clips_per_shard", type=int, default=20, help="clips in one tar file (default: 20)")
    add("--num_processes", type=int, default=1, help="workers on this machine (default: 1)")
    add("--quiet", action="store_true", help="show no progress bar")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    commands.program(main)
