"""Train a small HuBERT on synthetic speech, for where the published one cannot be had.

It learns which phoneme sounds in every 20 ms. Its hidden states then say what the lips need to know, and the result is
a folder of transformers that takes the place of `facebook/hubert-large-ls960-ft` everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import HubertConfig, HubertForCTC, Wav2Vec2FeatureExtractor

from training.data.draw import Draw
from training.engine import commands
from training.engine.config import TrainingConfig
from training.engine.loop import run_script
from training.evaluation.validation import Validation, mean_of_rows
from training.synthetic.audio_augmentation import add_noise, augment
from training.synthetic.phonemes import PHONEME_CLASSES, SILENCE_INDEX
from training.synthetic.speech_dataset import SpokenPhonemes, normalised, phonemes_of, speak

SPEECH = "synthetic speech"
# a few million parameters; widths grow where the frames have become few
SMALL_HUBERT = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": (48, 96, 96, 128, 128, 192, 192),
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
NOISES_DB = (20, 10, 0)


@dataclass(kw_only=True)
class AudioEncoderConfig(TrainingConfig):
    """Settings of the audio encoder's training, besides those of every training; `dataset` stays as it is.

    Attributes:
        clips_per_epoch: How many clips count as one pass over the data, which is endless.
        seconds: Length of a clip.
        augment_share: Share of clips that sound like recordings, the others are clean.
        label_smoothing: Share of probability spread over all phonemes, in [0, 1).
    """

    dataset: str = SPEECH
    clips_per_epoch: int = 1000
    seconds: float = 4.0
    augment_share: float = 0.7
    label_smoothing: float = 0.05
    num_validation_clips: int = 20

    def __post_init__(self) -> None:
        """Refuse values that no training can have."""
        super().__post_init__()
        if self.dataset != SPEECH:
            raise ValueError(f"`dataset` is {self.dataset!r}, must be {SPEECH!r}: the speech is made while training")
        if self.clips_per_epoch < 1 or self.seconds < 1:
            raise ValueError(
                f"`clips_per_epoch` ({self.clips_per_epoch}) and `seconds` ({self.seconds}) must be at least 1"
            )
        if not 0 <= self.augment_share <= 1:
            raise ValueError(f"`augment_share` is {self.augment_share}, must be in [0, 1]")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {self.label_smoothing}, must be in [0, 1)")


class PhonemeObjective(nn.Module):
    """Cross-entropy of the phoneme of every frame.

    Args:
        model: HuBERT with a linear layer on top.
        label_smoothing: Share of probability spread over all phonemes.
    """

    def __init__(self, model: HubertForCTC, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss on a batch of `SpokenPhonemes`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; not used.

        Returns:
            "accuracy", and "loss".
        """
        logits = self.model(batch["samples"]).logits.float()
        loss = functional.cross_entropy(logits.mT, batch["phonemes"], label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(dim=-1) == batch["phonemes"]).float().mean()
        return {"accuracy": accuracy, "loss": loss}


class AudioEncoderStage:
    """The audio encoder in training.

    Args:
        config: The settings.

    Raises:
        ValueError: A setting does not fit.
    """

    title = "Audio encoder"
    result = "audio_encoder"
    card = MappingProxyType({"library_name": "transformers", "pipeline_tag": "feature-extraction"})
    usage = 'from transformers import AutoModel\n\nencoder = AutoModel.from_pretrained("{repository}")'
    averaged = ("phoneme_model",)
    frozen = ()

    def __init__(self, config: AudioEncoderConfig) -> None:
        self.config = config
        self.model = _build_model(config.model, config.pretrained_model, config.seed)
        if not self.model.config.apply_spec_augment and hasattr(self.model.hubert, "masked_spec_embed"):
            # stands for masked time, which there is none of: several processes refuse what gets no gradient
            self.model.hubert.masked_spec_embed.requires_grad_(False)
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        self.networks: dict[str, Any] = {"phoneme_model": self.model}
        self.objectives = {"phoneme_model": PhonemeObjective(self.model, config.label_smoothing)}

    def samples(self) -> Dataset:
        """Let espeak-ng speak."""
        return SpokenPhonemes(self.config.clips_per_epoch, self.config.seconds, self.config.augment_share)

    def validate(self) -> Validation:
        """Measure accuracy on sentences of the test split and new voices: clean, noisy, and as recordings sound."""
        rows, labels = [], []
        for number in range(self.config.num_validation_clips):
            spoken = speak(Draw(number, (self.config.seed, 4, number)), self.config.seconds, "test")
            truth = phonemes_of(spoken)
            rng = np.random.default_rng((self.config.seed, 5, number))
            heard = {"clean": spoken.samples, "augmented": augment(spoken.samples, number)}
            heard |= {f"noise_{snr}_db": add_noise(spoken.samples, snr, "pink", rng) for snr in NOISES_DB}
            rows.append({f"accuracy_{name}": self._accuracy(samples, truth) for name, samples in heard.items()})
            rows[-1]["accuracy_clean_speech_only"] = self._accuracy(spoken.samples, truth, without_silence=True)
            labels.append(truth)
        commonest = np.bincount(np.concatenate(labels)).max() / sum(map(len, labels))
        return Validation(mean_of_rows(rows) | {"share_of_commonest": float(commonest)})

    def save_result(self, folder: Path) -> None:
        """Save the encoder without its last layer, with its feature extractor.

        Args:
            folder: Where.
        """
        self.model.hubert.save_pretrained(folder)
        extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
        extractor.save_pretrained(folder)

    def _accuracy(self, samples: np.ndarray, truth: np.ndarray, without_silence: bool = False) -> float:
        values = torch.from_numpy(normalised(samples))[None].to(self.model.device)
        found = self.model(values).logits[0].argmax(dim=-1).cpu().numpy() == truth
        return float(found[truth != SILENCE_INDEX].mean() if without_silence else found.mean())


def _build_model(settings: Mapping[str, Any], pretrained: str | None, seed: int) -> HubertForCTC:
    known = HubertConfig().to_dict().keys()
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise ValueError(f"`model` has unknown key(s) {', '.join(unknown)}; known are those of HubertConfig")
    if pretrained is not None:
        if settings:
            raise ValueError("`model` must be empty with `pretrained_model`, which has its own sizes")
        folder = Path(pretrained)
        inner = folder / "phoneme_model"
        return HubertForCTC.from_pretrained(inner if inner.is_dir() else folder).train()
    sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertForCTC(HubertConfig(**(SMALL_HUBERT | sizes), vocab_size=len(PHONEME_CLASSES))).train()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the audio encoder; see `--help`.

    Args:
        arguments: Command line; None: that of the process.

    Returns:
        The exit code.
    """
    return run_script(AudioEncoderStage, AudioEncoderConfig, __doc__, arguments)


if __name__ == "__main__":
    commands.program(main)
