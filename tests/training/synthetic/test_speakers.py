import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synthetic.espeak import ACCENTS
from training.synthetic.speakers import ACCENT_SHARES, HIGH_VARIANTS, LOW_VARIANTS, WORLD_SHARES, draw_speaker


@given(st.integers(0, 2**63), st.booleans())
def test_speakers_have_voices_that_espeak_takes(seed, is_feminine):
    speaker = draw_speaker(seed, is_feminine)
    assert speaker == draw_speaker(seed, is_feminine)
    assert speaker.accent in ACCENTS and speaker.voice.partition("+")[2] == speaker.variant
    assert speaker.variant in (HIGH_VARIANTS if is_feminine else ("", *LOW_VARIANTS))
    assert 80 <= speaker.rate_wpm <= 450 and 0 <= speaker.pitch <= 99 and 0 <= speaker.pitch_range <= 99
    assert speaker.language == "en"


def test_many_seeds_give_many_voices():
    speakers = [draw_speaker(seed, is_feminine=seed % 2 == 0) for seed in range(300)]
    assert len({speaker.voice for speaker in speakers}) > 60
    assert {speaker.accent for speaker in speakers} == set(ACCENT_SHARES)
    assert len({speaker.rate_wpm for speaker in speakers}) > 50


def test_a_third_of_the_world_speaks_other_languages_than_english():
    speakers = [draw_speaker(seed, seed % 2 == 0, WORLD_SHARES) for seed in range(600)]
    foreign = [speaker.language for speaker in speakers if speaker.language != "en"]
    assert set(foreign) == {"de", "fr", "es", "cmn", "hi"} and 0.25 < len(foreign) / len(speakers) < 0.42
    assert sum(WORLD_SHARES.values()) == pytest.approx(1)
