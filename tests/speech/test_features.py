import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech import features as speech_features
from diffusers_dawn.speech.features import extract_features, hidden_states, num_video_frames

TINY = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "conv_dim": (4,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
FAMILIES = {
    "hubert": (HubertModel, HubertConfig),
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config),
    "wavlm": (WavLMModel, WavLMConfig),
}


def make_encoder(family: str = "hubert", **options):
    model, config = FAMILIES[family]
    torch.manual_seed(0)
    return model(config(**TINY | options)).eval()


def make_extractor(**options) -> Wav2Vec2FeatureExtractor:
    return Wav2Vec2FeatureExtractor(**{"do_normalize": True, "return_attention_mask": True} | options)


def make_waveform(num_samples: int, sample_rate_hz: int = 16_000, seed: int = 0) -> Waveform:
    samples = np.random.default_rng(seed).normal(0.1, 0.2, num_samples).astype(np.float32)
    return Waveform(samples, sample_rate_hz)


@pytest.fixture(scope="module")
def hubert():
    return make_encoder()


def test_frames_are_counted_at_25_per_second_and_never_zero():
    assert num_video_frames(16_000, 16_000) == 25
    assert num_video_frames(692_800, 16_000) == 1082
    assert num_video_frames(44_100 * 10, 44_100) == 250
    # a hair short of a frame is that frame
    assert num_video_frames(15_999, 16_000) == 25
    assert num_video_frames(1, 16_000) == 1


@settings(max_examples=25)
@given(num_samples=st.integers(1, 3000))
def test_number_of_hidden_frames_follows_from_the_samples(hubert, num_samples):
    hidden = hidden_states(make_waveform(num_samples), hubert, make_extractor())
    assert hidden.shape == (max(1, (num_samples - 80) // 320), 8)
    assert hidden.isfinite().all()


# hops of 10 frames here: tails of no sample, of less than a frame, of one frame exactly
@pytest.mark.parametrize("tail", [0, 1, 79, 80, 399, 400, 401, 1000])
def test_pieces_have_the_frames_of_one_run_whatever_the_tail(hubert, monkeypatch, tail):
    waveform = make_waveform(3 * 3200 + tail)
    values = make_extractor()(waveform.samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = hubert.feature_extractor(values).shape[-1]
    monkeypatch.setattr(speech_features, "FRAMES_PER_PIECE", 10)
    hidden = hidden_states(waveform, hubert, make_extractor())
    assert len(hidden) == expected == (len(waveform.samples) - 80) // 320


def test_second_piece_starts_where_the_published_one_does(hubert, monkeypatch):
    waveform = make_waveform(8000)
    whole = make_extractor()(waveform.samples, sampling_rate=16_000, return_tensors="pt").input_values
    monkeypatch.setattr(speech_features, "FRAMES_PER_PIECE", 10)
    hidden = hidden_states(waveform, hubert, make_extractor())
    with torch.no_grad():
        pieces = [hubert(whole[:, start:stop]).last_hidden_state[0] for start, stop in ((0, 3280), (3200, 6480))]
    torch.testing.assert_close(hidden[:20], torch.cat(pieces))


def patched_states(monkeypatch, encoder, waveform, frames_per_piece, published_frames, shared_frames=0):
    monkeypatch.setattr(speech_features, "FRAMES_PER_PIECE", frames_per_piece)
    monkeypatch.setattr(speech_features, "PUBLISHED_FRAMES", published_frames)
    monkeypatch.setattr(speech_features, "SHARED_FRAMES", shared_frames)
    return hidden_states(waveform, encoder, make_extractor())


@pytest.mark.parametrize("num_hidden", [120, 121])
def test_pieces_overlap_only_in_recordings_longer_than_a_minute(monkeypatch, hubert, num_hidden):
    waveform = make_waveform(80 + 320 * num_hidden)
    published = patched_states(monkeypatch, hubert, waveform, 40, 10_000)
    found = patched_states(monkeypatch, hubert, waveform, 40, 120, shared_frames=16)
    assert len(found) == num_hidden
    assert torch.equal(found, published) == (num_hidden == 120)


def test_frames_of_long_recordings_are_nearly_those_of_one_piece_also_where_pieces_meet(monkeypatch):
    encoder = make_encoder(num_conv_pos_embeddings=8, initializer_range=0.05)
    waveform = make_waveform(80 + 320 * 400)
    one = patched_states(monkeypatch, encoder, waveform, 1000, 1000)
    cut, blended = (
        (patched_states(monkeypatch, encoder, waveform, *sizes) - one).square().mean(1).sqrt()
        for sizes in ((40, 10_000), (40, 120, 16))
    )
    # features of order 1; attention hears 40 frames instead of 400
    assert blended.max() < 0.2
    assert blended.mean() < 0.05
    # pieces of 40 frames start every 24, their overlaps have their middles 8 after that
    where_blended = [first + offset for first in range(24, 400 - 16, 24) for offset in range(6, 10)]
    where_cut = [first + offset for first in range(40, 400, 40) for offset in range(-2, 2)]
    assert blended[where_blended].mean() < 1.2 * blended.mean()
    assert cut[where_cut].mean() > 3 * cut.mean()


def test_last_piece_of_a_long_recording_is_as_long_as_the_others(monkeypatch, hubert):
    heard = []
    handle = hubert.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape[1]))
    patched_states(monkeypatch, hubert, make_waveform(80 + 320 * 129), 40, 120, shared_frames=16)
    handle.remove()
    assert set(heard) == {400 + 39 * 320}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("with_attention_mask", [False, True])
def test_every_family_of_encoders_gives_features_of_its_width(family, with_attention_mask):
    encoder = make_encoder(family, hidden_size=12)
    extractor = make_extractor(return_attention_mask=with_attention_mask)
    features = extract_features(make_waveform(16_000), encoder, extractor, num_frames=25)
    assert features.shape == (25, 12)
    assert features.dtype == torch.float32


def test_encoder_with_other_strides_is_cut_by_its_own():
    encoder = make_encoder(conv_dim=(4, 4), conv_kernel=(10, 4), conv_stride=(8, 4))
    # reach 10 + 3·8 = 34, stride 32
    assert len(hidden_states(make_waveform(34 + 32 * 9), encoder, make_extractor())) == 10
    assert len(hidden_states(make_waveform(34 + 32 * 9 - 1), encoder, make_extractor())) == 9
    # more than one piece of 1000 frames
    assert len(hidden_states(make_waveform(34 + 32 * 1499), encoder, make_extractor())) == 1500


@pytest.mark.parametrize("num_frames", [1, 2, 7, 49, 200])
def test_interpolation_aligns_both_ends(hubert, num_frames):
    waveform = make_waveform(16_000)
    hidden = hidden_states(waveform, hubert, make_extractor())
    features = extract_features(waveform, hubert, make_extractor(), num_frames)
    expected = torch.nn.functional.interpolate(
        hidden.double().t()[None], size=num_frames, mode="linear", align_corners=True
    )
    torch.testing.assert_close(features.double(), expected[0].t(), atol=1e-5, rtol=1e-5)  # float32 of order 1
    assert torch.equal(features[0], hidden[0])


@pytest.mark.parametrize("num_samples", [1, 2, 399, 400, 640])
def test_short_clip_gives_one_frame_or_more(hubert, num_samples):
    features = extract_features(make_waveform(num_samples), hubert, make_extractor(), num_frames=1)
    assert features.shape == (1, 8)
    assert features.isfinite().all()


def test_silence_gives_finite_features(hubert):
    features = extract_features(Waveform(np.zeros(8000, np.float32), 16_000), hubert, make_extractor(), 12)
    assert features.isfinite().all()


def test_loudness_does_not_matter_because_the_whole_recording_is_normalised(hubert):
    waveform = make_waveform(16_000)
    quiet = Waveform(waveform.samples * 0.1, 16_000)
    expected = hidden_states(waveform, hubert, make_extractor())
    # the variance is stabilised by 1e-7, of a variance of 4e-4
    torch.testing.assert_close(hidden_states(quiet, hubert, make_extractor()), expected, atol=2e-3, rtol=0)


def test_other_sample_rate_is_resampled_to_that_of_the_feature_extractor(hubert):
    assert len(hidden_states(make_waveform(44_100, 44_100), hubert, make_extractor())) == 49
    extractor = make_extractor(sampling_rate=8000)
    assert len(hidden_states(make_waveform(16_000), hubert, extractor)) == (8000 - 80) // 320


def test_half_precision_encoder_gives_float_features():
    encoder = make_encoder().to(torch.bfloat16)
    features = extract_features(make_waveform(16_000), encoder, make_extractor(), 25)
    assert features.dtype == torch.float32
    # bfloat16 has 8 bits: a few hundredths of outputs of order 1
    expected = extract_features(make_waveform(16_000), make_encoder(), make_extractor(), 25)
    torch.testing.assert_close(features, expected, atol=0.15, rtol=0)


def test_features_carry_no_graph(hubert):
    assert not extract_features(make_waveform(800), hubert, make_extractor(), 2).requires_grad


@pytest.mark.parametrize("published_frames", [40, 10_000])
@pytest.mark.parametrize(("num_wanted", "num_heard"), [(1, 1), (20, 2), (60, 4)])
def test_first_frames_are_those_of_all_and_what_they_do_not_need_is_not_heard(
    hubert, monkeypatch, num_wanted, num_heard, published_frames
):
    monkeypatch.setattr(speech_features, "FRAMES_PER_PIECE", 30)
    monkeypatch.setattr(speech_features, "PUBLISHED_FRAMES", published_frames)
    monkeypatch.setattr(speech_features, "SHARED_FRAMES", 2)
    waveform, heard = make_waveform(80 + 320 * 120), []
    expected = extract_features(waveform, hubert, make_extractor(), 60)
    handle = hubert.register_forward_hook(lambda *_: heard.append(1))
    try:
        features = extract_features(waveform, hubert, make_extractor(), 60, num_wanted)
    finally:
        handle.remove()
    torch.testing.assert_close(features, expected[:num_wanted])
    # 120 frames of the encoder: pieces from 0, 30, 60 and 90, or, where they overlap, 0, 22, 45, 67 and 90
    assert len(heard) == (num_heard if num_wanted < 60 or published_frames == 10_000 else 5)


@pytest.mark.parametrize("num_wanted", [0, 3])
def test_more_frames_than_there_are_cannot_be_wanted(hubert, num_wanted):
    with pytest.raises(ValueError, match=rf"`num_wanted` is {num_wanted}, must be in \[1, 2\]"):
        extract_features(make_waveform(800), hubert, make_extractor(), 2, num_wanted)


def test_no_frames_is_an_error(hubert):
    with pytest.raises(ValueError, match="`num_frames` is 0"):
        extract_features(make_waveform(800), hubert, make_extractor(), 0)


@pytest.mark.parametrize("samples", [[], [0.0, np.nan], [np.inf]])
def test_empty_or_not_finite_waveform_is_an_error(hubert, samples):
    with pytest.raises(ValueError, match="`waveform` is empty or"):
        hidden_states(Waveform(np.array(samples, np.float32), 16_000), hubert, make_extractor())


def test_encoder_in_training_mode_is_an_error():
    with pytest.raises(ValueError, match="`encoder` is in training mode"):
        hidden_states(make_waveform(800), make_encoder().train(), make_extractor())


def test_model_without_convolutions_is_an_error():
    from transformers import BertConfig, BertModel

    bert = BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=5)
    )
    with pytest.raises(ValueError, match="`encoder` is a BertModel, must be a HubertModel"):
        hidden_states(make_waveform(800), bert.eval(), make_extractor())


def test_encoder_with_an_adapter_is_an_error():
    with pytest.raises(ValueError, match="has it an adapter"):
        hidden_states(make_waveform(16_000), make_encoder("wav2vec2", add_adapter=True), make_extractor())


@pytest.mark.parametrize("rate_hz", [0, -16_000, 10**9, "16000", 16_000.0, None])
def test_feature_extractor_of_an_impossible_rate_is_an_error(hubert, rate_hz):
    extractor = make_extractor()
    extractor.sampling_rate = rate_hz
    with pytest.raises(ValueError, match="`feature_extractor` has the sampling rate .*, must have a whole number"):
        hidden_states(make_waveform(1000), hubert, extractor)


def test_feature_extractor_that_makes_no_finite_samples_is_an_error(hubert):
    class Nothing(Wav2Vec2FeatureExtractor):
        def __call__(self, *_, **__):
            return {}

    nothing = Nothing()
    with pytest.raises(ValueError, match="`feature_extractor` must make finite `input_values`"):
        hidden_states(make_waveform(1000), hubert, nothing)
