import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech.arriving import ArrivingSpeech
from diffusers_dawn.speech.features import extract_features

FRAME = 640


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(4,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    return HubertModel(config).eval(), Wav2Vec2FeatureExtractor(do_normalize=True)


def noise(num_frames: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, num_frames * FRAME).astype(np.float32)


def heard(parts, samples: np.ndarray) -> ArrivingSpeech:
    speech = ArrivingSpeech(16_000, *parts)
    speech.add(samples)
    speech.features(len(samples) // FRAME - 2, len(samples) // FRAME)
    return speech


def test_features_are_those_of_a_recording_of_the_same_loudness(parts):
    speech, samples = ArrivingSpeech(16_000, *parts), noise(40)
    speech.add(samples)
    found = speech.features(0, 40)
    samples = (samples - samples.mean()) / samples.std()
    speech_alone = extract_features(Waveform(samples, 16_000), *parts, 40)
    assert found.shape == (40, 8)
    # the loudness that a stream begins with still counts
    assert speech.level == pytest.approx(0.1, rel=0.35)
    assert (found - speech_alone).abs().mean() < 0.1 * speech_alone.std()


def test_features_do_not_depend_on_the_pieces_in_which_speech_came(parts):
    whole, bits, samples = ArrivingSpeech(16_000, *parts), ArrivingSpeech(16_000, *parts), noise(20)
    whole.add(samples)
    for bit in np.array_split(samples, 33):
        bits.add(bit)
    assert torch.equal(whole.features(3, 20), bits.features(3, 20))


@pytest.mark.parametrize("room", [0.0, 0.002])
def test_silence_stays_silent_however_long_it_lasts(parts, room):
    before = heard(parts, noise(50)).level
    assert heard(parts, np.concatenate((noise(50), noise(3000, room)))).level == before


def test_loudness_follows_the_voice(parts):
    loud, soft = (heard(parts, noise(750, level)).level for level in (0.2, 0.02))
    assert loud == pytest.approx(0.2, rel=0.05) and soft == pytest.approx(0.02, rel=0.3)


def test_noise_is_not_made_as_loud_as_speech(parts):
    assert heard(parts, noise(2000, 0.004)).level >= 0.01


def test_constant_offset_of_a_microphone_is_no_sound(parts):
    assert heard(parts, noise(100) + np.float32(0.3)).level == pytest.approx(heard(parts, noise(100)).level, rel=1e-3)


def test_extractor_that_does_not_normalise_hears_the_samples_as_they_are(parts):
    encoder, extractor = parts[0], Wav2Vec2FeatureExtractor(do_normalize=False)
    speech = ArrivingSpeech(16_000, encoder, extractor)
    speech.add(noise(10))
    assert torch.equal(speech.features(0, 10), extract_features(Waveform(noise(10), 16_000), encoder, extractor, 10))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100])
def test_sound_of_frames_fits_together_at_any_rate(parts, rate_hz):
    speech = ArrivingSpeech(rate_hz, *parts)
    speech.add(noise(200)[: 2 * rate_hz])
    sound = np.concatenate([speech.samples(frame, frame + 1) for frame in range(50)])
    assert np.array_equal(sound, noise(200)[: 2 * rate_hz])
    assert speech.features(10, 50).shape == (40, 8)


def test_forgotten_sound_is_no_longer_held(parts):
    speech = heard(parts, noise(50))
    speech.forget(40)
    assert (speech.num_held, speech.num_samples) == (10 * FRAME, 50 * FRAME)
    with pytest.raises(ValueError, match="are not held"):
        speech.features(30, 50)
