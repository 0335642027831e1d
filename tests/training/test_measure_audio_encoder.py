import pytest
from tiny_clips import write_tiny_data_set
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from synthetic_media import write_audio
from training.data.draw import Draw
from training.evaluation import speech_probes
from training.measure_audio_encoder import main
from training.synthetic.speech_dataset import speak
from training.synthetic.voice.aligned_recording import AlignedRecording, write_aligned

pytest.importorskip("espeakng_loader")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A command that measures an untrained encoder on two voices, one of which is held out."""
    monkeypatch.setattr(speech_probes, "LINEAR_STEPS", 5)
    monkeypatch.setattr(speech_probes, "LIP_STEPS", 2)
    monkeypatch.setattr(speech_probes, "NUM_PLACES_WITHOUT_SPEECH", 1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    HubertModel(HubertConfig(conv_dim=(8,) * 7, **sizes)).save_pretrained(tmp_path / "encoder")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "encoder")
    (tmp_path / "labels").mkdir()
    for speaker in ("a", "b"):
        spoken = speak(Draw(0, (ord(speaker),)), 1.0, "train")
        path = tmp_path / f"{speaker}.wav"
        write_audio(path, spoken.samples[None], 16_000, "pcm_s16le")
        write_aligned(
            tmp_path / "labels" / f"{speaker}.npz", AlignedRecording(path, speaker, "words", spoken.segments)
        )
    encoder, labels = str(tmp_path / "encoder"), str(tmp_path / "labels")
    return ["--audio_encoder", encoder, "--aligned_speech", labels, "--held_out_speakers", "b"]


def test_tables_show_each_encoder_beside_the_spectrum(asked, tmp_path, capsys):
    data = write_tiny_data_set(tmp_path / "clips", 3, 2)
    assert main([*asked, "--dataset", str(data)]) == 0
    printed = capsys.readouterr().out
    assert f"| figure | log-mel | {tmp_path / 'encoder'} |" in printed
    assert "Phonemes: 1 recordings of 1 held-out speakers" in printed
    for figure in ("accuracy", "accuracy_0_db", "silence_in_noise", "opening_r", "width_r_other_sound"):
        assert f"| {figure} |" in printed


def test_speaker_that_is_not_there_is_refused(asked, capsys):
    assert main([*asked[:-1], "nobody"]) == 2
    assert "`held_out_speakers` has 'nobody', must be speakers of" in capsys.readouterr().err
