"""Which clips a data set of photo puppets has, and how each is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diffusers_dawn.face.crop import prepare_portrait
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.face.person import PersonSegmenter
from diffusers_dawn.records import FPS
from training.data.clip_members import PreparedClip
from training.data.clip_plan import SPLITS
from training.data.clip_shards import ClipShards
from training.data.shard_writing import ClipSkipped
from training.synthetic.head_motion import head_states, speech_energy
from training.synthetic.puppets.driving_speech import (
    FilmedSpeech,
    RecordedSpeech,
    SpeechSource,
    SynthesizedSpeech,
)
from training.synthetic.puppets.head_fit import HeadFitter
from training.synthetic.puppets.morphable_head import load_morphable_head
from training.synthetic.puppets.portraits import ListedPortrait, draw_portrait, make_worse
from training.synthetic.puppets.puppet import PortraitRefused, Puppet
from training.synthetic.puppets.puppet_clip import make_puppet_clip

SEED_LIMIT = 2**32
# how often each kind of speech is taken, where it is given
RECORDED, FILMED, SYNTHESIZED = 0.5, 0.35, 0.15
# unless held-out speakers are named, one of so many speaks in testing only
SPEAKERS_PER_HELD_OUT = 10
# most mouths close to speak; the others speak from what the portrait shows, as a laughing face does
CLOSING_SHARE = 0.8
MIRRORED_SHARE = 0.5
# heads turn and lean more than those who only speak, so that a pose that somebody asks for is known too
LIVELINESS = (1.0, 2.5)


@dataclass(frozen=True)
class PhotoSettings:
    """Everything that the bytes of a data set of photo puppets depend on, besides its inputs' content.

    Attributes:
        num_clips: Clips for training.
        test_clips: Clips for testing.
        test_share: Share of the people who are seen in testing only.
        test_split: Their names, or those of their portraits, instead of a share; None: a share.
        size_px: Width and height of the frames.
        num_frames: Length of every clip, at 25 frames per second.
        num_references: Frames of every clip that motion is measured from.
        seed: Another seed gives other people other words.
        clips_per_shard: Clips in one tar file.
        morphable_head: Name of the head's file.
        aligned_speech: Folder of aligned recordings; None: there are none.
        held_out_speakers: Speakers of the aligned recordings who are heard in testing only; None: one of ten.
        filmed_clips: Prepared clips whose lips and sound are taken; None: there are none.
        identity_pattern: How a picture's name says who it shows; None: every picture shows somebody else.
        audio_encoder: Name of the encoder of the audio features, as the data set stores it; None stores none.
    """

    num_clips: int
    test_clips: int
    test_share: float
    size_px: int
    num_frames: int
    num_references: int = 2
    seed: int = 0
    clips_per_shard: int = 20
    morphable_head: str = ""
    aligned_speech: str | None = None
    held_out_speakers: list[str] | None = None
    filmed_clips: str | None = None
    identity_pattern: str | None = None
    audio_encoder: str | None = None
    test_split: list[str] | None = None


def check_photo_settings(settings: PhotoSettings) -> None:
    """Refuse what cannot be made.

    Args:
        settings: The settings.

    Raises:
        ValueError: A number is out of its range.
    """
    for name, lowest, highest in (
        ("num_clips", 1, 10**7),
        ("test_clips", 0, 10**7),
        ("size_px", 64, 1024),
        ("num_frames", 2, 10 * 60 * FPS),
        ("num_references", 1, settings.num_frames),
        ("seed", 0, SEED_LIMIT - 1),
        ("clips_per_shard", 1, 10**5),
    ):
        given = getattr(settings, name)
        if not lowest <= given <= highest:
            raise ValueError(f"`{name}` is {given}, must be {lowest} to {highest}")
    if settings.size_px % 8:
        raise ValueError(f"`size_px` is {settings.size_px}, must be a multiple of 8")
    if not 0 <= settings.test_share < 1:
        raise ValueError(f"`test_share` is {settings.test_share}, must be in [0, 1)")


class PuppetClips:
    """Make the clips of a split.

    Args:
        settings: The settings.
        split: "train" or "test".
        folder: Folder of the portraits.
        portraits: Those of the split.
        morphable_head: The head's file.

    Raises:
        ValueError: An input cannot be read.
    """

    def __init__(
        self,
        settings: PhotoSettings,
        split: str,
        folder: Path,
        portraits: Sequence[ListedPortrait],
        morphable_head: Path,
    ) -> None:
        self._settings, self._split, self._folder, self._portraits = settings, split, folder, list(portraits)
        self._fitter = HeadFitter(load_morphable_head(morphable_head))
        self._detector, self._segment = MediaPipeFaceDetector(max_num_faces=1), PersonSegmenter()
        self._sources, self._shares = self._speech()

    def __call__(self, clip_id: str) -> PreparedClip:
        """Make a clip.

        Args:
            clip_id: Its name, which ends with its number.

        Returns:
            The clip, without audio features.

        Raises:
            ClipSkipped: The portrait makes no good puppet.
        """
        settings, number = self._settings, int(clip_id.rpartition("-")[2])
        rng = np.random.default_rng((settings.seed, SPLITS.index(self._split), number))
        portrait = draw_portrait(self._portraits, rng)
        puppet = self._puppet(portrait, rng)
        speech = self._sources[rng.choice(len(self._sources), p=self._shares)].draw(settings.num_frames, rng)
        energy = speech_energy(speech.samples, settings.num_frames)
        motion_seed, liveliness = int(rng.integers(SEED_LIMIT)), float(rng.uniform(*LIVELINESS))
        states = head_states(np.zeros((settings.num_frames, 4)), energy, motion_seed, liveliness)
        clip = make_puppet_clip(
            puppet,
            clip_id,
            portrait.identity,
            speech.samples,
            speech.expression,
            states,
            settings.num_references,
            is_closing=bool(rng.random() < CLOSING_SHARE),
            pivot=float(rng.uniform()),
        )
        clip.info.update(portrait=portrait.path, speech=speech.source)
        return clip

    def _puppet(self, portrait: ListedPortrait, rng: np.random.Generator) -> Puppet:
        size_px = self._settings.size_px
        square = prepare_portrait(self._folder / portrait.path, None, None, None, self._detector).image
        image = np.array(Image.fromarray(square).resize((size_px, size_px), Image.Resampling.LANCZOS))
        if rng.random() < MIRRORED_SHARE:
            image = image[:, ::-1]
        image = make_worse(image, rng)
        faces_px = self._detector.landmarks(image)
        if not faces_px:
            raise ClipSkipped(f"{portrait.path}: no face is found in the degraded picture")
        try:
            return Puppet(self._fitter, image, faces_px[0], self._segment(image), int(rng.integers(SEED_LIMIT)))
        except PortraitRefused as error:
            raise ClipSkipped(f"{portrait.path}: {error}") from error

    def _speech(self) -> tuple[list[SpeechSource], np.ndarray]:
        settings, head = self._settings, self._fitter.head
        sources: list[tuple[SpeechSource, float]] = [(SynthesizedSpeech(head, self._split), SYNTHESIZED)]
        if settings.aligned_speech is not None:
            folder = Path(settings.aligned_speech)
            speakers = RecordedSpeech(folder, head).speakers
            held_out = settings.held_out_speakers
            if held_out is None:
                held_out = speakers[SPEAKERS_PER_HELD_OUT - 1 :: SPEAKERS_PER_HELD_OUT]
            chosen = set(speakers) - set(held_out) if self._split == "train" else set(held_out)
            if chosen:
                sources.append((RecordedSpeech(folder, head, chosen), RECORDED))
        if settings.filmed_clips is not None:
            sources.append((FilmedSpeech(ClipShards(settings.filmed_clips, self._split), head), FILMED))
        shares = np.array([share for _, share in sources])
        return [source for source, _ in sources], shares / shares.sum()
