"""Speech with the time of every phoneme, by espeak-ng."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusers_dawn.media.recordings import resample
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform

# accents of English and other languages by the code that users know; espeak-ng's own names differ for some
ACCENTS = {
    "en-us": "gmw/en-US",
    "en-gb": "gmw/en",
    "en-gb-x-rp": "gmw/en-GB-x-rp",
    "en-gb-scotland": "gmw/en-GB-scotland",
    "en-gb-x-gbclan": "gmw/en-GB-x-gbclan",
    "en-gb-x-gbcwmd": "gmw/en-GB-x-gbcwmd",
    "de": "gmw/de",
    "fr": "roa/fr",
    "es": "roa/es",
    "cmn": "sit/cmn",
    "hi": "inc/hi",
}
RATES_WPM = (80, 450)
# espeak-ng's scales of pitch and of its range, 50 is a voice's usual one
PITCHES = (0, 99)
SILENCE = "_"
# espeak-ng's own silence, in steps of 16 bits; and the longest that it makes within a word
QUIET = 8
LONGEST_CLOSURE_S = 0.1
_CHILD_SCRIPT = Path(__file__).with_name("espeak_process.py")


@dataclass(frozen=True)
class PhonemeEvent:
    """A phoneme in a recording.

    Attributes:
        name: espeak-ng's mnemonic, with its stress mark (`'` primary, `,` secondary); "_" and "_:" are silence.
        start_s: Where it begins.
        end_s: Where the next one begins.
    """

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """A sentence as it sounds.

    Attributes:
        waveform: The sound, 16 kHz.
        phonemes: What sounds when: in order, without gaps, from 0 to the end of the sound.
        word_starts_s: Where words begin; each is the start of a phoneme.
    """

    waveform: Waveform
    phonemes: tuple[PhonemeEvent, ...]
    word_starts_s: tuple[float, ...]


class Espeak:
    """Says sentences; the same request gives the same bytes in every process.

    Every sentence is said by a short-lived process of its own (about 20 ms), see `espeak_process`.

    Raises:
        ImportError: The package espeakng-loader, which brings the library, is missing.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError("speech needs espeak-ng: pip install diffusers_dawn[synthetic]") from error
        self._library = str(espeakng_loader.get_library_path())
        self._data = Path(espeakng_loader.get_data_path())

    def say(
        self, text: str, voice: str = "en-us", rate_wpm: int = 175, pitch: int = 50, pitch_range: int = 50
    ) -> Speech:
        """Say a sentence.

        Args:
            text: What to say, in the language of the voice.
            voice: An accent of `ACCENTS`, or an accent and a variant, such as "en-us+f3".
            rate_wpm: Words per minute, 80 to 450.
            pitch: 0 to 99.
            pitch_range: 0 (monotone) to 99.

        Returns:
            The sound and its phonemes.

        Raises:
            ValueError: The text has nothing to say or has control characters, there is no such voice, or a number
                is out of its range.
            RuntimeError: Espeak-ng itself fails.
        """
        if not any(character.isalnum() for character in text):
            raise ValueError(f"`text` is {text!r}, must have a letter or digit")
        if not text.isprintable():
            # espeak-ng takes some of them for commands
            raise ValueError(f"`text` is {text!r}, must not have control characters or line breaks")
        for name, given, (lowest, highest) in (
            ("rate_wpm", rate_wpm, RATES_WPM),
            ("pitch", pitch, PITCHES),
            ("pitch_range", pitch_range, PITCHES),
        ):
            if not lowest <= given <= highest:
                raise ValueError(f"`{name}` is {given}, must be from {lowest} to {highest}")
        request = {
            "library": self._library,
            "data": str(self._data),
            "voice": self._identifier(voice),
            "rate_wpm": int(rate_wpm),
            "pitch": int(pitch),
            "pitch_range": int(pitch_range),
            "text": text,
        }
        # -I -S: nothing but the standard library, neither the user's paths nor site-packages
        ended = subprocess.run(
            [sys.executable, "-I", "-S", str(_CHILD_SCRIPT)], input=json.dumps(request).encode(), capture_output=True
        )
        if ended.returncode != 0:
            reason = ended.stderr.decode(errors="replace").strip() or f"exit status {ended.returncode}"
            raise RuntimeError(f"espeak-ng failed: {reason}")
        header, _, samples = ended.stdout.partition(b"\n")
        return _speech(json.loads(header), np.frombuffer(samples, np.int16))

    def _identifier(self, voice: str) -> str:
        accent, plus, variant = voice.partition("+")
        if accent not in ACCENTS:
            raise ValueError(f"`voice` is {voice!r}; accents are {', '.join(ACCENTS)}")
        # espeak-ng itself would leave out a variant that it does not know
        variants = {path.name for path in (self._data / "voices" / "!v").iterdir()}
        if plus and variant not in variants:
            raise ValueError(f"`voice` is {voice!r}; espeak-ng has no variant {variant!r}")
        return ACCENTS[accent] + plus + variant


def _speech(answer: dict, samples: np.ndarray) -> Speech:
    rate_hz, num_samples = answer["sample_rate_hz"], len(samples)
    waveform = resample(Waveform(samples.astype(np.float32) / 2**15, rate_hz), SAMPLE_RATE_HZ)
    starts = [(SILENCE, 0), *((name, min(sample, num_samples)) for name, sample in answer["phonemes"])]
    starts = _with_closures(starts, samples, rate_hz)
    ends = [sample for _, sample in starts[1:]] + [num_samples]
    # resampling rounds the length up
    times_s = {sample: sample / rate_hz for sample in {0, *ends}} | {num_samples: waveform.duration_s}
    phonemes = tuple(
        PhonemeEvent(name, times_s[start], times_s[end])
        for (name, start), end in zip(starts, ends, strict=True)
        if end > start
    )
    boundaries_s = np.array([event.start_s for event in phonemes])
    # espeak-ng marks words up to 40 ms beside the phoneme that they begin with
    words = sorted({int(np.abs(boundaries_s - sample / rate_hz).argmin()) for sample in answer["words"]})
    return Speech(waveform, phonemes, tuple(phonemes[index].start_s for index in words))


def _with_closures(starts: list[tuple[str, int]], samples: np.ndarray, rate_hz: int) -> list[tuple[str, int]]:
    """Give every sound the silence just before it, such as the closure of p, t and k.

    espeak-ng announces a plosive when it bursts, and so counts the closure to the vowel before.
    """
    corrected = list(starts)
    is_loud = np.abs(samples.astype(np.int32)) > QUIET
    for index in range(1, len(starts)):
        (before, earliest), (name, start) = corrected[index - 1], starts[index]
        if before.startswith(SILENCE) or name.startswith(SILENCE):
            continue
        first = max(earliest, start - round(LONGEST_CLOSURE_S * rate_hz))
        loud = np.flatnonzero(is_loud[first:start])
        # nothing but silence since the sound before: it may be that sound itself
        if len(loud):
            corrected[index] = (name, first + int(loud[-1]) + 1)
    return corrected
