"""When each word and sound of a known English text is said in a recording: forced alignment by pocketsphinx.

pocketsphinx (https://github.com/cmusphinx/pocketsphinx) finds the times; its dictionary is the CMU Pronouncing
Dictionary.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..media.recordings import resample
from ..records import SAMPLE_RATE_HZ, Waveform

PHONES_PER_S = 100
# frame i of pocketsphinx covers 25.6 ms from i / 100 s on, so frames part in the middle of what two of them share
BOUNDARY_SHIFT_S = 0.0078
HISS = 3e-4
# beyond these the words are not what is said: nobody holds a sound so long, or speaks so fast
LONGEST_PHONE_S = 0.9
MOST_PHONES_PER_S = 22.0
# mean score of the frames of speech, in pocketsphinx's units: right words gave -9 to -25 (LibriSpeech, GRID)
LOWEST_SCORE = -30.0


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


@dataclass(frozen=True)
class HeardWord:
    """A word, or a silence, as pocketsphinx finds it.

    Attributes:
        text: The word in lower case; empty for silence.
        phones: Its sounds, one at least.
    """

    text: str
    phones: tuple[Phone, ...]

    @property
    def start_s(self) -> float:
        """Where it begins [s]."""
        return self.phones[0].start_s

    @property
    def end_s(self) -> float:
        """Where it ends [s]."""
        return self.phones[-1].end_s


class ForcedAligner:
    """Lays transcripts onto recordings of English; the same input gives the same times in any order.

    Args:
        pronounce: Says of a word that the dictionary lacks its sounds, by their names in the ARPAbet; None: such a
            word is refused.

    Raises:
        ImportError: Pocketsphinx is missing.
    """

    def __init__(self, pronounce: Callable[[str], Sequence[str]] | None = None) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise ImportError("alignment needs pocketsphinx: pip install diffusers_dawn[align]") from error
        # batch: means of the cepstrum are those of the recording, not of whatever was heard before
        self._decoder = pocketsphinx.Decoder(lm=None, cmn="batch", bestpath=False, loglevel="FATAL")
        self._pronounce = pronounce

    def words(self, waveform: Waveform, text: str) -> list[HeardWord]:
        """Find when the words of a transcript are said.

        Args:
            waveform: The recording.
            text: What is said, in English; capitals and punctuation make no difference.

        Returns:
            The words in order, without the silences between them.

        Raises:
            AlignmentRefused: The text has no words, or one that is not known, or it does not fit the sound, or hardly.
        """
        return [word for word in self.words_and_silences(waveform, text) if word.text]

    def words_and_silences(self, waveform: Waveform, text: str) -> list[HeardWord]:
        """Find when words are said, and silence is kept; see `words`."""
        spoken = spoken_words(text)
        for word in spoken:
            self._learn(word)
        return self._align(resample(waveform, SAMPLE_RATE_HZ).samples, spoken)

    def _learn(self, word: str) -> None:
        """Add a word that the dictionary lacks."""
        if self._decoder.lookup_word(word) is not None:
            return
        if self._pronounce is None:
            raise AlignmentRefused(f"the word {word!r} is not in the dictionary; write it by words that sound so")
        phones = self._pronounce(word)
        if not phones:
            raise AlignmentRefused(f"the word {word!r} has no sounds")
        self._decoder.add_word(word, " ".join(phones).upper(), True)

    def _align(self, samples: np.ndarray, words: Sequence[str]) -> list[HeardWord]:
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
                (word.name, [(_sound_name(phone.name), phone.start, phone.duration, phone.score) for phone in word])
                for word in self._decoder.get_alignment() or ()
            ]
        except RuntimeError as error:
            raise AlignmentRefused(f"the words do not fit the sound ({error})") from error
        _check_fit([(name, duration, score) for _, phones in found for name, _, duration, score in phones])
        return [
            HeardWord(_word_of_entry(name), tuple(_timed(*phone[:3]) for phone in phones)) for name, phones in found
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
    # the apostrophe of word processors, which is also a closing quote
    text = re.sub(r"(?<=\w)[’ʼ](?=\w)", "'", text.lower())
    foreign = re.search(r"[^\W\d_a-z]", text)
    if foreign:
        raise AlignmentRefused(f"the transcript has {foreign[0]!r}, which is not an English letter")
    words = re.findall(r"[a-z0-9]+(?:'[a-z0-9]+)*'?|'[a-z]+", text)
    if not words:
        raise AlignmentRefused("the transcript has no words")
    return words


def _sound_name(phone: str) -> str:
    """Name a sound of pocketsphinx; its noises, +NSN+ and +SPN+, are silence."""
    return "sil" if phone == "SIL" or phone.startswith("+") else phone.lower()


def _word_of_entry(entry: str) -> str:
    """Name the word of an entry: other pronunciations are numbered, silences and noises are in brackets."""
    return "" if re.fullmatch(r"<.*>|\[.*\]|\+.*\+", entry) else re.sub(r"\(\d+\)$", "", entry)


def _timed(name: str, start: int, duration: int) -> Phone:
    start_s, end_s = (frame / PHONES_PER_S + BOUNDARY_SHIFT_S for frame in (start, start + duration))
    return Phone(name, start_s, end_s)


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
        raise AlignmentRefused(
            f"the words do not match the sound (score {score:.0f}, must be at least {LOWEST_SCORE:.0f})"
        )
