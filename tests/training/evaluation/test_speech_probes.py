import numpy as np
import pytest
import torch

from synthetic_media import write_audio
from training.data.draw import Draw
from training.evaluation import speech_probes
from training.evaluation.speech_probes import (
    LipTrack,
    as_table,
    features_by_name,
    lip_lags,
    probe_lips,
    probe_phonemes,
)
from training.synthetic.speech_dataset import log_bands, normalised, speak
from training.synthetic.voice.aligned_recording import AlignedRecording


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(speech_probes, "LINEAR_STEPS", 150)
    monkeypatch.setattr(speech_probes, "LIP_STEPS", 60)
    monkeypatch.setattr(speech_probes, "NUM_PLACES_WITHOUT_SPEECH", 3)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("voices"), []
    for number in range(6):
        spoken = speak(Draw(0, (number,)), 2.0, "train")
        write_audio(folder / f"{number}.wav", spoken.samples[None], 16_000, "pcm_s16le")
        found.append(AlignedRecording(folder / f"{number}.wav", str(number), "words", spoken.segments))
    return found


def bands(samples):
    return torch.from_numpy(log_bands(normalised(samples)))


def nothing(samples):
    return torch.zeros_like(bands(samples))


def test_spectrum_tells_more_of_phonemes_and_silence_than_nothing(recordings):
    found, chance = (probe_phonemes(hear, recordings[:4], recordings[4:]) for hear in (bands, nothing))
    assert set(found) == set(chance) and all(0 <= value <= 1 for value in found.values())
    assert found["accuracy"] > chance["accuracy"] + 0.15
    assert found["silence_found_10_db"] - found["speech_lost_10_db"] > 0.3
    assert chance["silence_found_10_db"] == chance["speech_lost_10_db"]


def loud_lips(rng, person="", late_by=0):
    loudness = np.repeat(rng.uniform(0, 1, 25), 2)
    samples = rng.normal(size=50 * 640) * np.repeat(loudness, 640) * 0.3
    lips = np.roll(np.stack((loudness, -loudness), axis=1), late_by, axis=0)
    return LipTrack(samples.astype(np.float32), lips.astype(np.float32), person)


def test_lips_that_follow_the_loudness_are_told_from_it_and_not_from_another_sound():
    rng = np.random.default_rng(0)
    found = probe_lips(bands, [loud_lips(rng) for _ in range(6)], [loud_lips(rng) for _ in range(3)])
    assert found["opening_r"] > 0.7 and found["width_r"] > 0.7
    assert abs(found["opening_r_other_sound"]) < 0.4 and abs(found["width_r_other_sound"]) < 0.4


def test_sound_that_is_off_is_found_by_person():
    rng = np.random.default_rng(1)
    lags = {"a": 0, "b": 0, "c": 4, "d": 0, "e": 0, "f": 0}
    found = lip_lags(bands, [loud_lips(rng, person, lag) for person, lag in lags.items() for _ in range(3)])
    assert {person: lag for person, (lag, _) in found.items()} == lags
    with pytest.raises(ValueError, match="`tracks` has 1 person, must have 2 at least"):
        lip_lags(bands, [loud_lips(rng, "a")])


def test_encoder_that_cannot_be_loaded_is_refused():
    with pytest.raises(ValueError, match="`audio_encoder` 'missing' cannot be loaded"):
        features_by_name(["missing"])


def test_table_has_a_column_for_each_encoder():
    table = as_table({"old": {"accuracy": 0.5}, "new": {"accuracy": 0.75}})
    assert table.splitlines() == ["| figure | old | new |", "|---|---|---|", "| accuracy | 0.500 | 0.750 |"]
