"""What puppets say: recordings with aligned phonemes, the synthesizer's voices, or filmed people's own lips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.data.clip_members import SAMPLES_PER_FRAME
from training.data.clip_shards import ClipShards
from training.synthetic.espeak import Espeak
from training.synthetic.mouth_track import mouth_track
from training.synthetic.phonemes import ClassSegment
from training.synthetic.puppets.morphable_head import MorphableHead
from training.synthetic.puppets.speech_expression import draw_style, expression_of_shapes, relative_speech
from training.synthetic.speakers import draw_speaker
from training.synthetic.spoken_clip import speak_clip
from training.synthetic.voice.aligned_recording import AlignedRecording, read_aligned

# filmed lips drive faces that articulate less or more
FILMED_GAINS = (0.85, 1.2)
SEED_LIMIT = 2**32


@dataclass(frozen=True)
class DrivingSpeech:
    """What is said in a clip, and how the mouth moves.

    Attributes:
        samples: The sound, float32 (640 F,) at 16 kHz.
        expression: Expressions of mouth and jaw (F, E), relative to a closed mouth.
        source: What it was taken from.
    """

    samples: np.ndarray
    expression: np.ndarray
    source: str


class SpeechSource(Protocol):
    """Where speech comes from."""

    def draw(self, num_frames: int, rng: np.random.Generator) -> DrivingSpeech:
        """Draw speech for F frames at 25 per second."""
        ...


class RecordedSpeech:
    """Recordings whose phonemes `align_speech.py` found.

    Args:
        folder: Its output folder.
        head: Names the expressions.
        speakers: Speakers that count; None: all.

    Raises:
        ValueError: There is no recording.
    """

    def __init__(self, folder: Path, head: MorphableHead, speakers: set[str] | None = None):
        self._head = head
        self._recordings = [
            recording
            for recording in map(read_aligned, sorted(folder.glob("*.npz")))
            if speakers is None or recording.speaker in speakers
        ]
        if not self._recordings:
            raise ValueError(f"`aligned_speech` {folder} holds no aligned recordings; align_speech.py makes them")

    @property
    def speakers(self) -> list[str]:
        """Who speaks."""
        return sorted({recording.speaker for recording in self._recordings})

    def draw(self, num_frames: int, rng: np.random.Generator) -> DrivingSpeech:
        """Cut a piece out of a recording; a shorter recording ends in silence."""
        recording = self._recordings[rng.integers(len(self._recordings))]
        samples = resample(read_waveform(recording.recording, name="recording"), SAMPLE_RATE_HZ).samples
        available = len(samples) // SAMPLES_PER_FRAME
        first = int(rng.integers(max(available - num_frames, 0) + 1))
        piece = samples[first * SAMPLES_PER_FRAME : (first + num_frames) * SAMPLES_PER_FRAME].astype(np.float32)
        piece = np.pad(piece, (0, num_frames * SAMPLES_PER_FRAME - len(piece)))
        shapes = mouth_track(_segments_within(recording, first / FPS, num_frames / FPS), num_frames)
        expression = expression_of_shapes(self._head, shapes, draw_style(rng))
        return DrivingSpeech(piece, expression, recording.recording.name)


class SynthesizedSpeech:
    """Sentences said by the synthesizer's voices.

    Args:
        head: Names the expressions.
        split: Whose sentences: "train" or "test".
    """

    def __init__(self, head: MorphableHead, split: str):
        self._head, self._split = head, split

    def draw(self, num_frames: int, rng: np.random.Generator) -> DrivingSpeech:
        """Say sentences until the frames are full."""
        speaker = draw_speaker(int(rng.integers(SEED_LIMIT)), bool(rng.integers(2)))
        spoken = speak_clip(Espeak(), speaker, num_frames, int(rng.integers(SEED_LIMIT)), self._split)
        expression = expression_of_shapes(self._head, mouth_track(spoken.segments, num_frames), draw_style(rng))
        return DrivingSpeech(spoken.samples, expression, speaker.voice)


class FilmedSpeech:
    """The lips of filmed people, with their own sound.

    Args:
        clips: Prepared clips with the label `expression`.
        head: Names the expressions.

    Raises:
        ValueError: Clips do not know their expressions.
    """

    def __init__(self, clips: ClipShards, head: MorphableHead):
        if "expression" not in clips.read_labels(0):
            raise ValueError(
                f"`filmed_clips` {clips.folder} has no `expression`, must be prepared with `--morphable_head`"
            )
        self._clips, self._head = clips, head

    def draw(self, num_frames: int, rng: np.random.Generator) -> DrivingSpeech:
        """Cut a piece out of a clip; a shorter clip ends as it was last seen, in silence."""
        index = int(rng.integers(len(self._clips)))
        expression = self._clips.read_labels(index, ["expression"])["expression"]
        speech = relative_speech(self._head, expression) * rng.uniform(*FILMED_GAINS)
        first = int(rng.integers(max(len(speech) - num_frames, 0) + 1))
        speech = speech[first : first + num_frames]
        samples = self._clips.read_samples(index)
        samples = samples[first * SAMPLES_PER_FRAME : (first + num_frames) * SAMPLES_PER_FRAME]
        missing = num_frames - len(speech)
        speech = np.pad(speech, ((0, missing), (0, 0)), mode="edge").astype(np.float32)
        return DrivingSpeech(
            np.pad(samples, (0, num_frames * SAMPLES_PER_FRAME - len(samples))),
            speech,
            self._clips.entries[index].clip_id,
        )


def _segments_within(recording: AlignedRecording, start_s: float, duration_s: float) -> list[ClassSegment]:
    return [
        ClassSegment(
            segment.class_index,
            max(segment.start_s - start_s, 0.0),
            min(segment.end_s - start_s, duration_s),
            segment.stressed,
        )
        for segment in recording.segments
        if segment.end_s > start_s and segment.start_s < start_s + duration_s
    ]
