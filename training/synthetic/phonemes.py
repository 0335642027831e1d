"""Classes of phonemes: how each looks on the lips, and which of espeak-ng's mnemonics belong to it.

Classes carry the names of the ARPAbet. Diphthongs have none of their own: they are two halves of two classes. Sounds
of other languages than English count as the class that looks most alike (see `voice.foreign_phonemes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusers_dawn.records import SAMPLE_RATE_HZ
from training.synthetic.espeak import ACCENTS, PhonemeEvent
from training.synthetic.voice.foreign_phonemes import BY_LANGUAGE, SHARED

# HuBERT's convolutions: a frame sees so many samples, and begins so many after its predecessor
LABEL_REACH_SAMPLES = 400
LABEL_STRIDE_SAMPLES = 320
MOUTH_SHAPE_NAMES = ("jaw", "width", "round", "press")
STRESS_MARKS = "',%="
TONES = "12345"


@dataclass(frozen=True)
class PhonemeClass:
    """Phonemes that sound and look alike.

    Attributes:
        name: As in the ARPAbet; "sil" is silence, "ax" the schwa.
        mouth: Where its mouth shape tends to, as `MOUTH_SHAPE_NAMES`, each in [0, 1] (see `head_state.HeadState`).
        dominance: How much of that shape survives beside its neighbours: near 0 the lips do what those need.
        closure_share: For which part of it, from its start, the lips must meet, however short that is.
    """

    name: str
    mouth: tuple[float, float, float, float]
    dominance: float = 1.0
    closure_share: float = 0.0


PHONEME_CLASSES = (
    PhonemeClass("sil", (0.0, 0.0, 0.0, 0.15)),
    PhonemeClass("p", (0.0, 0.0, 0.0, 1.0), 2.0, closure_share=0.5),
    PhonemeClass("b", (0.0, 0.0, 0.0, 1.0), 2.0, closure_share=1.0),
    PhonemeClass("m", (0.0, 0.0, 0.0, 0.9), 2.0, closure_share=1.0),
    PhonemeClass("f", (0.08, 0.15, 0.0, 0.6), 2.0),
    PhonemeClass("v", (0.08, 0.15, 0.0, 0.55), 2.0),
    PhonemeClass("th", (0.20, 0.15, 0.0, 0.0), 1.0),
    PhonemeClass("dh", (0.20, 0.15, 0.0, 0.0), 0.8),
    PhonemeClass("t", (0.14, 0.15, 0.0, 0.0), 0.6),
    PhonemeClass("d", (0.16, 0.15, 0.0, 0.0), 0.6),
    PhonemeClass("n", (0.18, 0.15, 0.0, 0.0), 0.6),
    PhonemeClass("k", (0.22, 0.10, 0.0, 0.0), 0.4),
    PhonemeClass("g", (0.22, 0.10, 0.0, 0.0), 0.4),
    PhonemeClass("ng", (0.24, 0.15, 0.0, 0.0), 0.4),
    PhonemeClass("s", (0.08, 0.45, 0.0, 0.0), 1.2),
    PhonemeClass("z", (0.09, 0.45, 0.0, 0.0), 1.2),
    PhonemeClass("sh", (0.13, 0.0, 0.60, 0.0), 1.5),
    PhonemeClass("zh", (0.13, 0.0, 0.60, 0.0), 1.5),
    PhonemeClass("ch", (0.13, 0.0, 0.55, 0.0), 1.5),
    PhonemeClass("jh", (0.14, 0.0, 0.55, 0.0), 1.5),
    PhonemeClass("hh", (0.30, 0.10, 0.0, 0.0), 0.2),
    PhonemeClass("l", (0.26, 0.15, 0.0, 0.0), 0.7),
    PhonemeClass("r", (0.18, 0.0, 0.50, 0.0), 1.0),
    PhonemeClass("w", (0.10, 0.0, 1.0, 0.0), 2.0),
    PhonemeClass("y", (0.16, 0.75, 0.0, 0.0), 0.8),
    PhonemeClass("iy", (0.25, 1.0, 0.0, 0.0)),
    PhonemeClass("ih", (0.38, 0.65, 0.0, 0.0)),
    PhonemeClass("eh", (0.60, 0.50, 0.0, 0.0)),
    PhonemeClass("ae", (0.85, 0.50, 0.0, 0.0)),
    PhonemeClass("aa", (1.0, 0.10, 0.0, 0.0)),
    PhonemeClass("ao", (0.72, 0.0, 0.65, 0.0)),
    PhonemeClass("uh", (0.30, 0.0, 0.70, 0.0)),
    PhonemeClass("uw", (0.18, 0.0, 1.0, 0.0), 1.3),
    PhonemeClass("ah", (0.66, 0.15, 0.0, 0.0)),
    PhonemeClass("er", (0.40, 0.0, 0.40, 0.0)),
    PhonemeClass("ax", (0.40, 0.15, 0.0, 0.0), 0.6),
)
CLASS_INDEX = {phoneme_class.name: index for index, phoneme_class in enumerate(PHONEME_CLASSES)}
SILENCE_INDEX = CLASS_INDEX["sil"]

# one class, or the classes of the two halves; mnemonics of espeak-ng's phoneme tables of English, without stress
_MNEMONICS = {
    "sil": "_ _: _:: _! _| _;_ _^_",
    "p": "p",
    "b": "b",
    "m": "m m-",
    "f": "f",
    "v": "v v#",
    "th": "T",
    "dh": "D",
    "t": "t t2 t[ ?",
    "d": "d d# d[ t#",
    "n": "n n- n^",
    "k": "k x c",
    "g": "g J",
    "ng": "N N-",
    "s": "s",
    "z": "z z# z/2",
    "sh": "S s;",
    "zh": "Z z;",
    "ch": "tS tS;",
    "jh": "dZ dZ;",
    "hh": "h",
    "l": "l l/ l/2 l/3 l- l^ L",
    "r": "r r/ r- R R2",
    "w": "w w#",
    "y": "j ;",
    "iy": "i i: i2",
    "ih": "I I2 I# I2#",
    "eh": "E E# E2",
    "ae": "a a2 a/ aa",
    "aa": "A: A 0 0# 02",
    "ao": "O O: O2 o o: O~ A~",
    "uh": "U",
    "uw": "u u: u#",
    "ah": "V",
    "er": "3: VR IR",
    "ax": "@ @- @2 @5 @# #@ a# a#2",
    "ax l": "@L",
    "eh iy": "eI e e: e#",
    "aa iy": "aI aI2",
    "aa uw": "aU",
    "ao iy": "OI",
    "ao uw": "oU oU#",
}
# r-coloured in rhotic accents; elsewhere the second half is open, or as the first
_MNEMONICS_RHOTIC = {
    "er": "3",
    "aa er": "A@ A@# A# aI@ aI3 aU@",
    "ao er": "O@ o@",
    "eh er": "e@",
    "ih er": "i@3 i@",
    "uh er": "U@",
}
_MNEMONICS_NOT_RHOTIC = {
    "ax": "3",
    "aa": "A@ A@# A#",
    "aa ax": "aI@ aI3 aU@",
    "ao": "O@ o@",
    "eh": "e@",
    "ih ax": "i@3 i@",
    "uh ax": "U@",
}


def _parts_by_mnemonic(*tables: dict[str, str]) -> dict[str, tuple[int, ...]]:
    parts = {}
    for classes, mnemonics in ((key, value) for table in tables for key, value in table.items()):
        parts |= dict.fromkeys(mnemonics.split(), tuple(CLASS_INDEX[name] for name in classes.split()))
    return parts


# by accent of `espeak.ACCENTS`
_PARTS = {
    accent: _parts_by_mnemonic(_MNEMONICS, _MNEMONICS_RHOTIC if accent == "en-us" else _MNEMONICS_NOT_RHOTIC)
    for accent in ACCENTS
    if accent.startswith("en-")
}
_PARTS |= {language: _parts_by_mnemonic(_MNEMONICS, SHARED, own) for language, own in BY_LANGUAGE.items()}


@dataclass(frozen=True)
class ClassSegment:
    """A stretch of sound of one class.

    Attributes:
        class_index: Index into `PHONEME_CLASSES`.
        start_s: Where it begins.
        end_s: Where it ends.
        stressed: Whether it carries its word's primary stress.
    """

    class_index: int
    start_s: float
    end_s: float
    stressed: bool = False


def class_segments(events: Sequence[PhonemeEvent], accent: str = "en-us") -> list[ClassSegment]:
    """Say which class sounds when.

    Args:
        events: espeak-ng's phonemes.
        accent: Accent of `espeak.ACCENTS` that they were said in.

    Returns:
        Segments that cover the same time in the same order; of a diphthong two, one per half, of a triphthong three.

    Raises:
        ValueError: A mnemonic is not one of the accent's, or there is no such accent.
    """
    if accent not in _PARTS:
        raise ValueError(f"`accent` is {accent!r}, must be one of {', '.join(_PARTS)}")
    segments = []
    for event in events:
        mnemonic = event.name.lstrip(STRESS_MARKS)
        # Mandarin's tones are digits before the vowel that carries them
        parts = _PARTS[accent].get(mnemonic) or _PARTS[accent].get(mnemonic.lstrip(TONES))
        if parts is None:
            raise ValueError(f"`events` has the phoneme {event.name!r}, which is not one of espeak-ng's for {accent}")
        bounds_s = np.linspace(event.start_s, event.end_s, len(parts) + 1).tolist()
        for part, start_s, end_s in zip(parts, bounds_s, bounds_s[1:], strict=False):
            segments.append(ClassSegment(part, start_s, end_s, event.name.startswith("'")))
    return segments


def frame_labels(segments: Sequence[ClassSegment], num_labels: int) -> np.ndarray:
    """Label the frames of HuBERT (50 per second) with the class that sounds at their centre.

    Frame i of HuBERT covers the samples 320 i to 320 i + 400 of a 16 kHz recording; its centre is 320 i + 200.

    Args:
        segments: What sounds when, in order, without gaps.
        num_labels: Number of frames; what lies behind the last segment is silence.

    Returns:
        int16 array (num_labels,), indices into `PHONEME_CLASSES`.

    Raises:
        ValueError: There are no segments.
    """
    if not segments:
        raise ValueError("`segments` is empty; there must be one at least")
    centres_s = (np.arange(num_labels) * LABEL_STRIDE_SAMPLES + LABEL_REACH_SAMPLES / 2) / SAMPLE_RATE_HZ
    return classes_at(segments, centres_s).astype(np.int16)


def classes_at(segments: Sequence[ClassSegment], times_s: np.ndarray) -> np.ndarray:
    """Look up which class sounds at each of the times.

    Args:
        segments: What sounds when, in order, without gaps.
        times_s: Times, any shape.

    Returns:
        Indices into `PHONEME_CLASSES`; silence before the first and after the last segment.
    """
    starts_s = np.array([segment.start_s for segment in segments])
    indices = np.array([segment.class_index for segment in segments])
    found = np.searchsorted(starts_s, times_s, side="right") - 1
    outside = (found < 0) | (times_s >= segments[-1].end_s)
    return np.where(outside, SILENCE_INDEX, indices[found])
