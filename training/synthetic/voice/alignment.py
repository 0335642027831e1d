"""Which phoneme sounds when in a recording whose words are known, see `diffusers_dawn.speech.alignment`.

The dictionary there tells neither stress nor schwa. espeak-ng says the same words, and lends both, and the sounds of
words that the dictionary lacks.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech.alignment import ForcedAligner, Phone, spoken_words
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import CLASS_INDEX, PHONEME_CLASSES, SILENCE_INDEX, ClassSegment, class_segments

# the class, or the classes of the two halves, of phones that have no class of their own name
DIPHTHONGS = {"ey": ("eh", "iy"), "ay": ("aa", "iy"), "aw": ("aa", "uw"), "oy": ("ao", "iy"), "ow": ("ao", "uw")}
_FIRST_VOWEL = CLASS_INDEX["iy"]
# cost of leaving a sound out when two pronunciations are compared, and of a sound for another of its kind, or not
_SKIP, _SAME_KIND, _OTHER_KIND = 0.6, 0.5, 2.0


class Aligner:
    """Lays transcripts onto recordings of read English; the same input gives the same times in any order.

    Raises:
        ImportError: Pocketsphinx or espeakng-loader is missing.
    """

    def __init__(self) -> None:
        self._espeak = Espeak()
        self._aligner = ForcedAligner(self._pronounce)

    def align(self, waveform: Waveform, text: str) -> list[ClassSegment]:
        """Find when every phoneme of a transcript sounds.

        Args:
            waveform: The recording.
            text: What is said, in English; capitals and punctuation make no difference.

        Returns:
            Segments that cover the whole recording in order, without gaps; of a diphthong two, one per half.

        Raises:
            AlignmentRefused: The text has no words, the words do not fit the sound, or hardly.
        """
        heard = self._aligner.words_and_silences(waveform, text)
        told = class_segments(self._espeak.say(" ".join(spoken_words(text))).phonemes)
        return _with_stress([phone for word in heard for phone in word.phones], told, waveform.duration_s)

    def _pronounce(self, word: str) -> list[str]:
        """Say a word that the dictionary lacks as espeak-ng says it."""
        names = [PHONEME_CLASSES[part.class_index].name for part in class_segments(self._espeak.say(word).phonemes)]
        return _arpabet(name for name in names if name != "sil")


def _arpabet(names: Iterable[str]) -> list[str]:
    """Join halves of diphthongs; the ARPAbet of the dictionary has no schwa."""
    joined: list[str] = []
    halves = {halves: name for name, halves in DIPHTHONGS.items()}
    before = None
    for name in names:
        diphthong = halves.get((before, name))
        if diphthong:
            joined[-1] = diphthong
        else:
            joined.append("ah" if name == "ax" else name)
        before = None if diphthong else name
    return joined


def _with_stress(phones: Sequence[Phone], told: Sequence[ClassSegment], duration_s: float) -> list[ClassSegment]:
    """Classes of what was heard, in halves, with stress and schwa as espeak-ng has them, over the whole time."""
    heard = []
    for phone in phones:
        first, second = DIPHTHONGS.get(phone.name, (phone.name, None))
        middle_s = (phone.start_s + phone.end_s) / 2 if second else phone.end_s
        heard.append(Phone(first, phone.start_s, middle_s))
        if second:
            heard.append(Phone(second, middle_s, phone.end_s))
    sounds = [phone for phone in heard if phone.name != "sil"]
    told = [segment for segment in told if segment.class_index != SILENCE_INDEX]
    matches = _matches([CLASS_INDEX[phone.name] for phone in sounds], [segment.class_index for segment in told])
    match_of = {id(phone): told[index] for phone, index in zip(sounds, matches, strict=True) if index is not None}

    segments: list[ClassSegment] = []
    for phone in heard:
        match = match_of.get(id(phone))
        stressed = match is not None and match.stressed
        name = "ax" if phone.name == "ah" and not (stressed or _is(match, "ah")) else phone.name
        start_s = segments[-1].end_s if segments else 0.0
        end_s = min(phone.end_s, duration_s)
        if end_s > start_s:
            segments.append(ClassSegment(CLASS_INDEX[name], start_s, end_s, stressed))
    if segments[-1].end_s < duration_s:
        segments.append(ClassSegment(SILENCE_INDEX, segments[-1].end_s, duration_s))
    return segments


def _is(segment: ClassSegment | None, name: str) -> bool:
    return segment is not None and segment.class_index == CLASS_INDEX[name]


def _matches(heard: Sequence[int], told: Sequence[int]) -> list[int | None]:
    """For each class heard the place of its counterpart in another pronunciation of the same words, if it has one.

    Least total cost of sounds that differ or lack a counterpart (edit distance).
    """
    first, second = np.array(heard)[:, None], np.array(told)[None]
    same_kind = (first >= _FIRST_VOWEL) == (second >= _FIRST_VOWEL)
    costs = np.where(first == second, 0.0, np.where(same_kind, _SAME_KIND, _OTHER_KIND))
    totals = np.zeros((len(heard) + 1, len(told) + 1))
    totals[:, 0], totals[0] = np.arange(len(heard) + 1) * _SKIP, np.arange(len(told) + 1) * _SKIP
    for row in range(len(heard)):
        for column in range(len(told)):
            totals[row + 1, column + 1] = min(
                totals[row, column] + costs[row, column],
                totals[row, column + 1] + _SKIP,
                totals[row + 1, column] + _SKIP,
            )
    matches: list[int | None] = [None] * len(heard)
    row, column = len(heard), len(told)
    while row and column:
        if totals[row, column] == totals[row - 1, column - 1] + costs[row - 1, column - 1]:
            row, column = row - 1, column - 1
            matches[row] = column
        elif totals[row, column] == totals[row - 1, column] + _SKIP:
            row -= 1
        else:
            column -= 1
    return matches
