import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synthetic.sentences import WRITTEN_SENTENCES, draw_sentence, split_of
from training.synthetic.voice.foreign_sentences import LANGUAGES, words_of

SEEDS = st.integers(0, 2**62)


@given(SEEDS, SEEDS)
def test_no_sentence_is_drawn_for_both_splits(train_seed, test_seed):
    training, testing = draw_sentence(train_seed, "train"), draw_sentence(test_seed, "test")
    assert split_of(training) == "train" and split_of(testing) == "test"
    assert re.findall(r"\w+", training.lower()) != re.findall(r"\w+", testing.lower())


@given(SEEDS)
def test_split_does_not_depend_on_capitals_and_punctuation(seed):
    sentence = draw_sentence(seed)
    assert split_of(re.sub(r"[^\w ]", "", sentence).upper() + "!") == "train"


@given(SEEDS, st.sampled_from(["train", "test"]))
def test_sentences_are_plain_english_text(seed, split):
    sentence = draw_sentence(seed, split)
    assert re.fullmatch(r"[A-Z][A-Za-z ,:]+[.?]", sentence) and "  " not in sentence
    assert 3 <= len(sentence.split()) <= 25
    assert not re.search(r"\b[Aa] [aeio](?!ne)", sentence) and not re.search(r"\b[Aa]n [^aeiou]", sentence)


def test_same_seed_gives_the_same_sentence():
    # written down: another sentence here is another data set for everyone who made one
    assert draw_sentence(0) == "The friendly blanket is dry, but that notebook is quiet."
    assert draw_sentence(0, "test") == "Their wooden queen will own this simple lemon."


def test_sentences_vary():
    drawn = [draw_sentence(seed) for seed in range(1000)]
    assert len(set(drawn)) > 850
    words = {word for sentence in drawn for word in re.findall(r"[a-z]+", sentence.lower())}
    assert len(words) > 500


def test_written_sentences_are_in_both_splits():
    splits = [split_of(sentence) for sentence in WRITTEN_SENTENCES]
    assert splits.count("test") >= 3 and splits.count("train") >= 30


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="`split` is 'validation', must be one of train, test"):
        draw_sentence(0, "validation")


@given(SEEDS, st.sampled_from(LANGUAGES))
def test_foreign_sentences_are_split_and_repeatable(seed, language):
    training, testing = draw_sentence(seed, "train", language), draw_sentence(seed, "test", language)
    assert split_of(training) == "train" and split_of(testing) == "test"
    assert draw_sentence(seed, "train", language) == training and training.isprintable()


def test_foreign_words_are_single_and_many():
    for language in LANGUAGES:
        words = words_of(language)
        assert len(set(words)) == len(words) > 35 and not any(" " in word or "." in word for word in words)


def test_unknown_language_is_refused():
    with pytest.raises(ValueError, match="`language` is 'xx', must be one of en, de, fr, es, cmn, hi"):
        draw_sentence(0, "train", "xx")
