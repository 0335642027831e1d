"""Place decoded samples at their timestamps, so that sound and picture stay together when parts are missing."""

import warnings
from typing import Literal, TypeAlias

import numpy as np

from ..machine.free_memory import free_bytes
from ..ranges import is_whole_number

ChannelChoice: TypeAlias = int | Literal["mix", "loudest"]

CHANNEL_WORDS = ("mix", "loudest")
# Time stamps are rounded to 1 ms in Matroska and jitter in what browsers record; a lost packet leaves 20 ms and more
STAMP_TOLERANCE_S = 0.015
# sound that is said to begin this much before the last one ended begins a new count, as in joined files
MOST_OVERLAP_S = 1.0
# sound that begins later than this after the picture is said to; less is how cameras start
MOST_USUAL_LEAD_S = 2.0
MOST_RECORDING_S = 4 * 3600
USABLE_SHARE_OF_FREE = 0.8
SAMPLE_BYTES = 4
SILENT_SAMPLES = 2**20


class SoundTimeline:
    """Collect blocks of samples by their time stamps; gaps become silence, with a warning.

    Args:
        rate_hz: Samples per second.
        channel: Which channel is kept.
        name: Argument name for messages.
        channel_name: That of the channel.

    Attributes:
        other_peak: Largest magnitude in the channels that are not kept.
    """

    def __init__(self, rate_hz: int, channel: ChannelChoice, name: str, channel_name: str) -> None:
        self.rate_hz, self.other_peak = rate_hz, 0.0
        self._channel, self._name, self._channel_name = channel, name, channel_name
        # one for each kept channel; growing in place takes half the memory of joining blocks
        self._kept: list[bytearray] = []
        self._energies = np.zeros(0)
        self._length, self._restart, self._lead = 0, 0, 0
        self._num_gaps, self._num_silent, self._num_dropped, self._num_restarts = 0, 0, 0, 0
        self._most_samples = int(USABLE_SHARE_OF_FREE * free_bytes() / SAMPLE_BYTES)

    def add(self, channels: np.ndarray, start_s: float | None) -> None:
        """Append a block.

        Args:
            channels: Float32 array (C, N).
            start_s: When it begins [s]; None: where the last one ended.

        Raises:
            ValueError: There is no such channel, their number changes, or the recording grows too long.
        """
        if not self._kept:
            self._kept = [bytearray() for _ in range(len(channels) if self._channel == "loudest" else 1)]
            self._energies = np.zeros(len(self._kept))
            if start_s is not None:
                lead = round(start_s * self.rate_hz)
                self._add_silence(lead)
                self._lead = self._length
                channels = channels[:, max(-lead, 0) :]
        elif start_s is not None:
            channels = self._in_time(channels, round(start_s * self.rate_hz) + self._restart)
        self._check_length(channels.shape[1], len(self._kept))
        kept = self._keep(channels)
        for buffer, samples in zip(self._kept, kept, strict=True):
            buffer += np.ascontiguousarray(samples, np.float32).tobytes()
        self._length += channels.shape[1]

    def finish(self, end_s: float | None, least_gap_s: float) -> np.ndarray:
        """Say what was missing, and give the samples.

        Args:
            end_s: Silence fills up to here [s]; None: to nowhere.
            least_gap_s: What is missing there is filled from this length on [s]; less is a codec's padding.

        Returns:
            Float32 array (N,).

        Raises:
            ValueError: The silence makes it too long.
        """
        end = self._length if end_s is None else round(end_s * self.rate_hz) + self._restart
        if end - self._length > least_gap_s * self.rate_hz:
            self._fill(end)
        messages = []
        if self._lead > MOST_USUAL_LEAD_S * self.rate_hz:
            messages.append(f"begins to sound after {self._lead / self.rate_hz:.2f} s, which are silent")
        if self._num_silent:
            messages.append(
                f"has {self._num_gaps} gap{'s' * (self._num_gaps > 1)}, filled with "
                f"{self._num_silent / self.rate_hz:.2f} s of silence as its time stamps say"
            )
        if self._num_dropped:
            messages.append(
                f"says {self._num_dropped / self.rate_hz:.2f} s twice by its time stamps, of which the first is heard"
            )
        if self._num_restarts:
            messages.append(f"begins to count its time anew {self._num_restarts} times, and is joined there")
        if messages:
            warnings.warn(f"`{self._name}` " + ", ".join(messages), stacklevel=4)
        if not self._length:
            return np.zeros(0, np.float32)
        loudest = int(np.argmax(self._energies))
        return np.frombuffer(self._kept[loudest], np.float32)

    def _in_time(self, channels: np.ndarray, start: int) -> np.ndarray:
        """Fill up to where a block begins, or leave out what there is already."""
        late = start - self._length
        if late > STAMP_TOLERANCE_S * self.rate_hz:
            self._fill(start)
        elif late < -MOST_OVERLAP_S * self.rate_hz:
            self._restart -= late
            self._num_restarts += 1
        elif late < -STAMP_TOLERANCE_S * self.rate_hz:
            self._num_dropped += min(-late, channels.shape[1])
            return channels[:, -late:]
        return channels

    def _fill(self, end: int) -> None:
        self._num_gaps += 1
        self._num_silent += end - self._length
        self._add_silence(end - self._length)

    def _add_silence(self, num_samples: int) -> None:
        if num_samples > 0:
            self._check_length(num_samples, len(self._kept))
            for buffer in self._kept:
                # a little at a time: silence that is made at once takes its memory twice
                for start in range(0, num_samples, SILENT_SAMPLES):
                    buffer += bytes(SAMPLE_BYTES * min(SILENT_SAMPLES, num_samples - start))
            self._length += num_samples

    def _keep(self, channels: np.ndarray) -> np.ndarray:
        """Take what is kept of the channels (C, N), and note how loud they are."""
        if self._channel == "loudest":
            if len(channels) != len(self._kept):  # of joined files: no channel is the same as before
                loudest = pick_channel(channels, "loudest", self._name, self._channel_name)[0]
                channels = np.repeat(loudest[None], len(self._kept), axis=0)
            self._energies += np.square(channels, dtype=np.float64).sum(axis=1)
            return channels
        # what follows in one channel is heard whichever channel was chosen of what came before
        channel = 0 if self._length and len(channels) == 1 and self._channel != "mix" else self._channel
        kept, peak = pick_channel(channels, channel, self._name, self._channel_name)
        self.other_peak = max(self.other_peak, peak)
        return kept[None]

    def _check_length(self, num_samples: int, num_channels: int) -> None:
        total_s = (self._length + num_samples) / self.rate_hz
        fitting_s = self._most_samples / num_channels / self.rate_hz
        if total_s > min(MOST_RECORDING_S, fitting_s):
            which = "is the limit" if fitting_s > MOST_RECORDING_S else "fits in memory"
            raise ValueError(
                f"`{self._name}` lasts {total_s:.0f} s and more, must last at most"
                f" {min(fitting_s, MOST_RECORDING_S):.0f} s, which {which}"
            )


def check_channel(channel: ChannelChoice, name: str) -> None:
    """Refuse what chooses no channel.

    Args:
        channel: The choice.
        name: Argument name for error messages.

    Raises:
        ValueError: It is neither a whole number from 0, "mix" nor "loudest".
    """
    if not (channel in CHANNEL_WORDS if isinstance(channel, str) else is_whole_number(channel) and channel >= 0):
        raise ValueError(f"`{name}` is {channel!r}, must be the number of a channel, from 0, or mix or loudest")


def pick_channel(
    channels: np.ndarray, channel: ChannelChoice, name: str, channel_name: str
) -> tuple[np.ndarray, float]:
    """Make one channel of several.

    Args:
        channels: Float array (C, N).
        channel: Number of a channel, "mix" for their mean, or "loudest" for the one of the most energy.
        name: Argument name for error messages.
        channel_name: That of the choice.

    Returns:
        Array (N,), and the largest magnitude in the other channels; 0 where none were left out by number.

    Raises:
        ValueError: There is no such channel.
    """
    if channel == "mix":
        return channels.mean(axis=0), 0.0
    if channel == "loudest":
        return channels[int(np.argmax(np.square(channels, dtype=np.float64).sum(axis=1)))], 0.0
    if channel >= len(channels):
        raise ValueError(
            f"`{channel_name}` is {channel}, must be from 0 to {len(channels) - 1}, mix or loudest:"
            f" `{name}` has {len(channels)} channel{'s' * (len(channels) > 1)}"
        )
    others = np.delete(channels, channel, axis=0)
    return channels[channel], float(max(others.max(initial=0), -others.min(initial=0)))
