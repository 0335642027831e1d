"""Which phoneme sounds when in a recording whose words are known: forced alignment by pocketsphinx.

pocketsphinx (https://github.com/cmusphinx/pocketsphinx) finds the times; its English dictionary is the CMU
Pronouncing Dictionary, which tells neither stress nor schwa. espeak-ng says the same words, and lends both, and the
sounds of words that the dictionary lacks.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from diffusers_dawn.media.recordings import resample
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import CLASS_INDEX, PHONEME_CLASSES, SILENCE_INDEX, ClassSegment, class_segments

# the class, or the classes of the two halves, of phones that have no class of their own name
DIPHTHONGS = {"ey": ("eh", "iy"), "ay": ("aa", "iy"), "aw": ("aa", "uw"), "oy": ("ao", "iy"), "ow": ("ao", "uw")}
PHONES_PER_S = 100
# frame i of pocketsphinx covers 25.6 ms from i / 100 s on, so frames part in the middle of what two of them share
BOUNDARY_SHIFT_S = 0.0078
HISS = 3e-4
# beyond these the words are not what is said: nobody holds a sound so long, or speaks so fast
LONGEST_PHONE_S = 0.9
MOST_PHONES_PER_S = 22.0
# mean score of the frames of speech, in pocketsphinx's units: right words gave -9 to -25 (LibriSpeech, GRID)
LOWEST_SCORE = -30.0
_FIRST_VOWEL = CLASS_INDEX["iy"]
# cost of leaving a sound out when two pronunciations are compared, and of a sound for another of its kind, or not
_SKIP, _SAME_KIND, _OTHER_KIND = 0.6, 0.5, 2.0


class AlignmentRefused(ValueError):
    """The words cannot be laid onto the recording; the message says why."""


@dataclass(frozen=True)
class Phone:
    """A sound as pocketsphinx finds it.

    Attributes:
        name: Lower-case name of the ARPAbet without stress, or "sil".
        start_s: Where it begins.
        end_s: Where it ends.
    """

    name: str
    start_s: float
    end_s: float


class Aligner:
    """Lays transcripts onto recordings of read English; the same input gives the same times in any order.

    Raises:
        ImportError: If pocketsphinx or espeakng-loader is missing.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise ImportError("alignment needs pocketsphinx: pip install diffusers_dawn[align]") from error
        # batch: means of the cepstrum are those of the recording, not of whatever was heard before
        self._decoder = Decoder(lm=None, cmn="batch", bestpath=False, loglevel="FATAL")
        self._espeak = Espeak()

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
        words = spoken_words(text)
        for word in words:
            self._learn(word)
        phones = self._phones(resample(waveform, SAMPLE_RATE_HZ).samples, words)
        told = class_segments(self._espeak.say(" ".join(words)).phonemes)
        return _with_stress(phones, told, waveform.duration_s)

    def _learn(self, word: str) -> None:
        """Add a word that the dictionary lacks, as espeak-ng says it."""
        if self._decoder.lookup_word(word) is not None:
            return
        names = [PHONEME_CLASSES[part.class_index].name for part in class_segments(self._espeak.say(word).phonemes)]
        phones = _arpabet(name for name in names if name != "sil")
        if not phones:
            raise AlignmentRefused(f"the word {word!r} has no sounds")
        self._decoder.add_word(word, " ".join(phones).upper(), True)

    def _phones(self, samples: np.ndarray, words: Sequence[str]) -> list[Phone]:
        # without it pocketsphinx loses its way where samples are exactly 0: the logarithm of no energy
        hiss = np.random.default_rng(0).normal(scale=HISS, size=len(samples))
        pcm = ((samples + hiss).clip(-1, 1) * 32767).astype(np.int16).tobytes()
        try:
            # forgets what was heard before, which else moves some boundaries
            self._decoder.reinit_feat()
            self._decoder.set_align_text(" ".join(words))
            # once for the words and their pronunciations, again for the sounds within them
            self._hear(pcm)
            self._decoder.set_alignment()
            self._hear(pcm)
            # read at once: entries do not outlive the iterator that gives them
            found = [
                (_class_name(phone.name), phone.start, phone.duration, phone.score)
                for word in self._decoder.get_alignment() or ()
                for phone in word
            ]
        except RuntimeError as error:
            raise AlignmentRefused(f"the words do not fit the sound ({error})") from error
        _check_fit([(name, duration, score) for name, _, duration, score in found])
        return [
            Phone(name, start / PHONES_PER_S + BOUNDARY_SHIFT_S, (start + duration) / PHONES_PER_S + BOUNDARY_SHIFT_S)
            for name, start, duration, _ in found
        ]

    def _hear(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


def spoken_words(text: str) -> list[str]:
    """Split a transcript into words: lower case, letters, digits and apostrophes.

    Args:
        text: The transcript.

    Returns:
        The words, one at least.

    Raises:
        AlignmentRefused: There is none, or there are letters that English has not.
    """
    foreign = re.search(r"[^\W\d_a-z]", text.lower())
    if foreign:
        raise AlignmentRefused(f"the transcript has the letter {foreign[0]!r}, which is not one of English")
    words = re.findall(r"[a-z0-9]+(?:'[a-z0-9]+)*'?|'[a-z]+", text.lower())
    if not words:
        raise AlignmentRefused("the transcript has no words")
    return words


def _class_name(phone: str) -> str:
    """Name a sound of pocketsphinx; its noises, +NSN+ and +SPN+, are silence."""
    return "sil" if phone == "SIL" or phone.startswith("+") else phone.lower()


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


def _check_fit(phones: Sequence[tuple[str, int, int]]) -> None:
    """Refuse what no speaker does; phones are name, duration [frames] and score."""
    spoken = [(name, duration, score) for name, duration, score in phones if name != "sil"]
    if not spoken:
        raise AlignmentRefused("nothing is said")
    num_frames = sum(duration for _, duration, _ in spoken)
    longest_name, longest, _ = max(spoken, key=lambda phone: phone[1])
    if longest > LONGEST_PHONE_S * PHONES_PER_S:
        raise AlignmentRefused(f"{longest_name!r} would last {longest / PHONES_PER_S:.2f} s")
    phones_per_s = len(spoken) * PHONES_PER_S / num_frames
    if phones_per_s > MOST_PHONES_PER_S:
        raise AlignmentRefused(f"there would be {phones_per_s:.0f} sounds per second")
    score = sum(score for _, _, score in spoken) / num_frames
    if score < LOWEST_SCORE:
        raise AlignmentRefused(f"the words sound otherwise (score {score:.0f}, must be at least {LOWEST_SCORE:.0f})")


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
