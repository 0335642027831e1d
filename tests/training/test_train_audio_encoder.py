from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech.features import extract_features
from synthetic_media import write_audio
from training.data.draw import Draw
from training.engine.checkpoints import list_checkpoints
from training.engine.loop import train
from training.synthetic.phonemes import PHONEME_CLASSES, SILENCE_INDEX
from training.synthetic.speech_dataset import SpokenPhonemes, log_bands, normalised, speak
from training.synthetic.voice.aligned_recording import AlignedRecording, write_aligned
from training.train_audio_encoder import AudioEncoderConfig, AudioEncoderStage

MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
}


@pytest.fixture
def config(tmp_path) -> AudioEncoderConfig:
    return AudioEncoderConfig(
        output_dir=str(tmp_path / "out"),
        model=MODEL,
        clips_per_epoch=4,
        seconds=1.0,
        train_batch_size=2,
        max_train_steps=2,
        checkpointing_steps=1,
        num_validation_clips=2,
        report_to="none",
    )


def run(config: AudioEncoderConfig) -> AudioEncoderStage:
    stage = AudioEncoderStage(config)
    train(stage, config)
    return stage


def test_result_is_an_encoder_that_the_package_takes(config):
    run(config)
    folder = Path(config.output_dir, "audio_encoder")
    encoder, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    samples = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1
    assert extract_features(Waveform(samples, 16_000), encoder, extractor, 25).shape == (25, 32)


def test_resume_equals_the_uninterrupted_run(config, tmp_path):
    run(config)
    last = list_checkpoints(Path(config.output_dir))[-1]
    last.rename(tmp_path / "first")
    run(replace(config, resume_from_checkpoint="latest"))
    first, second = (
        load_file(folder / "phoneme_model" / "model.safetensors") for folder in (tmp_path / "first", last)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_validation_reports_accuracy_clean_noisy_and_by_chance(config):
    found = AudioEncoderStage(config).validate().metrics
    names = {"clean", "clean_speech_only", "augmented", "noise_20_db", "noise_10_db", "noise_0_db"}
    assert set(found) == {f"accuracy_{name}" for name in names} | {"share_of_commonest"}
    assert all(0 <= value <= 1 for value in found.values())


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    """Recordings of two speakers with labels that fit: synthetic voices."""
    folder = tmp_path_factory.mktemp("real")
    for number, speaker in enumerate(("a", "b")):
        spoken = speak(Draw(0, (number,)), 2.0, "train")
        path = folder / f"{speaker}.wav"
        write_audio(path, spoken.samples[None], 16_000, "pcm_s16le")
        write_aligned(folder / f"{speaker}.npz", AlignedRecording(path, speaker, "words", spoken.segments))
    return folder


def test_real_voices_are_learned_and_held_out_ones_measured(config, labels):
    stage = run(replace(config, aligned_speech=[str(labels)], held_out_speakers=["b"], real_share=1.0))
    sample = stage.samples()[Draw(0, (1,))]
    assert sample["samples"].shape == (16_000,) and (sample["phonemes"] != SILENCE_INDEX).any()
    found = stage.validate().metrics
    assert {"real_accuracy_clean", "real_accuracy_clean_speech_only", "real_accuracy_noise_0_db"} <= set(found)
    assert [one.speaker for one in stage.voices.train] == ["a"] and found["real_share_of_commonest"] > 0


def test_bands_tell_how_loud_the_speech_is_without_its_noise():
    rng = np.random.default_rng(0)
    quiet_then_loud = np.concatenate((np.zeros(8_000), rng.normal(size=8_000))).astype(np.float32)
    bands = log_bands(quiet_then_loud)
    assert bands.shape == (49, 40) and bands[:23].max() == -4
    # white noise of energy 1 has energy 1 in every band
    assert np.abs(bands[27:].mean(axis=0)).max() < 0.35
    tone_hz = 1_000
    heard = log_bands(np.sin(2 * np.pi * tone_hz * np.arange(16_000) / 16_000).astype(np.float32))
    # slaney's scale is linear up to 1 kHz, and has 15 of its units there of 45.2 up to 8 kHz
    assert abs(int(heard.mean(axis=0).argmax()) - 15 / 45.2 * 41) <= 1


def test_nobody_speaks_in_some_clips_though_they_are_loud():
    samples = SpokenPhonemes(1, 1.0, 1.0)
    silent = [clip for clip in (samples[Draw(0, (seed,))] for seed in range(40)) if not clip["phonemes"].any()]
    assert 1 <= len(silent) <= 12
    for clip in silent:
        assert float(clip["samples"].std()) == pytest.approx(1, abs=0.01) and bool((clip["bands"] == -4).all())


def test_frozen_convolutions_stay_and_the_others_learn(config, tmp_path):
    first = AudioEncoderStage(config).model
    first.save_pretrained(tmp_path / "first")
    changes = {"pretrained_model": str(tmp_path / "first"), "frozen_convolutions": 2, "model": {}}
    learned = run(replace(config, **changes)).model.hubert.feature_extractor.conv_layers
    moved = [
        not torch.equal(before.conv.weight, after.conv.weight)
        for before, after in zip(first.hubert.feature_extractor.conv_layers, learned, strict=True)
    ]
    assert moved == [False, False, True, True, True, True, True]


def test_encoder_that_ships_in_half_precision_goes_on_in_full(config, tmp_path):
    AudioEncoderStage(config).model.hubert.half().save_pretrained(tmp_path / "shipped")
    stage = AudioEncoderStage(replace(config, model={}, pretrained_model=str(tmp_path / "shipped")))
    assert {weight.dtype for weight in stage.model.parameters()} == {torch.float32}
    assert stage.model.lm_head.out_features == len(PHONEME_CLASSES) + 40


@pytest.mark.slow
def test_two_clips_are_learned_by_heart(config):
    stage = AudioEncoderStage(replace(config, model=MODEL | {"num_hidden_layers": 2}))
    samples = SpokenPhonemes(2, 1.0, 0.0)
    parts = [samples[Draw(index, (index,))] for index in range(2)]
    batch = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    objective = stage.objectives["phoneme_model"]
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for _ in range(150):
        terms = objective(batch, 0.0)
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    commonest = max(np.bincount(batch["phonemes"].flatten()) / batch["phonemes"].numel())
    assert terms["accuracy"] > 0.9 > 1.5 * commonest


@pytest.mark.parametrize("is_pretrained", [False, True])
def test_everything_that_is_trained_gets_a_gradient(config, tmp_path, is_pretrained):
    if is_pretrained:
        AudioEncoderStage(config).model.save_pretrained(tmp_path / "first")
        config = replace(config, model={}, pretrained_model=str(tmp_path / "first"))
    stage = AudioEncoderStage(config)
    sample = SpokenPhonemes(1, 1.0, 0.0)[Draw(0, (3,))]
    stage.objectives["phoneme_model"]({name: part[None] for name, part in sample.items()}, 0.0)["loss"].backward()
    without = [name for name, weight in stage.model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []


def test_mask_is_trained_where_time_is_masked(config):
    config = replace(config, model=MODEL | {"apply_spec_augment": True})
    assert AudioEncoderStage(config).model.hubert.masked_spec_embed.requires_grad


def test_labels_lie_on_the_frames_of_the_encoder(config):
    sample = SpokenPhonemes(1, 1.0, 0.0)[Draw(0, (3,))]
    logits = AudioEncoderStage(config).model(sample["samples"][None]).logits
    assert logits.shape[1] == len(sample["phonemes"]) == 49
    assert (sample["phonemes"] != SILENCE_INDEX).any()


def test_normalisation_is_that_of_the_feature_extractor():
    samples = np.random.default_rng(1).normal(0.1, 0.3, 4_000).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np").input_values[0]
    np.testing.assert_allclose(normalised(samples), expected, atol=1e-5)


def test_same_draw_is_the_same_sample_and_another_is_not():
    samples = SpokenPhonemes(4, 1.0, 1.0)
    first, again, other = (samples[Draw(0, seed)] for seed in ((1,), (1,), (2,)))
    assert torch.equal(first["samples"], again["samples"]) and torch.equal(first["phonemes"], again["phonemes"])
    assert not torch.equal(first["samples"], other["samples"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": "clips"}, "`dataset` is 'clips', must be 'synthetic speech'"),
        ({"seconds": 0.5}, r"`seconds` \(0.5\) must be at least 1"),
        ({"augment_share": 2.0}, r"`augment_share` is 2.0, must be in \[0, 1\]"),
        ({"real_share": -0.1}, r"`real_share` is -0.1, must be in \[0, 1\]"),
        ({"spectrum_weight": -1.0}, "`spectrum_weight` is -1.0, must not be negative"),
        ({"held_out_speakers": ["a"]}, "`held_out_speakers` are those of `aligned_speech`, which is empty"),
        ({"frozen_convolutions": 2}, "`frozen_convolutions` is 2, must be 0, or at most 7 with `pretrained_model`"),
        ({"frozen_convolutions": 8, "pretrained_model": "x"}, "`frozen_convolutions` is 8, must be 0, or at most 7"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` is 1.0, must be in \[0, 1\)"),
    ],
)
def test_bad_setting_is_refused(config, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(config, **changes)


def test_unknown_size_is_refused(config):
    with pytest.raises(ValueError, match="`model` has unknown key.* hidden_sise"):
        AudioEncoderStage(replace(config, model={"hidden_sise": 3}))
    with pytest.raises(ValueError, match="`model` must be empty with `pretrained_model`"):
        AudioEncoderStage(replace(config, pretrained_model="somewhere"))
