import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synthetic.espeak import ACCENTS, Espeak, PhonemeEvent
from training.synthetic.phonemes import (
    CLASS_INDEX,
    PHONEME_CLASSES,
    ClassSegment,
    class_segments,
    classes_at,
    frame_labels,
)
from training.synthetic.sentences import draw_sentence
from training.synthetic.voice.foreign_sentences import LANGUAGES, WRITTEN, words_of


def names_of(mnemonic, accent="en-us"):
    segments = class_segments([PhonemeEvent(mnemonic, 0.0, 0.2)], accent)
    return [PHONEME_CLASSES[segment.class_index].name for segment in segments]


def test_classes_have_distinct_names_and_shapes_in_range():
    assert len(CLASS_INDEX) == len(PHONEME_CLASSES) and 20 <= len(PHONEME_CLASSES) <= 45
    assert PHONEME_CLASSES[0].name == "sil"
    shapes = np.array([phoneme_class.mouth for phoneme_class in PHONEME_CLASSES])
    assert shapes.shape[1] == 4 and shapes.min() >= 0 and shapes.max() <= 1


def test_only_bilabials_close_the_lips():
    assert [phoneme_class.name for phoneme_class in PHONEME_CLASSES if phoneme_class.closure_share] == ["p", "b", "m"]


def test_monophthong_is_one_class_and_diphthong_two_halves():
    assert names_of("'A:") == ["aa"]
    assert names_of(",oU") == ["ao", "uw"]
    first, second = class_segments([PhonemeEvent("'aI", 1.0, 1.2)])
    assert (first.start_s, first.end_s, second.start_s, second.end_s) == (1.0, 1.1, 1.1, 1.2)
    assert first.stressed and second.stressed


def test_r_coloured_vowels_depend_on_the_accent():
    assert names_of("A@") == ["aa", "er"] and names_of("A@", "en-gb") == ["aa"]
    assert names_of("3") == ["er"] and names_of("3", "en-gb") == ["ax"]


def test_unknown_mnemonic_or_accent_is_refused():
    with pytest.raises(ValueError, match="`events` has the phoneme 'q!', which is not one of espeak-ng's for en-us"):
        class_segments([PhonemeEvent("q!", 0.0, 0.1)])
    with pytest.raises(ValueError, match="`accent` is 'xx', must be one of en-us, "):
        class_segments([PhonemeEvent("a", 0.0, 0.1)], "xx")


@pytest.mark.parametrize(
    ("language", "mnemonic", "classes"),
    [
        ("de", "y:", ["uw"]),
        ("de", "'Y:", ["uh"]),
        ("de", "pF", ["p", "f"]),
        ("de", "R", ["g"]),
        ("de", "C", ["hh"]),
        ("fr", "y", ["uw"]),
        ("fr", "'A~", ["ao"]),
        ("fr", "r", ["g"]),
        ("es", "B", ["v"]),
        ("es", "R2", ["d"]),
        ("es", "'eU", ["eh", "uw"]),
        ("cmn", "ph", ["p"]),
        ("cmn", "'iAu", ["iy", "aa", "uw"]),
        ("cmn", "51y", ["uw"]),
        ("cmn", "tS;h", ["ch"]),
        ("hi", "b#", ["b"]),
        ("hi", "'i~", ["iy"]),
        ("hi", "c#", ["ch"]),
    ],
)
def test_foreign_sounds_are_the_classes_that_look_alike(language, mnemonic, classes):
    assert names_of(mnemonic, language) == classes


def test_triphthong_is_three_equal_parts():
    parts = class_segments([PhonemeEvent("'iou", 1.0, 1.3)], "cmn")
    np.testing.assert_allclose([part.end_s for part in parts], [1.1, 1.2, 1.3])
    assert all(part.stressed for part in parts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_lips_meet_and_round_in_every_language(language):
    pytest.importorskip("espeakng_loader")
    # all sentences and words at once: a mnemonic that is not in the table would raise
    text = " ".join((*WRITTEN[language], *words_of(language)))
    found = class_segments(Espeak().say(text, language, rate_wpm=400).phonemes, language)
    names = {PHONEME_CLASSES[segment.class_index].name for segment in found}
    assert {"m", "s", "aa", "iy"} <= names and names & {"p", "b"} and names & {"uw", "uh", "w"}


def test_labels_are_those_at_the_centres_of_huberts_frames():
    # frame 4 covers samples 1280 to 1680: its centre is 0.0925 s
    boundary_s = 0.0925
    segments = [ClassSegment(5, 0.0, boundary_s), ClassSegment(7, boundary_s, 0.13)]
    np.testing.assert_array_equal(frame_labels(segments, 8), [5, 5, 5, 5, 7, 7, 0, 0])
    just_after = [ClassSegment(5, 0.0, boundary_s + 1e-5), ClassSegment(7, boundary_s + 1e-5, 0.13)]
    assert frame_labels(just_after, 5)[4] == 5
    assert frame_labels(segments, 8).dtype == np.int16


@given(st.lists(st.tuples(st.integers(0, len(PHONEME_CLASSES) - 1), st.floats(0.01, 0.3)), min_size=1, max_size=20))
def test_every_time_has_the_class_of_its_segment(drawn):
    ends_s = np.cumsum([length for _, length in drawn])
    starts_s = np.concatenate([[0], ends_s[:-1]])
    segments = [
        ClassSegment(index, start, end) for (index, _), start, end in zip(drawn, starts_s, ends_s, strict=True)
    ]
    np.testing.assert_array_equal(classes_at(segments, (starts_s + ends_s) / 2), [index for index, _ in drawn])
    np.testing.assert_array_equal(classes_at(segments, np.array([-0.01, ends_s[-1] + 0.01])), [0, 0])


def test_labels_of_nothing_are_refused():
    with pytest.raises(ValueError, match="`segments` is empty"):
        frame_labels([], 4)


def test_every_class_occurs_in_a_few_hundred_sentences_of_every_accent():
    pytest.importorskip("espeakng_loader")
    espeak = Espeak()
    # many sentences at once, as that is faster; a mnemonic that is not in the table would raise
    text = [" ".join(draw_sentence(seed) for seed in range(start, start + 50)) for start in range(0, 300, 50)]
    for accent, paragraph in zip((name for name in ACCENTS if name.startswith("en")), text, strict=True):
        segments = class_segments(espeak.say(paragraph, accent, rate_wpm=400).phonemes, accent)
        missing = set(CLASS_INDEX) - {PHONEME_CLASSES[segment.class_index].name for segment in segments}
        # the West Midlands drop their h
        assert missing == ({"hh"} if accent == "en-gb-x-gbcwmd" else set()), accent
