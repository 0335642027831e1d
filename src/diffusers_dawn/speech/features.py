"""Speech to features at the frame rate of the video (paper section 3.1), by HuBERT or a relative of it."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ..geometry.frame_windows import FrameWindows, plan_windows
from ..machine.float32_products import with_fast_products
from ..media.recordings import resample
from ..ranges import is_whole_number
from ..records import FPS, Waveform

if TYPE_CHECKING:
    from transformers import PreTrainedModel, SequenceFeatureExtractor

# The encoder hears at most this many of its own frames at a time (20 s of HuBERT)
FRAMES_PER_PIECE = 1000
# Longest recording whose pieces follow each other as published (60 s of HuBERT), knowing nothing of each other
PUBLISHED_FRAMES = 3 * FRAMES_PER_PIECE
# In longer ones neighbouring pieces share this many frames, over which one passes into the next: there each has heard
# 2 s of the other's side. A second is where the error near a cut falls to that of frames far from any
SHARED_FRAMES = 200
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 192_000


def num_video_frames(num_samples: int, sample_rate_hz: int) -> int:
    """Count the video frames that a recording lasts, one at least.

    Args:
        num_samples: Length of the recording.
        sample_rate_hz: Its samples per second.

    Returns:
        Number of frames at `records.FPS`, rounded.
    """
    return max(1, round(num_samples * FPS / sample_rate_hz))


@torch.no_grad()
def extract_features(
    waveform: Waveform,
    encoder: "PreTrainedModel",
    feature_extractor: "SequenceFeatureExtractor",
    num_frames: int,
    num_wanted: int | None = None,
) -> torch.Tensor:
    """Compute the audio features of every video frame (paper section 3.1).

    Args:
        waveform: The speech, of any length; resampled if its rate is not the feature extractor's.
        encoder: `HubertModel`, `Wav2Vec2Model` or `WavLMModel`, in evaluation mode.
        feature_extractor: The encoder's feature extractor, which normalises the whole recording at once.
        num_frames: How many video frames F the recording is spread over, see `num_video_frames`.
        num_wanted: How many of them to return, from the first; what they do not need is not heard. None: all.

    Returns:
        Tensor (F, D) in float32 on the encoder's device, D the width of the encoder; as many frames as are wanted.

    Raises:
        ValueError: num_frames is not positive, num_wanted is not in [1, num_frames], or as for `hidden_states`.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` is {num_frames}, must be at least 1")
    num_wanted = num_frames if num_wanted is None else num_wanted
    if not 1 <= num_wanted <= num_frames:
        raise ValueError(f"`num_wanted` is {num_wanted}, must be in [1, {num_frames}], like `num_frames`")
    values, num_hidden = _prepare_samples(waveform, encoder, feature_extractor)
    # (T, D) -> (F, D), linear, the ends aligned. Positions as fractions of integers: those that float32 would round
    # (as in functional.interpolate) are off by 5e-4 of a difference between neighbours after 40 s
    last, steps = num_hidden - 1, max(1, num_frames - 1)
    numerators = torch.arange(num_wanted) * last
    left = numerators // steps
    right = (left + 1).clamp(max=last)
    hidden = _hear(encoder, values, num_hidden, int(right[-1]) + 1)
    weight = ((numerators % steps).to(hidden.dtype) / steps)[:, None]
    left, right, weight = (part.to(hidden.device) for part in (left, right, weight))
    return hidden[left].lerp_(hidden[right], weight)


@torch.no_grad()
def hidden_states(
    waveform: Waveform, encoder: "PreTrainedModel", feature_extractor: "SequenceFeatureExtractor"
) -> torch.Tensor:
    """Run the encoder over a recording, piece by piece, at the encoder's own frame rate.

    Pieces overlap by as much as a frame reaches into its successor, so that they give exactly the frames of one run
    of the convolutions over all samples; the transformer hears one piece at a time. Up to 60 s they are those of the
    published code, which hear nothing of each other; those of longer recordings overlap and are blended.

    Args:
        waveform: The speech, of any length; resampled if its rate is not the feature extractor's.
        encoder: `HubertModel`, `Wav2Vec2Model` or `WavLMModel`, in evaluation mode.
        feature_extractor: The encoder's feature extractor.

    Returns:
        Tensor (T, D) in float32: the last hidden state; T is (samples - reach + stride) // stride, one at least.

    Raises:
        ValueError: The waveform is empty or not finite; the encoder is in training mode, has no convolutional front
            end, or shortens its output by an adapter.
    """
    values, num_hidden = _prepare_samples(waveform, encoder, feature_extractor)
    return _hear(encoder, values, num_hidden, num_hidden)


def _prepare_samples(
    waveform: Waveform, encoder: "PreTrainedModel", feature_extractor: "SequenceFeatureExtractor"
) -> tuple[torch.Tensor, int]:
    # what the encoder hears (1, num_samples), and how many frames T it makes of it
    reach, stride = receptive_field(encoder)
    if len(waveform.samples) == 0 or not np.isfinite(waveform.samples).all():
        raise ValueError("`waveform` is empty or has samples that are not finite, must have finite samples")
    rate_hz = feature_extractor.sampling_rate
    if not is_whole_number(rate_hz) or not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise ValueError(
            f"`feature_extractor` has the sampling rate {rate_hz!r}, must have a whole number from {LOWEST_RATE_HZ} to"
            f" {HIGHEST_RATE_HZ} [Hz]"
        )
    samples = resample(waveform, rate_hz).samples
    values = feature_extractor(samples, sampling_rate=rate_hz, return_tensors="pt").get("input_values")
    if values is None or values.ndim != 2 or not torch.isfinite(values).all():
        raise ValueError("`feature_extractor` must make finite `input_values` (1, num_samples) of a recording")
    if values.shape[1] < reach:
        values = functional.pad(values, (0, reach - values.shape[1]))
    return values, (values.shape[1] - reach) // stride + 1


@with_fast_products
def _hear(encoder: "PreTrainedModel", values: torch.Tensor, num_hidden: int, num_wanted: int) -> torch.Tensor:
    # the first frames (num_wanted, D) of num_hidden; pieces that have none of them are left out
    reach, stride = receptive_field(encoder)
    pieces = _pieces(num_hidden)
    hidden = None
    for piece, weights in zip(pieces.slices, pieces.weights(), strict=True):
        if piece.start >= num_wanted:
            break
        first = piece.start * stride
        heard = _run_encoder(encoder, values[:, first : first + (FRAMES_PER_PIECE - 1) * stride + reach])
        if len(heard) != piece.stop - piece.start:
            raise ValueError(
                f"`encoder` made {len(heard)} frames, its convolutions make {piece.stop - piece.start}: has it an"
                " adapter?"
            )
        if hidden is None:
            hidden = heard.new_zeros(num_wanted, heard.shape[1])
        blended = hidden[piece]
        blended.addcmul_(weights[: len(blended), None].to(heard), heard[: len(blended)])
    return hidden


def _pieces(num_hidden: int) -> FrameWindows:
    if num_hidden > PUBLISHED_FRAMES:
        return plan_windows(num_hidden, FRAMES_PER_PIECE, SHARED_FRAMES)
    firsts = range(0, num_hidden, FRAMES_PER_PIECE)
    return FrameWindows([slice(first, min(first + FRAMES_PER_PIECE, num_hidden)) for first in firsts], overlap=0)


def receptive_field(encoder: "PreTrainedModel") -> tuple[int, int]:
    """Tell how many samples a frame of an encoder sees, and how many lie between frames: 400 and 320 for HuBERT.

    Args:
        encoder: `HubertModel`, `Wav2Vec2Model` or `WavLMModel`, in evaluation mode.

    Returns:
        Both numbers.

    Raises:
        ValueError: It is in training mode, or its config does not say.
    """
    kernels = getattr(encoder.config, "conv_kernel", None)
    strides = getattr(encoder.config, "conv_stride", None)
    if kernels is None or strides is None:
        raise ValueError(
            f"`encoder` is a {type(encoder).__name__}, must be a HubertModel, Wav2Vec2Model or WavLMModel"
            " (its config needs `conv_kernel` and `conv_stride`)"
        )
    if encoder.training:
        raise ValueError("`encoder` is in training mode, where its output is random; call `encoder.eval()`")
    reach, stride = 1, 1
    for kernel, step in zip(kernels, strides, strict=True):
        reach += (kernel - 1) * stride
        stride *= step
    return reach, stride


def _run_encoder(encoder: "PreTrainedModel", values: torch.Tensor) -> torch.Tensor:
    # an offloaded encoder's weights are nowhere until it runs; its hook then moves the input as well
    device = values.device if encoder.device.type == "meta" else encoder.device
    return encoder(values.to(device, encoder.dtype)).last_hidden_state[0].float()
