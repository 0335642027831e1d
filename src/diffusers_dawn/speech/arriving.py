"""Features of speech that is still arriving."""

import copy
import math
from typing import Any

import numpy as np
import torch

from ..geometry.recent_frames import RecentFrames
from ..records import FPS, Waveform
from .features import extract_features

# before anything is heard, speech is taken to be this loud, and that weighs as much as so many seconds of it
USUAL_LEVEL, USUAL_S = 0.05, 2.0
# further back, speech no longer counts: the voice may be another's
REMEMBERED_S = 30.0
# pauses and noise that are softer than this share of the level do not count as speech
QUIET_SHARE = 0.06
# softer speech is not made as loud as other, or noise would move the lips of a listener
LEAST_LEVEL = 0.01


class ArrivingSpeech:
    """The latest speech of a stream, as the audio encoder hears it.

    A recording is normalised by its own loudness before the encoder hears it. What is still arriving is normalised by
    the loudness of the speech so far, in which pauses do not count, so that silence stays silent however long it
    lasts. Results depend on what has arrived, not on the pieces in which it came.

    Args:
        sample_rate_hz: Samples per second.
        encoder: `HubertModel`, `Wav2Vec2Model` or `WavLMModel`, in evaluation mode.
        feature_extractor: The encoder's feature extractor.
    """

    def __init__(self, sample_rate_hz: int, encoder: Any, feature_extractor: Any) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._encoder = encoder
        self._normalises = bool(getattr(feature_extractor, "do_normalize", False))
        self._feature_extractor = copy.copy(feature_extractor)
        self._feature_extractor.do_normalize = False
        self._samples = RecentFrames()
        self._power, self._weight = USUAL_LEVEL**2, USUAL_S * FPS
        self._num_measured = 0

    @property
    def num_samples(self) -> int:
        """How many samples arrived so far."""
        return self._samples.stop

    @property
    def num_held(self) -> int:
        """How many of them are in memory."""
        return self._samples.num_held

    @property
    def level(self) -> float:
        """Root mean square of the speech in the frames that `features` has heard."""
        return max(math.sqrt(self._power), LEAST_LEVEL)

    def sample_at(self, frame: int) -> int:
        """Say at which sample a video frame begins."""
        return round(frame * self.sample_rate_hz / FPS)

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples (num_samples,), float32 in [-1, 1]."""
        self._samples.add(torch.from_numpy(samples))

    def samples(self, first: int, stop: int) -> np.ndarray:
        """Return the sound of video frames (num_samples,)."""
        return self._samples.part(self.sample_at(first), self.sample_at(stop)).numpy().copy()

    def features(self, first: int, stop: int) -> torch.Tensor:
        """Compute the features of video frames; only sound of these frames is heard.

        Args:
            first: Number of the first frame.
            stop: Number after the last; at least that of any call before.

        Returns:
            Features (stop - first, D), float32, on the encoder's device.

        Raises:
            ValueError: The frames have not arrived, or are forgotten.
        """
        for frame in range(self._num_measured, stop):
            self._measure(self.samples(frame, frame + 1))
        self._num_measured = max(self._num_measured, stop)
        samples = self.samples(first, stop)
        if self._normalises:
            samples = (samples - samples.mean()) / np.float32(self.level)
        waveform = Waveform(samples, self.sample_rate_hz)
        return extract_features(waveform, self._encoder, self._feature_extractor, stop - first)

    def forget(self, before: int) -> None:
        """Let go of the sound before a video frame."""
        self._samples.forget(self.sample_at(before))

    def _measure(self, samples: np.ndarray) -> None:
        # a microphone's constant offset is no sound
        power = float(samples.var(dtype=np.float64))
        if power < QUIET_SHARE**2 * self.level**2:
            return
        self._weight = min(self._weight + 1, REMEMBERED_S * FPS)
        self._power += (power - self._power) / self._weight
