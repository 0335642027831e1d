"""Sentences to be said: English ones written by hand or drawn from a small grammar, others written, or words mixed.

The splits are disjoint by construction: a hash of a sentence's words alone says which split it belongs to.
"""

import hashlib
import re

import numpy as np

from training.synthetic import sentence_words as words
from training.synthetic.voice import foreign_sentences

SPLITS = ("train", "test")
# one sentence in so many is for testing
TEST_SHARE = 8
# probability of a sentence written by hand
WRITTEN_SHARE = 0.15
FOREIGN_WRITTEN_SHARE = 0.4
# from so many words to fewer than so many
NUM_FOREIGN_WORDS = (3, 8)

WRITTEN_SENTENCES = (
    "Please put the blue boat back into the bay before the boys go home.",
    "Papa made a measure of the garage, and nobody knew why.",
    "My mother baked a big apple pie for both of my brothers.",
    "She sells warm bread and fresh cheese beside the church.",
    "How now, said the owl, have you found your mouse?",
    "The vision of a treasure under the beige rug amused the judge.",
    "Which witch wore the yellow watch on Wednesday?",
    "Thirty thin thieves thought they threw three thick things.",
    "Boys enjoy noisy toys, but the oil spoiled this one.",
    "Good cooks look at the book before they put sugar in the pudding.",
    "We were away a year ago, and the weather was awful.",
    "Fetch me a fork, five knives and a very fine vase.",
    "He heard her hurry up the hill behind the house.",
    "The young student used a huge computer at the university.",
    "Jack and George joined the large orange bridge.",
    "Rain in the river runs around the rusty railway.",
    "Little Lily would like to lie on the long, level lawn.",
    "No one knows how long the singer was singing that song.",
    "Zoe was busy as a bee and as easy as a breeze.",
    "Could you tell me what time the next train leaves?",
    "I am afraid that there is nothing we can do about it now.",
    "Breathe in, breathe out, and close your eyes for a moment.",
    "What a marvellous idea, why did nobody think of it earlier?",
    "It is half past four, and the shops close at a quarter to six.",
    "Leave the key under the mat, and call me when you arrive.",
    "The usual confusion about pleasure and leisure is an illusion.",
    "A cup of coffee, a piece of cake, and a chair in the sun.",
    "Why do whales sing, and who do they think will hear them?",
    "Push the chair to the wall and shut the shutters, should it shower.",
    "The major changed the subject and just chuckled.",
    "Nothing is as smooth as the bath after both brothers washed.",
    "Our tower has a hundred and twelve stairs and no lift.",
    "Her first purse was worth thirty pounds in her own words.",
    "Mum may meet me on Monday morning in the middle of May.",
    "Bob, Peter and Pam built a pump from pipes and a plum pudding box.",
    "They say that the way to the bay is eighty miles by train.",
    "I might try to fly my kite high in the sky tonight.",
    "Over the ocean the old boat goes slowly home.",
    "Hot soup, cold water, and not a drop of coffee in the pot.",
    "All the tall walls of the hall fall in the storm.",
    "Many men bent ten pens and then went to bed.",
    "The cat sat flat on a mat and had a nap.",
    "Six big ships brought this fish in a bit of a wind.",
    "We see three green trees between the sea and the field.",
    "You knew a few new rules too soon, did you not?",
    "Some of us love to run under the sun, but not for fun.",
    "A dark car parks far from the farm in the yard.",
    "Welcome back, and thank you very much for watching.",
    "The quality of the picture is a question of light.",
    "In my opinion the answer is simple, but nobody will believe it.",
    "Tell him that he should have asked me first.",
    "Nice to meet you, my name is Matthew, and this is Heather.",
    "Perhaps the boy with the toy will join us for a voyage.",
    "Up and down, left and right, round and round it goes.",
)


def draw_sentence(seed: int, split: str = "train", language: str = "en") -> str:
    """Draw a sentence.

    Args:
        seed: Same seed, split and language, same sentence.
        split: "train" or "test"; what is drawn for one is never drawn for the other.
        language: "en", or one of `foreign_sentences.LANGUAGES`.

    Returns:
        The sentence, with its punctuation.

    Raises:
        ValueError: There is no such split or language.
    """
    if split not in SPLITS:
        raise ValueError(f"`split` is {split!r}, must be one of {', '.join(SPLITS)}")
    if language != "en" and language not in foreign_sentences.LANGUAGES:
        raise ValueError(f"`language` is {language!r}, must be one of en, {', '.join(foreign_sentences.LANGUAGES)}")
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    while True:
        if language != "en":
            sentence = _foreign(rng, language)
        else:
            sentence = _pick(rng, WRITTEN_SENTENCES) if rng.random() < WRITTEN_SHARE else _compose(rng)
        if split_of(sentence) == split:
            return sentence


def split_of(sentence: str) -> str:
    """Say which split a sentence belongs to; capitals and punctuation make no difference.

    Args:
        sentence: Any sentence.

    Returns:
        "train" or "test".
    """
    spoken = " ".join(re.findall(r"\w+", sentence.lower()))
    return "test" if hashlib.sha256(spoken.encode()).digest()[0] % TEST_SHARE == 0 else "train"


def _compose(rng: np.random.Generator) -> str:
    pattern = _pick(rng, _PATTERNS)
    sentence = re.sub(r"\{(\w+)\}", lambda slot: _SLOTS[slot[1]](rng), pattern)
    # "a" before the sound of a vowel
    sentence = re.sub(r"\b([Aa]) (?=(?!use|usual|uni|one)[aeiouAEIOU])", r"\1n ", sentence)
    return sentence[0].upper() + sentence[1:]


def _foreign(rng: np.random.Generator, language: str) -> str:
    """A written sentence, or some of the language's words in any order: what matters is how they sound."""
    if rng.random() < FOREIGN_WRITTEN_SHARE:
        return _pick(rng, foreign_sentences.WRITTEN[language])
    chosen = rng.choice(foreign_sentences.words_of(language), rng.integers(*NUM_FOREIGN_WORDS))
    return ("，" if language == "cmn" else " ").join(chosen) + "."


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]


def _someone(rng: np.random.Generator) -> str:
    kind = rng.integers(4)
    if kind == 0:
        return _pick(rng, words.NAMES)
    described = f"{_pick(rng, words.ADJECTIVES)} " if rng.random() < 0.5 else ""
    return f"{_pick(rng, words.OWNERS)} {described}{_pick(rng, words.ANIMALS if kind == 1 else words.PERSONS)}"


def _something(rng: np.random.Generator) -> str:
    described = f"{_pick(rng, words.ADJECTIVES)} " if rng.random() < 0.6 else ""
    return f"{_pick(rng, words.OWNERS)} {described}{_pick(rng, words.THINGS)}"


def _somewhere(rng: np.random.Generator) -> str:
    return f"{_pick(rng, words.PREPOSITIONS)} the {_pick(rng, words.PLACES)}"


_SLOTS = {
    "someone": _someone,
    "something": _something,
    "somewhere": _somewhere,
    "did": lambda rng: _pick(rng, words.TRANSITIVE_PAST),
    "do": lambda rng: _pick(rng, words.TRANSITIVE_BASE),
    "moved": lambda rng: _pick(rng, words.INTRANSITIVE_PAST),
    "how": lambda rng: _pick(rng, words.ADVERBS),
    "like": lambda rng: _pick(rng, words.ADJECTIVES),
    "when": lambda rng: _pick(rng, words.TIMES),
    "number": lambda rng: _pick(rng, words.NUMBERS),
    "thing": lambda rng: _pick(rng, words.THINGS),
    "animal": lambda rng: _pick(rng, words.ANIMALS),
    "place": lambda rng: _pick(rng, words.PLACES),
    "name": lambda rng: _pick(rng, words.NAMES),
    "willing": lambda rng: _pick(rng, words.MODALS),
}
_PATTERNS = (
    "{someone} {did} {something}.",
    "{someone} {did} {something} {when}.",
    "{when} {someone} {did} {something}.",
    "{someone} {moved} {how} {somewhere}.",
    "{someone} {moved}, and {someone} {did} {something}.",
    "{someone} {willing} {do} {something}.",
    "{someone} {willing} {do} {something} {somewhere}.",
    "did {someone} {do} {something} {when}?",
    "why did {someone} {do} {something}?",
    "where is {something}, {name}?",
    "who {did} {something} {somewhere}?",
    "{name}, please {do} {something}.",
    "please {do} {something}, and {do} {something}.",
    "{something} is {like}, but {something} is {like}.",
    "{something} was {how} {like} {when}.",
    "there are {number} {like} places {somewhere}.",
    "we {did} {number} pictures of {something}.",
    "{name} and {name} {moved} {how}, {when}.",
    "{thing}, {thing} and {thing}: {someone} {did} them all.",
    "{number}, {number}, {number}, {number}.",
    "what {like} weather {somewhere}, said {someone}.",
    "if {someone} {moved}, {someone} {did} {something}.",
    "I have never seen {something} as {like} as {something}.",
    "they say that {someone} {how} {did} {something}.",
    "the {animal} and the {animal} {moved} {somewhere}.",
    "from the {place} to the {place} it is {number} miles.",
    "{how}, {someone} {moved} {somewhere}.",
)
