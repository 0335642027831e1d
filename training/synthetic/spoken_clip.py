"""The sound of a clip: sentences of one speaker, with pauses, for exactly the wanted time."""

from dataclasses import dataclass, replace

import numpy as np

from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.data.clip_members import SAMPLES_PER_FRAME
from training.synthetic.espeak import Espeak, Speech
from training.synthetic.phonemes import SILENCE_INDEX, ClassSegment, class_segments
from training.synthetic.sentences import draw_sentence
from training.synthetic.speakers import Speaker

FIRST_PAUSE_S, PAUSES_S = (0.05, 0.30), (0.15, 0.50)
# less time than this at the end stays silent
SHORTEST_SPEECH_S = 0.4
FADE_S = 0.01
# a speaker is not always equally fast
RATE_CHANGES_WPM = (-12, 12)
LOUDNESSES_DB = (-24.0, -18.0)
MAX_PEAK = 0.95
SEED_LIMIT = 2**32


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence of a clip.

    Attributes:
        text: The whole sentence.
        start_s: Where it begins.
        end_s: Where it ends, or is cut.
        is_cut: Whether its last words are missing.
    """

    text: str
    start_s: float
    end_s: float
    is_cut: bool


@dataclass(frozen=True)
class SpokenClip:
    """What is heard in a clip.

    Attributes:
        samples: Float32 array (640 F,), 16 kHz, clean.
        segments: Which class of phonemes sounds when; covers the whole clip in order, without gaps.
        sentences: What is said.
    """

    samples: np.ndarray
    segments: tuple[ClassSegment, ...]
    sentences: tuple[SpokenSentence, ...]


def speak_clip(espeak: Espeak, speaker: Speaker, num_frames: int, seed: int, split: str = "train") -> SpokenClip:
    """Say sentences until a clip is full.

    The last sentence is cut between two words where it would last too long, and fades out within 10 ms.

    Args:
        espeak: Says them.
        speaker: Whose voice.
        num_frames: Length of the clip, in frames of 1 / 25 s.
        seed: Draws sentences, pauses, pace and loudness.
        split: Split of the sentences, see `sentences.draw_sentence`.

    Returns:
        The sound, what sounds when, and the sentences.

    Raises:
        ValueError: `num_frames` is not positive, or there is no such split.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` is {num_frames}, must be positive")
    rng = np.random.default_rng(seed)
    samples = np.zeros(num_frames * SAMPLES_PER_FRAME)
    duration_s = len(samples) / SAMPLE_RATE_HZ
    # whole samples, so that sound and times agree exactly
    position = round(rng.uniform(*FIRST_PAUSE_S) * min(duration_s, 1) * SAMPLE_RATE_HZ)
    segments, sentences, silent_since_s = [], [], 0.0
    rate_wpm = speaker.rate_wpm + int(rng.integers(RATE_CHANGES_WPM[0], RATE_CHANGES_WPM[1] + 1))
    while len(samples) - position >= SHORTEST_SPEECH_S * SAMPLE_RATE_HZ:
        text = draw_sentence(int(rng.integers(SEED_LIMIT)), split, speaker.language)
        whole = espeak.say(text, speaker.voice, rate_wpm, speaker.pitch, speaker.pitch_range)
        speech = _first_words(whole, duration_s - position / SAMPLE_RATE_HZ)
        if speech is None:
            break
        start_s, sound = position / SAMPLE_RATE_HZ, speech.waveform.samples
        samples[position : position + len(sound)] = sound
        if start_s > silent_since_s:
            segments.append(ClassSegment(SILENCE_INDEX, silent_since_s, start_s))
        segments += _shifted(class_segments(speech.phonemes, speaker.accent), start_s)
        silent_since_s = start_s + speech.waveform.duration_s
        sentences.append(SpokenSentence(text, start_s, silent_since_s, is_cut=speech is not whole))
        if sentences[-1].is_cut:
            break
        position += len(sound) + round(rng.uniform(*PAUSES_S) * SAMPLE_RATE_HZ)
    if silent_since_s < duration_s:
        segments.append(ClassSegment(SILENCE_INDEX, silent_since_s, duration_s))
    samples = _at_loudness(samples, rng.uniform(*LOUDNESSES_DB)).astype(np.float32)
    return SpokenClip(samples, tuple(segments), tuple(sentences))


def _first_words(speech: Speech, longest_s: float) -> Speech | None:
    """As many of the words as fit; the speech itself if all do, None if not even one does."""
    if speech.waveform.duration_s <= longest_s:
        return speech
    cuts_s = [start_s for start_s in speech.word_starts_s if 0 < start_s <= longest_s]
    if not cuts_s:
        return None
    num_samples = int(cuts_s[-1] * SAMPLE_RATE_HZ)
    end_s = num_samples / SAMPLE_RATE_HZ
    samples = speech.waveform.samples[:num_samples].copy()
    num_fading = min(round(FADE_S * SAMPLE_RATE_HZ), num_samples)
    samples[num_samples - num_fading :] *= np.linspace(1, 0, num_fading, dtype=np.float32)
    phonemes = [event for event in speech.phonemes if event.start_s < end_s]
    phonemes[-1] = replace(phonemes[-1], end_s=end_s)
    return Speech(Waveform(samples, SAMPLE_RATE_HZ), tuple(phonemes), tuple(cuts_s[:-1]))


def _shifted(segments: list[ClassSegment], shift_s: float) -> list[ClassSegment]:
    return [replace(segment, start_s=segment.start_s + shift_s, end_s=segment.end_s + shift_s) for segment in segments]


def _at_loudness(samples: np.ndarray, loudness_db: float) -> np.ndarray:
    """Scale the root mean square of what is not silence, as far as the peak allows."""
    peak = np.abs(samples).max()
    if peak == 0:
        return samples
    loud = samples[np.abs(samples) > 0.02 * peak]
    return samples * min(10 ** (loudness_db / 20) / np.sqrt(np.mean(loud**2)), MAX_PEAK / peak)
