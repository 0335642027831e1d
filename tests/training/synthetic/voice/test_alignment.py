import sys

import numpy as np
import pytest

from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from diffusers_dawn.speech.alignment import AlignmentRefused
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import PHONEME_CLASSES, class_segments, frame_labels
from training.synthetic.voice.alignment import Aligner

pytest.importorskip("pocketsphinx")
pytest.importorskip("espeakng_loader")

SENTENCE = "My mother baked a big apple pie for both of my brothers."


@pytest.fixture(scope="module")
def aligner():
    return Aligner()


@pytest.fixture(scope="module")
def speech():
    return Espeak().say(SENTENCE, rate_wpm=170)


@pytest.fixture(scope="module")
def segments(aligner, speech):
    return aligner.align(speech.waveform, SENTENCE)


def names(segments):
    return [PHONEME_CLASSES[segment.class_index].name for segment in segments]


def test_most_frames_have_the_phoneme_that_sounds(speech, segments):
    num_labels = int(speech.waveform.duration_s * 50) - 1
    truth = frame_labels(class_segments(speech.phonemes), num_labels)
    # a synthetic voice is not what pocketsphinx learned from; chance is below 0.1
    assert np.mean(frame_labels(segments, num_labels) == truth) > 0.6


def test_closures_are_found_within_two_frames_of_their_time(speech, segments):
    def starts_s(of):
        return [s.start_s for s, name in zip(of, names(of), strict=True) if name in ("m", "b", "p")]

    truth, found = starts_s(class_segments(speech.phonemes)), starts_s(segments)
    assert len(found) == len(truth) == 9
    assert np.median(np.abs(np.subtract(found, truth))) < 0.02 and np.abs(np.subtract(found, truth)).max() < 0.1


def test_segments_cover_the_recording_without_gaps(speech, segments):
    assert segments[0].start_s == 0 and segments[-1].end_s == speech.waveform.duration_s
    for segment, following in zip(segments, segments[1:], strict=False):
        assert segment.start_s < segment.end_s == following.start_s


def test_stress_and_schwa_are_those_of_the_words(segments):
    spoken = [name for name in names(segments) if name != "sil"]
    stressed = [PHONEME_CLASSES[s.class_index].name for s in segments if s.stressed]
    # the vowels of "mother", "apple", "both"; "a" and "of" are schwas, which the dictionary does not tell
    assert {"ah", "ae", "ao"} <= set(stressed)
    assert "ax" in spoken and "ax" not in stressed
    assert spoken[:4] == ["m", "aa", "iy", "m"]


def test_same_recording_gives_the_same_times_whatever_was_heard_before(aligner, speech, segments):
    aligner.align(Espeak().say("How now, said the owl.").waveform, "How now, said the owl.")
    assert aligner.align(speech.waveform, SENTENCE) == segments


@pytest.mark.parametrize("voice", ["en-us+m3", "en-us+steph"])
def test_digital_silence_does_not_hinder(aligner, voice):
    # both voices failed without the faint noise that the aligner adds
    samples = Espeak().say(SENTENCE, voice, rate_wpm=150).waveform.samples
    silent = np.zeros(8_000, np.float32)
    found = aligner.align(Waveform(np.concatenate((silent, samples, silent)), SAMPLE_RATE_HZ), SENTENCE)
    assert names(found)[0] == "sil" and found[0].end_s == pytest.approx(0.5, abs=0.08)


def test_word_that_the_dictionary_lacks_is_aligned(aligner):
    # neither name is in the dictionary
    text = "My brother Zoobadoo saw Plimbary in the garden."
    found = aligner.align(Espeak().say(text, rate_wpm=150).waveform, text)
    assert " ".join(names(found)).replace("sil ", "").count("z uw b") == 1


def test_other_words_are_refused(aligner, speech):
    with pytest.raises(AlignmentRefused):
        aligner.align(speech.waveform, "Why do whales sing, and who do they think will hear them in the cold sea?")


def test_noise_without_words_is_refused(aligner):
    noise = np.random.default_rng(0).normal(size=3 * SAMPLE_RATE_HZ).astype(np.float32) * 0.1
    with pytest.raises(AlignmentRefused):
        aligner.align(Waveform(noise, SAMPLE_RATE_HZ), SENTENCE)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r"alignment needs pocketsphinx: pip install diffusers_dawn\[align\]"):
        Aligner()
