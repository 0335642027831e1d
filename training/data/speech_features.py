"""Audio features by any speech encoder of transformers, as they are stored in prepared data sets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from diffusers_dawn.records import Waveform
from diffusers_dawn.speech.features import extract_features

if TYPE_CHECKING:
    from transformers import PreTrainedModel, SequenceFeatureExtractor


class SpeechFeatures:
    """Compute the features of recordings.

    On a CPU the encoder runs in one thread, so that the numbers do not depend on how many cores there are.

    Args:
        name: As for `load_speech_encoder`.
        device: Where the encoder runs.

    Attributes:
        dim: Width of the features.

    Raises:
        ValueError: The encoder cannot be loaded.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu"):
        encoder, self._feature_extractor = load_speech_encoder(name)
        self._encoder = encoder.to(device)
        self.dim = int(encoder.config.hidden_size)

    def __call__(self, waveform: Waveform, num_frames: int) -> np.ndarray:
        """Compute the features of a recording.

        Args:
            waveform: The whole recording.
            num_frames: How many video frames it lasts.

        Returns:
            Float16 array (num_frames, dim).
        """
        with _one_thread(self._encoder.device):
            features = extract_features(waveform, self._encoder, self._feature_extractor, num_frames)
        return features.cpu().numpy().astype(np.float16)


def load_speech_encoder(name: str) -> "tuple[PreTrainedModel, SequenceFeatureExtractor]":
    """Load a speech encoder.

    Args:
        name: Folder or Hub id of a HuBERT, wav2vec2 or WavLM model with its feature extractor; or the output folder of
            `train_audio_encoder.py`, or of a saved pipeline, or its `audio_encoder` folder.

    Returns:
        The encoder in evaluation mode, and its feature extractor.

    Raises:
        ValueError: It cannot be loaded.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    name = _encoder_source(name)
    try:
        encoder = AutoModel.from_pretrained(name, trust_remote_code=False).eval()
        return encoder, AutoFeatureExtractor.from_pretrained(_extractor_source(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"`audio_encoder` {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error


def stored_encoder_name(name: str, folder: str | os.PathLike) -> str:
    """Say how a data set refers to its encoder.

    Args:
        name: As for `load_speech_encoder`.
        folder: The data set's folder.

    Returns:
        The Hub id, or the folder that holds the encoder itself: relative to the data set's folder if it lies inside,
        absolute otherwise.
    """
    path = Path(_encoder_source(name))
    if not path.is_dir():
        return name
    path, folder = path.resolve(), Path(folder).resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _encoder_source(name: str) -> str:
    """Where the encoder itself lies: a training's output folder, and a pipeline's, holds it as `audio_encoder/`."""
    folder, inside = Path(name), Path(name, "audio_encoder")
    is_output = (inside / "config.json").is_file() and not (folder / "config.json").is_file()
    return str(inside) if is_output else name


def _extractor_source(encoder: str) -> str:
    """Where an encoder's feature extractor lies: a pipeline's folder has it beside the encoder."""
    beside = Path(encoder).parent / "feature_extractor"
    is_alone = Path(encoder).is_dir() and not Path(encoder, "preprocessor_config.json").is_file()
    return str(beside) if is_alone and (beside / "preprocessor_config.json").is_file() else encoder


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
