"""Probe speech features: read phonemes per frame, silence under noise, and a talker's lips from them.

A linear layer reads phonemes, a small temporal convolution the lips; both learn from some people and are measured on
others. The features themselves do not learn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from diffusers_dawn.speech.features import hidden_states
from training.data.speech_features import load_speech_encoder
from training.evaluation.metrics.track_agreement import pearson_correlation
from training.synthetic.audio_augmentation import NOISE_KINDS, add_noise, noise_alone
from training.synthetic.phonemes import PHONEME_CLASSES, SILENCE_INDEX, frame_labels
from training.synthetic.speech_dataset import log_bands, normalised
from training.synthetic.voice.aligned_recording import AlignedRecording
from training.synthetic.voice.real_voices import read_samples

# samples (N,) at 16 kHz to features (T, D) at 50 per second
Features = Callable[[np.ndarray], torch.Tensor]

NOISES_DB = (20, 10, 0)
LINEAR_STEPS, LINEAR_BATCH = 1500, 2048
LIP_CHANNELS, LIP_KERNEL, LIP_STEPS = 96, 5, 400
NUM_PLACES_WITHOUT_SPEECH = 20
# lags of sound that are looked for, in frames
MAX_LIP_LAG = 10


@dataclass(frozen=True)
class LipTrack:
    """A talker's lips and voice.

    Attributes:
        samples: Float32 array (N,), 16 kHz.
        lips: Float32 array (F, 2), 25 per second: how far the mouth is open, and how wide, of the face's height.
        person: Who talks.
    """

    samples: np.ndarray
    lips: np.ndarray
    person: str = ""


def features_by_name(encoders: Sequence[str]) -> dict[str, Features]:
    """Collect what is compared: 40 bands of the mel scale, then the encoders.

    Args:
        encoders: As for `load_speech_encoder`.

    Returns:
        Functions by name.

    Raises:
        ValueError: An encoder cannot be loaded.
    """
    found: dict[str, Features] = {"log-mel": lambda samples: torch.from_numpy(log_bands(normalised(samples)))}
    for name in encoders:
        encoder, extractor = load_speech_encoder(name)
        encoder.float()

        def hear(samples: np.ndarray, encoder: nn.Module = encoder, extractor: object = extractor) -> torch.Tensor:
            return hidden_states(Waveform(samples.astype(np.float32), SAMPLE_RATE_HZ), encoder, extractor)

        found[name] = hear
    return found


def probe_phonemes(
    hear: Features, train: Sequence[AlignedRecording], test: Sequence[AlignedRecording], seed: int = 0
) -> dict[str, float]:
    """Measure how well a linear layer tells the phoneme of a frame.

    The layer learns from clean recordings and those with noise of 10 dB in turn.

    Args:
        hear: Computes the features.
        train: Whom the layer learns from.
        test: Other speakers.
        seed: Draws noises and the order of frames.

    Returns:
        Shares by name, each in [0, 1]: "accuracy" of clean speech, "accuracy_speech" without frames of silence,
        "accuracy_20_db" and so on under noises of all kinds in turn, "silence_found_10_db" and
        "speech_lost_10_db" (silent frames called silent, and other frames called silent), and "silence_in_noise":
        frames called silent where nobody speaks.
    """
    rng = np.random.default_rng(seed)
    heard, labels = [], []
    for number, aligned in enumerate(train):
        samples = _samples_of(aligned)
        if number % 2:
            samples = add_noise(samples, 10, NOISE_KINDS[number // 2 % len(NOISE_KINDS)], rng)
        heard.append(hear(samples))
        labels.append(frame_labels(aligned.segments, len(heard[-1])))
    layer = _fit_linear(torch.cat(heard), torch.from_numpy(np.concatenate(labels)).long(), seed)

    def found(samples: np.ndarray) -> np.ndarray:
        return layer(hear(samples)).argmax(dim=-1).numpy()

    guesses: dict[str, list[np.ndarray]] = {name: [] for name in ("clean", *(f"{noise}_db" for noise in NOISES_DB))}
    truths = []
    for number, aligned in enumerate(test):
        samples, kind = _samples_of(aligned), NOISE_KINDS[number % len(NOISE_KINDS)]
        guesses["clean"].append(found(samples))
        truths.append(frame_labels(aligned.segments, len(guesses["clean"][-1])))
        for noise in NOISES_DB:
            guesses[f"{noise}_db"].append(found(add_noise(samples, noise, kind, rng)))
    truth, told = np.concatenate(truths), {name: np.concatenate(parts) for name, parts in guesses.items()}
    silent = truth == SILENCE_INDEX
    empty = [found(noise_alone(3 * SAMPLE_RATE_HZ, number)) for number in range(NUM_PLACES_WITHOUT_SPEECH)]
    return {
        "accuracy": float((told["clean"] == truth).mean()),
        "accuracy_speech": float((told["clean"] == truth)[~silent].mean()),
        **{f"accuracy_{noise}_db": float((told[f"{noise}_db"] == truth).mean()) for noise in NOISES_DB},
        "silence_found_10_db": float((told["10_db"] == SILENCE_INDEX)[silent].mean()),
        "speech_lost_10_db": float((told["10_db"] == SILENCE_INDEX)[~silent].mean()),
        "silence_in_noise": float((np.concatenate(empty) == SILENCE_INDEX).mean()),
    }


def probe_lips(hear: Features, train: Sequence[LipTrack], test: Sequence[LipTrack], seed: int = 0) -> dict[str, float]:
    """Measure how well a small temporal convolution tells a talker's lips.

    Args:
        hear: Computes the features.
        train: Whom the convolution learns from.
        test: Other talkers.
        seed: Seed of its weights.

    Returns:
        "opening_r" and "width_r": correlation over time with the true lips, mean over the clips; and both with
        another clip's sound, "opening_r_other_sound" and "width_r_other_sound".
    """
    tell = _lip_reader(hear, train, seed)
    told = [tell(track) for track in test]
    true = [torch.from_numpy(track.lips) for track in test]
    others = told[1:] + told[:1]
    found = {}
    for suffix, guesses in (("", told), ("_other_sound", others)):
        for column, name in enumerate(("opening", "width")):
            pairs = [(a[: len(b), column], b[: len(a), column]) for a, b in zip(guesses, true, strict=True)]
            found[f"{name}_r{suffix}"] = float(np.mean([float(pearson_correlation(a, b)) for a, b in pairs]))
    return found


def lip_lags(hear: Features, tracks: Sequence[LipTrack], seed: int = 0) -> dict[str, tuple[int, float]]:
    """Measure by how much the sound of each person's films is off.

    Lips are told from the sound by a convolution that learned from the other half of the people.

    Args:
        hear: Computes the features.
        tracks: Talkers, two people at least; of tracks shorter than 1.2 s no lag is told.
        seed: Seed of the convolution's weights.

    Returns:
        By person: the lag [frames], positive where the lips are late, at which told and true lips agree most, and
        their correlation there, mean of opening and width over the person's tracks.

    Raises:
        ValueError: There is only one person.
    """
    tracks = [track for track in tracks if len(track.lips) >= 3 * MAX_LIP_LAG]
    people = sorted({track.person for track in tracks})
    if len(people) < 2:
        raise ValueError(f"`tracks` has {len(people)} person, must have 2 at least")
    found = {}
    for half in (people[::2], people[1::2]):
        tell = _lip_reader(hear, [track for track in tracks if track.person not in half], seed)
        for person in half:
            own = [track for track in tracks if track.person == person]
            curves = np.mean([_agreement_by_lag(tell(track), torch.from_numpy(track.lips)) for track in own], axis=0)
            found[person] = int(np.argmax(curves)) - MAX_LIP_LAG, float(curves.max())
    return found


def _lip_reader(hear: Features, train: Sequence[LipTrack], seed: int) -> Callable[[LipTrack], torch.Tensor]:
    """Learn to tell lips (F, 2) from sound, up to a scale and an offset."""
    inputs = [_at_frames(hear(track.samples), len(track.lips)) for track in train]
    mean, deviation = torch.cat(inputs).mean(dim=0), torch.cat(inputs).std(dim=0) + 1e-5
    inputs = [(values - mean) / deviation for values in inputs]
    lips = [torch.from_numpy(track.lips - np.median(track.lips, axis=0)) for track in train]
    scale = torch.cat(lips).std(dim=0)
    model = _fit_lips(inputs, [track / scale for track in lips], seed)

    @torch.no_grad()
    def tell(track: LipTrack) -> torch.Tensor:
        values = (_at_frames(hear(track.samples), len(track.lips)) - mean) / deviation
        return model(values.T[None])[0].T

    return tell


def _agreement_by_lag(told: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """Correlate told with true lips (F, 2) that are late by -MAX_LIP_LAG to MAX_LIP_LAG frames."""
    num_frames, agreement = len(true), []
    for lag in range(-MAX_LIP_LAG, MAX_LIP_LAG + 1):
        early, late = told[max(0, -lag) : num_frames - max(0, lag)], true[max(0, lag) : num_frames - max(0, -lag)]
        agreement.append(float(pearson_correlation(early.T, late.T).mean()))
    return np.array(agreement)


def _samples_of(aligned: AlignedRecording) -> np.ndarray:
    return read_samples(aligned.recording) / np.float32(2**15)


def _fit_linear(heard: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    """Softmax regression on standardised features."""
    mean, deviation = heard.mean(dim=0), heard.std(dim=0) + 1e-5
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(len(PHONEME_CLASSES), heard.shape[1], requires_grad=True)
    bias = torch.zeros(len(PHONEME_CLASSES), requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, LINEAR_STEPS)
    for _ in range(LINEAR_STEPS):
        chosen = torch.randint(len(heard), (LINEAR_BATCH,), generator=generator)
        logits = functional.linear((heard[chosen] - mean) / deviation, weight, bias)
        functional.cross_entropy(logits, labels[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    layer = nn.Linear(heard.shape[1], len(PHONEME_CLASSES)).requires_grad_(False)
    layer.weight.copy_(weight / deviation)
    layer.bias.copy_(bias - (weight * mean / deviation).sum(dim=1))
    return layer


def _fit_lips(inputs: Sequence[torch.Tensor], lips: Sequence[torch.Tensor], seed: int) -> nn.Module:
    """Temporal convolution of three layers, all clips in every step."""
    num_frames = min(map(len, inputs))
    values = torch.stack([track[:num_frames].T for track in inputs])
    targets = torch.stack([track[:num_frames].T for track in lips])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in (values.shape[1], LIP_CHANNELS):
            layers += [nn.Conv1d(width, LIP_CHANNELS, LIP_KERNEL, padding="same"), nn.GELU(), nn.Dropout(0.3)]
        model = nn.Sequential(*layers, nn.Conv1d(LIP_CHANNELS, targets.shape[1], LIP_KERNEL, padding="same"))
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, LIP_STEPS)
        for _ in range(LIP_STEPS):
            functional.mse_loss(model(values), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval()


def _at_frames(features: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Bring features to the frames of the video, as `speech.features` does."""
    return functional.interpolate(features.T[None], num_frames, mode="linear", align_corners=True)[0].T


def as_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Write figures as a Markdown table: a row for each of their names, a column for each kind of features."""
    names = list(dict.fromkeys(name for of_one in figures.values() for name in of_one))
    lines = ["| figure | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{one[name]:.3f}" for one in figures.values()) + " |" for name in names]
    return "\n".join(lines)
