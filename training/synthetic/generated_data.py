"""Which clips a generated data set has, and how its shards are made."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Waveform
from training.data.clip_members import PreparedClip
from training.data.dataset_info import read_record, write_text_atomically
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard
from training.synthetic.example_inputs import write_portrait, write_speech
from training.synthetic.identity import draw_identity
from training.synthetic.sentences import SPLITS
from training.synthetic.talking_head import IDENTITIES_PER_SEED, identity_seed, make_talking_head

if TYPE_CHECKING:
    from training.data.speech_features import SpeechFeatures

PLAN_NAME = "generator.json"
# of the portrait and the recording to try a pipeline on
EXAMPLE_FRAMES, EXAMPLE_CANDIDATES = 125, 8


@dataclass(frozen=True)
class GeneratorSettings:
    """Everything that the bytes of a generated data set depend on.

    Attributes:
        num_clips: Clips for training.
        num_identities: Persons in them.
        test_clips: Clips for testing.
        test_identities: Other persons in those.
        size_px: Width and height of the frames.
        num_frames: Length of every clip, at 25 frames per second.
        seed: Another seed gives other persons who say other sentences.
        clips_per_shard: Clips in one tar file.
        augment_audio: Whether the sound is made worse.
        flow_stride: Store the optical flow of every N-th pixel; 0 stores none.
        audio_encoder: Name of the encoder of the audio features, as the data set stores it; None stores none.
    """

    num_clips: int
    num_identities: int
    test_clips: int
    test_identities: int
    size_px: int
    num_frames: int
    seed: int = 0
    clips_per_shard: int = 50
    augment_audio: bool = False
    flow_stride: int = 0
    audio_encoder: str | None = None


@dataclass(frozen=True)
class PlannedClip:
    """One clip to be made.

    Attributes:
        clip_id: Its name.
        split: "train" or "test".
        identity_seed: Who.
        clip_seed: What is said, and how the head moves.
    """

    clip_id: str
    split: str
    identity_seed: int
    clip_seed: int


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be written.

    Attributes:
        path: Its tar file.
        clips: Its clips, in order.
    """

    path: Path
    clips: tuple[PlannedClip, ...]


def check_settings(settings: GeneratorSettings) -> None:
    """Refuse what cannot be made.

    Args:
        settings: The settings.

    Raises:
        ValueError: A number is out of its range.
    """
    most = IDENTITIES_PER_SEED - 1
    for name, lowest, highest in (
        ("num_clips", 1, 10**7),
        ("num_identities", 1, min(settings.num_clips, most)),
        ("test_clips", 0, 10**7),
        ("test_identities", 1 if settings.test_clips else 0, min(settings.test_clips, most - 1)),
        ("size_px", 32, 1024),
        ("num_frames", 1, 10 * 60 * FPS),
        ("seed", 0, most),
        ("clips_per_shard", 1, 10**5),
        ("flow_stride", 0, settings.size_px),
    ):
        given = getattr(settings, name)
        if not lowest <= given <= highest:
            raise ValueError(f"`{name}` is {given}, must be from {lowest} to {highest}")
    if settings.size_px % 2:
        raise ValueError(f"`size_px` is {settings.size_px}, must be even")
    if settings.flow_stride and settings.size_px % settings.flow_stride:
        raise ValueError(f"`flow_stride` is {settings.flow_stride}, must divide `size_px` ({settings.size_px})")


def plan_shards(folder: Path, settings: GeneratorSettings) -> list[PlannedShard]:
    """List the shards of a data set.

    Persons take turns, so that every stretch of the data set shows as many as it can.

    Args:
        folder: The data set's folder.
        settings: The settings.

    Returns:
        Training's shards, then testing's.
    """
    shards = []
    for split, num_clips, num_identities in (
        ("train", settings.num_clips, settings.num_identities),
        ("test", settings.test_clips, settings.test_identities),
    ):
        clips = [_plan_clip(number, split, number % num_identities, settings.seed) for number in range(num_clips)]
        for index, start in enumerate(range(0, num_clips, settings.clips_per_shard)):
            of_shard = tuple(clips[start : start + settings.clips_per_shard])
            shards.append(PlannedShard(shard_path(folder, split, index), of_shard))
    return shards


def begin(folder: Path, settings: GeneratorSettings) -> None:
    """Record a data set's settings, and refuse to continue with others.

    Args:
        folder: The data set's folder; made if it does not exist.
        settings: The settings.

    Raises:
        ValueError: The folder was begun with other settings, holds another data set, or cannot be filled.
    """
    check_folder(folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / PLAN_NAME, asdict(settings)
    if not path.exists():
        if any(folder.glob("*.jsonl")) or (folder / "dataset.json").exists():
            raise ValueError(f"`output`: {folder} holds a data set that was made otherwise; choose a new folder")
        write_text_atomically(path, json.dumps(wanted, indent=2) + "\n")
        return
    begun = read_record(path, "output", dict)
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise ValueError(
                f"`{name}` is {value!r}, but {folder} was started with {begun.get(name)!r}; choose a new folder, or "
                "the same value to continue"
            )


def make_shard(
    shard: PlannedShard,
    settings: GeneratorSettings,
    features: "SpeechFeatures | None" = None,
    on_clip: Callable[[], None] | None = None,
) -> None:
    """Write a shard, or what an earlier run left of it.

    Args:
        shard: Which.
        settings: The settings.
        features: Computes the audio features; None stores none.
        on_clip: Called after every clip that was made.

    Raises:
        ValueError: As for `shard_writing.write_shard`.
        ImportError: A package of the extra `synthetic` is missing.
    """
    planned = {clip.clip_id: clip for clip in shard.clips}

    def make_clip(clip_id: str) -> PreparedClip:
        clip = _make_clip(planned[clip_id], settings, features)
        if on_clip is not None:
            on_clip()
        return clip

    write_shard(shard.path, list(planned), make_clip)


def write_example(folder: Path, settings: GeneratorSettings) -> None:
    """Write portraits and a recording to try a trained pipeline on.

    known_portrait.png shows a person of the training, the one whose mouth a beard hides least among the first few;
    portrait.png somebody that neither split has; speech.wav has sentences of the test split.

    Args:
        folder: The data set's folder.
        settings: The settings.
    """
    stranger = identity_seed(settings.test_identities, "test", settings.seed)
    first_few = range(min(settings.num_identities, EXAMPLE_CANDIDATES))
    known = [identity_seed(index, "train", settings.seed) for index in first_few]
    barest = min(known, key=lambda seed: sum(draw_identity(seed).beard[:3]))
    write_portrait(folder / "known_portrait.png", barest)
    write_portrait(folder / "portrait.png", stranger)
    write_speech(folder / "speech.wav", stranger, EXAMPLE_FRAMES)


def _plan_clip(number: int, split: str, identity: int, seed: int) -> PlannedClip:
    # any two clips differ in one of the three
    clip_seed = np.random.SeedSequence((seed, SPLITS.index(split), number)).generate_state(1, np.uint64)[0]
    return PlannedClip(
        clip_id=f"synthetic-{split}-{number:06d}",
        split=split,
        identity_seed=identity_seed(identity, split, seed),
        clip_seed=int(clip_seed),
    )


def _make_clip(planned: PlannedClip, settings: GeneratorSettings, features: "SpeechFeatures | None") -> PreparedClip:
    clip = make_talking_head(
        identity_seed=planned.identity_seed,
        clip_seed=planned.clip_seed,
        split=planned.split,
        size_px=settings.size_px,
        num_frames=settings.num_frames,
        clip_id=planned.clip_id,
        augment_audio=settings.augment_audio,
        flow_stride=settings.flow_stride,
    )
    if features is not None:
        clip.labels["audio_features"] = features(Waveform(clip.samples, SAMPLE_RATE_HZ), settings.num_frames)
    return clip
