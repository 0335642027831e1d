"""Train a small HuBERT on synthetic and real speech, for where the published one cannot be had.

It learns which phoneme sounds in every 20 ms, and how loud each band of the speech is without its noise. Its hidden
states then say what the lips need to know, and the result is a folder of transformers that takes the place of
`facebook/hubert-large-ls960-ft` everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from training.synthetic.speech_dataset import NUM_BANDS, SpokenPhonemes, normalised, phonemes_of, speak
from training.synthetic.spoken_clip import SpokenClip
from training.synthetic.voice.real_voices import RealClip, RealVoices, read_samples

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
# what the last layer tells of every frame: the phoneme's logits, then the loudness of the speech's bands
NUM_PHONEMES = len(PHONEME_CLASSES)


@dataclass(kw_only=True)
class AudioEncoderConfig(TrainingConfig):
    """Settings of the audio encoder's training, besides those of every training; `dataset` stays as it is.

    Attributes:
        clips_per_epoch: How many clips count as one pass over the data, which is endless.
        seconds: Length of a clip.
        augment_share: Share of clips that sound like recordings, the others are clean.
        label_smoothing: Share of probability spread over all phonemes, in [0, 1).
        spectrum_weight: Weight of the squared error of the bands' loudness [decades], not negative.
        aligned_speech: Folders of `align_speech.py`'s results, for real voices.
        held_out_speakers: Speakers of these recordings that are only measured on.
        real_share: Share of clips with real voices, where there are any.
        frozen_convolutions: How many of the first convolutions stay as they are in `pretrained_model`: theirs are the
            longest signals, and half of the time of a step.
    """

    dataset: str = SPEECH
    clips_per_epoch: int = 1000
    seconds: float = 4.0
    augment_share: float = 0.7
    label_smoothing: float = 0.05
    spectrum_weight: float = 0.3
    aligned_speech: list[str] = field(default_factory=list)
    held_out_speakers: list[str] = field(default_factory=list)
    real_share: float = 0.6
    frozen_convolutions: int = 0
    num_validation_clips: int = 20

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        super().__post_init__()
        if self.dataset != SPEECH:
            raise ValueError(f"`dataset` is {self.dataset!r}, must be {SPEECH!r}: the speech is made while training")
        if self.clips_per_epoch < 1 or self.seconds < 1:
            raise ValueError(
                f"`clips_per_epoch` ({self.clips_per_epoch}) and `seconds` ({self.seconds}) must be at least 1"
            )
        for name in ("augment_share", "real_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be in [0, 1]")
        if self.spectrum_weight < 0:
            raise ValueError(f"`spectrum_weight` is {self.spectrum_weight}, must not be negative")
        if self.frozen_convolutions and (self.pretrained_model is None or not 0 <= self.frozen_convolutions <= 7):
            raise ValueError(
                f"`frozen_convolutions` is {self.frozen_convolutions}, must be 0, or at most 7 with `pretrained_model`"
            )
        if self.held_out_speakers and not self.aligned_speech:
            raise ValueError("`held_out_speakers` are those of `aligned_speech`, which is empty")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing` is {self.label_smoothing}, must be in [0, 1)")


class PhonemeObjective(nn.Module):
    """Cross-entropy of the phoneme of every frame, and squared error of how loud its bands are.

    Args:
        model: HuBERT with a linear layer on top.
        label_smoothing: Share of probability spread over all phonemes.
        spectrum_weight: Weight of the squared error.
    """

    def __init__(self, model: HubertForCTC, label_smoothing: float, spectrum_weight: float) -> None:
        super().__init__()
        self.model, self.label_smoothing, self.spectrum_weight = model, label_smoothing, spectrum_weight

    def forward(self, batch: Mapping[str, torch.Tensor], epoch: float) -> dict[str, torch.Tensor]:
        """Compute the loss on a batch of `SpokenPhonemes`.

        Args:
            batch: The samples, stacked.
            epoch: Passes over the data so far; not used.

        Returns:
            "accuracy", "spectrum" (squared error of the bands), and "loss".
        """
        told = self.model(batch["samples"]).logits.float()
        logits, bands = told.split((NUM_PHONEMES, NUM_BANDS), dim=-1)
        loss = functional.cross_entropy(logits.mT, batch["phonemes"], label_smoothing=self.label_smoothing)
        spectrum = functional.mse_loss(bands, batch["bands"])
        accuracy = (logits.argmax(dim=-1) == batch["phonemes"]).float().mean()
        return {"accuracy": accuracy, "spectrum": spectrum, "loss": loss + self.spectrum_weight * spectrum}


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
        self.model.hubert.feature_extractor.conv_layers[: config.frozen_convolutions].requires_grad_(False)
        # else transformers asks for the gradient of the sound, through frozen convolutions, too
        self.model.hubert.feature_extractor._requires_grad = config.gradient_checkpointing
        if config.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        self.networks: dict[str, Any] = {"phoneme_model": self.model}
        self.objectives = {
            "phoneme_model": PhonemeObjective(self.model, config.label_smoothing, config.spectrum_weight)
        }
        self.voices = RealVoices(config.aligned_speech, config.held_out_speakers) if config.aligned_speech else None

    def samples(self) -> Dataset:
        """Let espeak-ng and real people speak."""
        config = self.config
        return SpokenPhonemes(
            config.clips_per_epoch, config.seconds, config.augment_share, self.voices, config.real_share
        )

    def validate(self) -> Validation:
        """Measure accuracy on sentences of the test split and new voices, and on recordings of held-out speakers.

        Each as it is, noisy, and as recordings sound.
        """
        config = self.config
        made = [
            speak(Draw(number, (config.seed, 4, number)), config.seconds, "test")
            for number in range(config.num_validation_clips)
        ]
        metrics = self._accuracies(made)
        if self.voices is not None and self.voices.test:
            chosen = np.linspace(0, len(self.voices.test) - 1, config.num_validation_clips).round().astype(int)
            recordings = [self.voices.test[index] for index in chosen]
            real = [RealClip(read_samples(one.recording) / np.float32(2**15), one.segments) for one in recordings]
            metrics |= {f"real_{name}": value for name, value in self._accuracies(real).items()}
        return Validation(metrics)

    def _accuracies(self, clips: Sequence[SpokenClip | RealClip]) -> dict[str, float]:
        rows, labels = [], []
        for number, clip in enumerate(clips):
            truth = phonemes_of(clip)
            rng = np.random.default_rng((self.config.seed, 5, number))
            heard = {"clean": clip.samples, "augmented": augment(clip.samples, number)}
            heard |= {f"noise_{snr}_db": add_noise(clip.samples, snr, "pink", rng) for snr in NOISES_DB}
            rows.append({f"accuracy_{name}": self._accuracy(samples, truth) for name, samples in heard.items()})
            rows[-1]["accuracy_clean_speech_only"] = self._accuracy(clip.samples, truth, without_silence=True)
            labels.append(truth)
        commonest = np.bincount(np.concatenate(labels)).max() / sum(map(len, labels))
        return mean_of_rows(rows) | {"share_of_commonest": float(commonest)}

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
        found = self.model(values).logits[0, :, :NUM_PHONEMES].argmax(dim=-1).cpu().numpy() == truth
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
        # an encoder alone has no last layer: it begins anew
        model = HubertForCTC.from_pretrained(
            inner if inner.is_dir() else folder,
            dtype=torch.float32,
            vocab_size=NUM_PHONEMES + NUM_BANDS,
            ignore_mismatched_sizes=True,
        )
        return model.train()
    sizes = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HubertForCTC(HubertConfig(**(SMALL_HUBERT | sizes), vocab_size=NUM_PHONEMES + NUM_BANDS)).train()


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
