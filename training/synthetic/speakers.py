"""Voices: who speaks, how fast and how high."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.synthetic.voice.foreign_sentences import LANGUAGES

# espeak-ng's variants that sound like a person; left out are those of its other synthesisers (klatt, speechPlayer),
# and those with an echo (f2 to f5, m2), which fills the closures of plosives
LOW_VARIANTS = (
    *("m1", "m3", "m4", "m5", "m6", "m7", "m8", "croak", "Alex", "Denis", "Gene", "Lee", "Mario", "Michael", "Mike"),
    *("paul", "quincy", "travis", "grandpa"),
)
HIGH_VARIANTS = ("f1", "Andrea", "anika", "aunty", "belinda", "linda", "steph", "steph2", "steph3", "grandma")
# most speakers of the usual data sets are American
ACCENT_SHARES = {
    "en-us": 0.6,
    "en-gb": 0.12,
    "en-gb-x-rp": 0.1,
    "en-gb-scotland": 0.06,
    "en-gb-x-gbclan": 0.06,
    "en-gb-x-gbcwmd": 0.06,
}
# for who listens and does not look at a face: every third voice speaks another language than English
WORLD_SHARES = {accent: share * 2 / 3 for accent, share in ACCENT_SHARES.items()} | dict.fromkeys(LANGUAGES, 1 / 15)
RATES_WPM = (125, 205)
PITCHES = (30, 70)
PITCH_RANGES = (30, 80)


@dataclass(frozen=True)
class Speaker:
    """A voice, in espeak-ng's terms (see `espeak.Espeak.say`).

    Attributes:
        accent: One of `espeak.ACCENTS`.
        variant: Timbre; empty for the accent's own.
        rate_wpm: Words per minute.
        pitch: 0 to 99.
        pitch_range: 0 to 99.
    """

    accent: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int

    @property
    def voice(self) -> str:
        """Accent and variant, as espeak-ng takes them."""
        return f"{self.accent}+{self.variant}" if self.variant else self.accent

    @property
    def language(self) -> str:
        """Language of the accent, as `sentences.draw_sentence` takes it."""
        return self.accent if self.accent in LANGUAGES else "en"


def draw_speaker(seed: int, is_feminine: bool, shares: Mapping[str, float] = ACCENT_SHARES) -> Speaker:
    """Draw the voice of a person.

    Args:
        seed: Same seed and shares, same voice.
        is_feminine: Whether the voice is one of the high ones, or of the low ones.
        shares: How often each accent occurs; they add up to 1.

    Returns:
        The speaker.
    """
    rng = np.random.default_rng(seed)
    accent = str(rng.choice(list(shares), p=list(shares.values())))
    # an accent's own voice is a low one
    variants = HIGH_VARIANTS if is_feminine else ("", *LOW_VARIANTS)
    return Speaker(
        accent=accent,
        variant=variants[rng.integers(len(variants))],
        rate_wpm=int(rng.integers(RATES_WPM[0], RATES_WPM[1] + 1)),
        pitch=int(rng.integers(PITCHES[0], PITCHES[1] + 1)),
        pitch_range=int(rng.integers(PITCH_RANGES[0], PITCH_RANGES[1] + 1)),
    )
