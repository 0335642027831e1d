import numpy as np
import pytest

from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from diffusers_dawn.speech.alignment import AlignmentRefused, ForcedAligner, spoken_words
from training.synthetic.espeak import Espeak

SENTENCE = "My mother baked a big apple pie for both of my brothers."


@pytest.fixture(scope="module")
def aligner():
    pytest.importorskip("pocketsphinx")
    return ForcedAligner()


def test_words_begin_when_they_are_said(aligner):
    pytest.importorskip("espeakng_loader")
    speech = Espeak().say(SENTENCE, rate_wpm=150)
    words = aligner.words(speech.waveform, SENTENCE)
    assert [word.text for word in words] == spoken_words(SENTENCE)
    # a synthetic voice, and espeak-ng joins "of my" to one word; half of a syllable is near enough for a nod
    for start_s in speech.word_starts_s:
        assert min(abs(word.start_s - start_s) for word in words) < 0.1
    assert all(word.start_s < word.end_s for word in words)


def test_word_that_the_dictionary_lacks_is_refused_or_pronounced(aligner):
    silence = Waveform(np.zeros(SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)
    with pytest.raises(AlignmentRefused, match="the word 'zoobadoo' is not in the dictionary; write it by words"):
        aligner.words(silence, "Zoobadoo")
    with pytest.raises(AlignmentRefused, match="the word 'plimbary' has no sounds"):
        ForcedAligner(lambda word: []).words(silence, "plimbary")


def test_words_are_split_at_all_but_letters_digits_and_apostrophes():
    assert spoken_words("I'M  told: \"he's 42\", o'clock--THE dogs'!") == [
        *("i'm", "told", "he's", "42", "o'clock", "the", "dogs'"),
    ]
    # as word processors write it, whose apostrophe also closes quotes
    assert spoken_words("I’m “here” at ‘one’ o’clock") == ["i'm", "here", "at", "one", "o'clock"]


@pytest.mark.parametrize(
    ("text", "reason"), [("?!  -", "has no words"), ("ein schöner Tag", "has 'ö', which is not an English letter")]
)
def test_text_that_is_not_english_is_refused(text, reason):
    with pytest.raises(AlignmentRefused, match=reason):
        spoken_words(text)
