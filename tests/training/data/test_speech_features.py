import shutil

import numpy as np
import pytest
import torch

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech.features import extract_features
from synthetic_media import tone
from training.data.speech_features import SpeechFeatures, load_speech_encoder, stored_encoder_name


@pytest.fixture(scope="module")
def encoder_folder(tiny_pipeline_folder, tmp_path_factory):
    from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline

    pipe = DAWNPipeline.from_pretrained(tiny_pipeline_folder)
    folder = tmp_path_factory.mktemp("encoder")
    pipe.audio_encoder.save_pretrained(folder)
    pipe.feature_extractor.save_pretrained(folder)
    return folder


def test_features_are_those_of_the_pipeline_in_half_precision(encoder_folder):
    features = SpeechFeatures(str(encoder_folder))
    waveform = Waveform(tone(duration_s=2.0), 16_000)
    encoder, extractor = load_speech_encoder(str(encoder_folder))
    made = features(waveform, 50)
    assert made.shape == (50, features.dim) and made.dtype == np.float16
    expected = extract_features(waveform, encoder, extractor, 50).numpy()
    # float16 keeps 11 bits
    np.testing.assert_allclose(made, expected, rtol=2**-10, atol=1e-4)


def test_features_do_not_depend_on_the_number_of_threads(encoder_folder):
    features, waveform = SpeechFeatures(str(encoder_folder)), Waveform(tone(duration_s=2.0), 16_000)
    num_threads = torch.get_num_threads()
    try:
        made = []
        for count in (1, 2):
            torch.set_num_threads(count)
            made.append(features(waveform, 50))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(num_threads)
    np.testing.assert_array_equal(*made)


def test_folder_of_a_pipeline_stands_for_the_encoder_in_it(encoder_folder, tiny_pipeline_folder):
    waveform = Waveform(tone(duration_s=1.0), 16_000)
    expected = SpeechFeatures(str(encoder_folder))(waveform, 25)
    for folder in (tiny_pipeline_folder, f"{tiny_pipeline_folder}/audio_encoder"):
        np.testing.assert_array_equal(SpeechFeatures(str(folder))(waveform, 25), expected)


def test_a_folder_without_an_encoder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=rf"`audio_encoder` '{tmp_path}' cannot be loaded: "):
        SpeechFeatures(str(tmp_path))


def test_an_encoder_inside_the_data_set_is_stored_by_its_relative_path(tmp_path):
    (tmp_path / "data" / "audio_encoder").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    assert stored_encoder_name(str(tmp_path / "data" / "audio_encoder"), tmp_path / "data") == "audio_encoder"
    assert stored_encoder_name(str(tmp_path / "elsewhere"), tmp_path / "data") == str(tmp_path / "elsewhere")
    assert stored_encoder_name("facebook/hubert-base-ls960", tmp_path) == "facebook/hubert-base-ls960"


def test_output_folder_of_a_training_stands_for_the_encoder_in_it(encoder_folder, tmp_path):
    run = tmp_path / "data" / "run"
    shutil.copytree(encoder_folder, run / "audio_encoder")
    waveform = Waveform(tone(duration_s=1.0), 16_000)
    made, expected = (SpeechFeatures(str(folder))(waveform, 25) for folder in (run, encoder_folder))
    np.testing.assert_array_equal(made, expected)
    assert stored_encoder_name(str(run), tmp_path / "data") == "run/audio_encoder"
    assert stored_encoder_name(str(run), tmp_path / "other") == str(run / "audio_encoder")


def test_an_encoder_is_itself_even_if_another_lies_inside(encoder_folder, tmp_path):
    outer = tmp_path / "outer"
    shutil.copytree(encoder_folder, outer)
    shutil.copytree(encoder_folder, outer / "audio_encoder")
    assert stored_encoder_name(str(outer), tmp_path) == "outer"
