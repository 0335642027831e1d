import sys

import numpy as np
import pytest

from diffusers_dawn.records import SAMPLE_RATE_HZ
from training.synthetic.espeak import ACCENTS, Espeak
from training.synthetic.speakers import HIGH_VARIANTS, LOW_VARIANTS

pytest.importorskip("espeakng_loader")

SENTENCE = "We saw my brother buy apples, and papa makes a movie."


@pytest.fixture(scope="module")
def espeak():
    return Espeak()


@pytest.fixture(scope="module")
def speech(espeak):
    return espeak.say(SENTENCE)


def level_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12)


def test_sound_is_float32_at_16_khz(speech):
    assert speech.waveform.sample_rate_hz == SAMPLE_RATE_HZ and speech.waveform.samples.dtype == np.float32
    assert 2 < speech.waveform.duration_s < 5
    assert 0.1 < np.abs(speech.waveform.samples).max() <= 1


def test_phonemes_cover_the_sound_in_order_without_gaps(speech):
    assert speech.phonemes[0].start_s == 0 and speech.phonemes[-1].end_s == speech.waveform.duration_s
    for event, following in zip(speech.phonemes, speech.phonemes[1:], strict=False):
        assert event.start_s < event.end_s == following.start_s


def test_phonemes_are_those_of_the_sentence(espeak):
    names = [event.name.lstrip("',") for event in espeak.say("Papa buys a boat.").phonemes]
    consonants = [name for name in names if name in list("pbtz")]
    assert consonants == ["p", "p", "b", "z", "b", "t"]


def test_words_begin_with_phonemes(speech):
    starts_s = {event.start_s for event in speech.phonemes}
    assert set(speech.word_starts_s) <= starts_s
    # "and papa" may be said as one
    assert len(SENTENCE.split()) - 1 <= len(speech.word_starts_s) <= len(SENTENCE.split())


def test_pause_is_silent_and_vowels_are_loud(espeak):
    speech = espeak.say("Papa, papa, papa.")

    def levels_db(names):
        events = [event for event in speech.phonemes if event.name.lstrip("',") in names]
        bounds = [np.array([event.start_s, event.end_s]) * SAMPLE_RATE_HZ for event in events]
        return [level_db(speech.waveform.samples[round(start) : round(end)]) for start, end in bounds]

    pauses, vowels = levels_db(("_", "_:")), levels_db(("A:",))
    assert len(vowels) == 3 and len(pauses) > 2
    assert max(pauses) < min(vowels) - 20


def test_plosives_begin_with_their_closure(espeak):
    speech = espeak.say("A happy puppy, a taxi, a cookie.")
    plosives = 0
    for before, event in zip(speech.phonemes, speech.phonemes[1:], strict=False):
        if event.name in ("p", "t", "k") and not before.name.startswith("_"):
            start, end = round(event.start_s * SAMPLE_RATE_HZ), round(event.end_s * SAMPLE_RATE_HZ)
            # a millisecond on either side for the resampling's filter
            closure, burst = (
                speech.waveform.samples[start + 16 : start + 400],
                speech.waveform.samples[start + 400 : end],
            )
            assert level_db(closure) < -60 < -45 < level_db(burst)
            assert level_db(speech.waveform.samples[start - 400 : start - 16]) > -40
            plosives += 1
    assert plosives >= 5


@pytest.mark.parametrize("voice", ["en-us+f3", "en-gb+m1"])
def test_same_request_gives_the_same_bytes_whatever_was_said_before(espeak, voice):
    # f3 breathes by a random generator, every voice's pitch flutters on between sentences
    first = espeak.say(SENTENCE, voice)
    espeak.say("Something else.", "en-us+croak")
    again = espeak.say(SENTENCE, voice)
    assert first.waveform.samples.tobytes() == again.waveform.samples.tobytes()
    assert first.phonemes == again.phonemes


def test_every_accent_and_variant_speaks(espeak):
    voices = [*ACCENTS, *(f"en-us+{variant}" for variant in (*LOW_VARIANTS, *HIGH_VARIANTS))]
    sounds = {espeak.say("Go on.", voice).waveform.samples.tobytes() for voice in voices}
    assert len(sounds) == len(voices)


def test_rate_and_pitch_change_the_sound(espeak):
    slow, fast = (espeak.say(SENTENCE, rate_wpm=rate_wpm).waveform for rate_wpm in (120, 240))
    assert slow.duration_s > 1.5 * fast.duration_s

    def pitch_hz(pitch):
        samples = espeak.say("Aah.", pitch=pitch, pitch_range=0).waveform.samples[2000:4000]
        correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :]
        return SAMPLE_RATE_HZ / (40 + correlation[40:300].argmax())

    assert pitch_hz(80) > 1.2 * pitch_hz(20)


@pytest.mark.parametrize("text", ["", "   ", "...", "?!"])
def test_text_without_words_is_refused(espeak, text):
    with pytest.raises(ValueError, match="`text` is .* must have a letter"):
        espeak.say(text)


def test_control_characters_are_refused(espeak):
    with pytest.raises(ValueError, match="control characters"):
        espeak.say("louder \x0150A please")


@pytest.mark.parametrize("voice", ["xx", "", "EN-US", "en-us+nobody", "en-us+", "en-us+../en"])
def test_unknown_voice_is_refused(espeak, voice):
    with pytest.raises(ValueError, match="`voice` is"):
        espeak.say("Hello.", voice)


@pytest.mark.parametrize(("name", "value"), [("rate_wpm", 20), ("rate_wpm", 900), ("pitch", -1), ("pitch_range", 100)])
def test_numbers_out_of_range_are_refused(espeak, name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value}, must be"):
        espeak.say("Hello.", **{name: value})


def test_failing_library_is_reported(espeak, tmp_path):
    (tmp_path / "voices" / "!v").mkdir(parents=True)
    broken = Espeak()
    broken._library = str(tmp_path / "missing.so")
    with pytest.raises(RuntimeError, match="espeak-ng failed: .*missing.so"):
        broken.say("Hello.")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"speech needs espeak-ng: pip install diffusers_dawn\[synthetic\]"):
        Espeak()
