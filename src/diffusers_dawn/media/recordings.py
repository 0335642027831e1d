"""Read recordings from files, bytes, streams and arrays, through PyAV, and resample them through librosa.

All times count from the start of the container, so that the picture and the sound of one file stay together.
"""

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..ranges import check_class, is_whole_number
from ..records import FPS, Waveform
from .damaged_files import PacketDecoder
from .sound_timeline import ChannelChoice, SoundTimeline, check_channel, pick_channel
from .sources import MediaSource, as_array, describe_source, import_av, is_default, open_container, time_s_of

if TYPE_CHECKING:
    import av
    import torch

WaveformSource: TypeAlias = "MediaSource | np.ndarray | torch.Tensor | tuple[np.ndarray, int] | Waveform"

MAX_AUDIO_CHANNELS = 8
# the highest of studio equipment; above it, a few samples last no time
MOST_RATE_HZ = 768_000
SILENCE_PEAK = 1e-4
# a voice in the other channel leaves less than this share of it in the first, by crosstalk or noise
FAINT_SHARE = 0.1
# decoded mp3 and float recordings overshoot 1 a little; far above it are integer samples stored as floats
MAX_FLOAT_PEAK = 8.0
# longest block of the common codecs (Opus: 120 ms): a codec pads its last block, never by more than that
MAX_CODEC_PADDING_S = 0.12


class SoundLayout(NamedTuple):
    """What a file says about its sound.

    Attributes:
        num_tracks: How many sound tracks it has.
        num_channels: Channels of the one that is read; 0 where there is none.
    """

    num_tracks: int
    num_channels: int


def read_waveform(
    source: WaveformSource,
    sample_rate_hz: int | None = None,
    name: str = "audio",
    rate_name: str = "sample_rate_hz",
    channel: ChannelChoice = 0,
    track: int | None = None,
    choice_names: tuple[str, str] | None = ("channel", "track"),
) -> Waveform:
    """Read a recording: one channel, at its own sample rate.

    Reads every container that FFmpeg does, also the sound of a video. Samples lie where their time stamps say: sound
    that starts later than the picture is preceded by silence, gaps and damaged places are silent, with a warning.
    Padding at the end that the codec added is cut. Raw AAC streams (.aac) say nothing about the padding at their
    start: they come out 1024 samples or so late.

    Args:
        source: File, its bytes, a binary stream, samples, samples with their rate, or a `Waveform`. Samples are 1-D,
            or 2-D with the channels (at most 8) along the shorter axis; floats in [-1, 1] or integers of full scale.
        sample_rate_hz: Rate of samples given without one. Of other sources it must be the rate they have.
        name: Argument name for error messages.
        rate_name: That of the rate.
        channel: Number of the channel, from 0, "mix" for the mean of all, or "loudest" for the one of most energy.
        track: Number of a file's sound track, from 0; None: its default one, with a warning where there are others.
        choice_names: Names of `channel` and `track` for error messages; None: warnings do not advise to choose.

    Returns:
        Mono float32 waveform of at least one video frame's length.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` cannot be decoded, has no sound, is empty, shorter than one frame (1/25 s), longer
            than 4 hours or than fits in memory, not finite, badly shaped or scaled, lacks a sample rate, such a
            channel or track, or contradicts `sample_rate_hz`, or that is no positive whole number.
        TypeError: `source` is of another kind.
    """
    can_choose, choice_names = choice_names is not None, choice_names or ("channel", "track")
    check_channel(channel, choice_names[0])
    if sample_rate_hz is not None:
        _check_rate(sample_rate_hz, f"`{rate_name}` is {sample_rate_hz!r}")
    is_record = isinstance(source, Waveform)
    if is_record:
        source = (source.samples, source.sample_rate_hz)
    if isinstance(source, tuple):
        if len(source) != 2 or not (is_record or isinstance(source[1], Real)):
            raise ValueError(f"`{name}` is a tuple, but not one of samples and sample rate in this order")
        own_rate_hz = source[1]
        _check_rate(own_rate_hz, f"the sample rate of `{name}` is {own_rate_hz!r}")
        samples, other_peak = _channel_of(as_array(source[0], name), name, channel, choice_names[0])
    elif isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        samples, own_rate_hz, other_peak = _decode_audio(source, name, channel, track, choice_names, can_choose)
    else:
        samples, other_peak = _channel_of(as_array(source, name), name, channel, choice_names[0])
        own_rate_hz = sample_rate_hz
        if own_rate_hz is None:
            raise ValueError(f"`{name}` holds samples without a rate: `{rate_name}` must be given")
    if sample_rate_hz not in {None, own_rate_hz}:
        raise ValueError(f"`{rate_name}` is {sample_rate_hz}, but `{name}` has {own_rate_hz} Hz")
    _check_samples(samples, own_rate_hz, name)
    _warn_of_silence(samples, other_peak, name, channel, can_choose)
    return Waveform(samples, int(own_rate_hz))


def read_sound_layout(source: MediaSource, name: str = "audio", track: int | None = None) -> SoundLayout:
    """Find out which tracks and channels a file has, without decoding any.

    Args:
        source: File, its bytes, or a binary stream.
        name: Argument name for error messages.
        track: Number of the track that is read, from 0; None: the file's default one, or else the first.

    Returns:
        Its layout.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: `source` cannot be read, or has no such track.
    """
    with open_container(source, name) as container:
        tracks = container.streams.audio
        return SoundLayout(len(tracks), _choose_track(tracks, name, track, "track").channels if tracks else 0)


def _default_track(tracks: "Sequence[av.AudioStream]") -> int:
    return next((index for index, track in enumerate(tracks) if is_default(track)), 0)


def _channel_of(array: np.ndarray, name: str, channel: ChannelChoice, channel_name: str) -> tuple[np.ndarray, float]:
    """The wanted channel as float32, and the largest magnitude of the others."""
    if array.ndim not in {1, 2}:
        raise ValueError(f"`{name}` has shape {array.shape}, must be 1-D, or 2-D with the channels on one axis")
    channels = array[None] if array.ndim == 1 else array
    if channels.shape[0] > channels.shape[1] > 0:
        channels = channels.T
    if len(channels) > MAX_AUDIO_CHANNELS:
        raise ValueError(
            f"`{name}` has shape {array.shape}: its shorter axis must be the channels, at most {MAX_AUDIO_CHANNELS}"
        )
    if channels.size == 0:
        return np.zeros(0, np.float32), 0.0
    samples, peak = pick_channel(_float_samples(channels, name), channel, name, channel_name)
    return np.ascontiguousarray(samples), peak


def _float_samples(samples: np.ndarray, name: str) -> np.ndarray:
    """Full-scale integers to [-1, 1); unsigned bytes are centred at 128 as in WAV files."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in {np.dtype(np.int16), np.dtype(np.int32)}:
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float32)
    raise ValueError(f"`{name}` holds {samples.dtype} samples, must hold floats, int16, int32 or uint8")


def _decode_audio(
    source: MediaSource,
    name: str,
    channel: ChannelChoice,
    track: int | None,
    choice_names: tuple[str, str],
    can_choose: bool,
) -> tuple[np.ndarray, int, float]:
    """The wanted channel, sample rate, and the largest magnitude of the other channels."""
    timeline = None
    with open_container(source, name) as container:
        tracks = container.streams.audio
        if not tracks:
            raise ValueError(f"`{name}` has no audio track ({describe_source(source)})")
        stream = _choose_track(tracks, name, track, choice_names[1])
        if track is None:
            _warn_of_other_tracks(tracks, name, choice_names[1] if can_choose else None)
        decoder = PacketDecoder(container, stream, name, "silence takes their place")
        holds_plain_samples = stream.codec_context.name.startswith("pcm_")
        for frame in _at_first_rate(decoder, name):
            if timeline is None:
                timeline = SoundTimeline(frame.sample_rate, channel, name, choice_names[0])
            samples = _samples_of(frame)
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            samples = _float_samples(samples, name)
            if not (holds_plain_samples or _peak(samples) <= MAX_FLOAT_PEAK):  # also where it is NaN
                decoder.reject()
                samples = np.zeros_like(samples)
            timeline.add(samples, time_s_of(frame, container))
        end_s = _declared_end_s(container, stream)
    if timeline is None:
        raise ValueError(f"`{name}` is empty: its audio track holds no samples ({describe_source(source)})")
    samples, rate_hz = timeline.finish(decoder.end_s, MAX_CODEC_PADDING_S), timeline.rate_hz
    # a larger excess is no padding: the header's duration is an estimate there (mp3 without an index)
    if end_s is not None and 0 < len(samples) / rate_hz - end_s <= MAX_CODEC_PADDING_S:
        samples = samples[: max(round(end_s * rate_hz), 1)]
    return samples, rate_hz, timeline.other_peak


def _at_first_rate(frames: "Iterable[av.AudioFrame]", name: str) -> "Iterator[av.AudioFrame]":
    """Bring all frames to the rate of the first; files that were joined may have several."""
    first_hz, own, resampler, others_hz = None, None, None, set()
    for frame in frames:
        first_hz = first_hz or frame.sample_rate
        if resampler is not None and own != (frame.sample_rate, frame.format.name, frame.layout.name):
            yield from resampler.resample(None)
            resampler = None
        if frame.sample_rate == first_hz:
            yield frame
            continue
        if resampler is None:
            own = frame.sample_rate, frame.format.name, frame.layout.name
            resampler = import_av().AudioResampler(rate=first_hz)
            others_hz.add(frame.sample_rate)
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)
    if others_hz:
        rates = ", ".join(map(str, sorted(others_hz)))
        warnings.warn(f"`{name}` changes its sample rate; {rates} Hz are brought to {first_hz} Hz", stacklevel=3)


def _samples_of(frame: "av.AudioFrame") -> np.ndarray:
    if frame.format.name not in ("s64", "s64p"):
        return frame.to_ndarray()
    # PyAV knows no arrays of these; 32 of their 64 bits are more than floats hold
    num_values = frame.samples * (1 if frame.format.is_planar else frame.layout.nb_channels)
    planes = [np.frombuffer(plane, np.int64, num_values) for plane in frame.planes]
    return (np.stack(planes) >> 32).astype(np.int32)


def _choose_track(
    tracks: "Sequence[av.AudioStream]", name: str, track: int | None, track_name: str
) -> "av.AudioStream":
    track = _default_track(tracks) if track is None else track
    if not (is_whole_number(track) and 0 <= track < len(tracks)):
        raise ValueError(
            f"`{track_name}` is {track!r}, must be the number of a sound track of `{name}`: 0 to {len(tracks) - 1}"
        )
    return tracks[track]


def _warn_of_other_tracks(tracks: "Sequence[av.AudioStream]", name: str, track_name: str | None) -> None:
    if len(tracks) > 1:
        heard = _default_track(tracks)
        why = "its default one" if is_default(tracks[heard]) else "the first"
        advice = "" if track_name is None else f"; `{track_name}` takes another (0 to {len(tracks) - 1})"
        warnings.warn(f"`{name}` has {len(tracks)} sound tracks; number {heard} is used, {why}{advice}", stacklevel=4)


def _declared_end_s(container: "av.container.InputContainer", stream: "av.stream.Stream") -> float | None:
    ends_s = []
    if container.duration is not None:
        ends_s.append(container.duration / 1e6)
    if stream.duration is not None:
        start_s = float((stream.start_time or 0) * stream.time_base) - (container.start_time or 0) / 1e6
        ends_s.append(start_s + float(stream.duration * stream.time_base))
    return min(ends_s, default=None)


def check_waveform(waveform: Waveform, name: str) -> None:
    """Refuse a recording that was put together wrongly; it may be silent, and empty.

    Args:
        waveform: The recording.
        name: Argument name for error messages.

    Raises:
        ValueError: Its samples are no finite floats (N,) in [-1, 1], or its rate is no whole number up to 768000 Hz.
    """
    check_class(name, waveform, Waveform)
    samples, rate_hz = waveform.samples, waveform.sample_rate_hz
    check_class(f"{name}.samples", samples, np.ndarray)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"`{name}.samples` is {samples.dtype} {samples.shape}, must be floats (N,) in [-1, 1]")
    if samples.size and not _peak(samples) <= MAX_FLOAT_PEAK:  # also where it is NaN
        raise ValueError(f"`{name}.samples` holds floats up to {_peak(samples):g}, must hold floats in [-1, 1]")
    if not is_whole_number(rate_hz) or not 1 <= rate_hz <= MOST_RATE_HZ:
        raise ValueError(f"`{name}.sample_rate_hz` is {rate_hz!r}, must be a whole number from 1 to {MOST_RATE_HZ}")


def _check_rate(rate_hz: int, what_is: str) -> None:
    if not is_whole_number(rate_hz) or rate_hz <= 0:
        raise ValueError(f"{what_is}, must be a positive whole number [Hz]")


def _check_samples(samples: np.ndarray, rate_hz: int, name: str) -> None:
    if len(samples) == 0:
        raise ValueError(f"`{name}` is empty")
    peak = _peak(samples)
    if not math.isfinite(peak):
        raise ValueError(f"`{name}` holds samples that are NaN or infinite")
    if len(samples) * FPS < rate_hz:
        raise ValueError(
            f"`{name}` lasts {len(samples) / rate_hz:.4f} s, must last at least one video frame (1/{FPS} s)"
        )
    if peak > MAX_FLOAT_PEAK:
        raise ValueError(f"`{name}` holds floats up to {peak:g}, must hold floats in [-1, 1]")


def _warn_of_silence(
    samples: np.ndarray, other_peak: float, name: str, channel: ChannelChoice, can_choose: bool
) -> None:
    peak = _peak(samples)
    which = "its first channel" if channel == 0 else f"channel {channel}"
    advice = "; `loudest` or `mix` as its channel takes the voice" if can_choose else ""
    if peak < SILENCE_PEAK and other_peak >= SILENCE_PEAK:
        warnings.warn(
            f"`{name}` is silent in {which}, the only one that is used: the mouth will hardly move{advice}",
            stacklevel=3,
        )
    elif peak < SILENCE_PEAK:
        warnings.warn(f"`{name}` is silent: the mouth will hardly move", stacklevel=3)
    elif peak < FAINT_SHARE * other_peak:
        warnings.warn(
            f"`{name}` is faint in {which}, the only one that is used (peak {peak:.2g}, in another channel"
            f" {other_peak:.2g}): the mouth may hardly move{advice}",
            stacklevel=3,
        )


def _peak(samples: np.ndarray) -> float:
    """Largest magnitude; NaN where a sample is."""
    return float(np.maximum(samples.max(), -samples.min()))  # a copy of all magnitudes would take their memory again


def resample(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """Change the sample rate of a recording (band-limited, soxr "HQ").

    Args:
        waveform: The recording.
        sample_rate_hz: Wanted rate.

    Returns:
        The recording at that rate; the same object if it has it already.

    Raises:
        ValueError: The rate is not positive.
        ImportError: It has another rate and librosa is not installed.
    """
    if sample_rate_hz <= 0:
        raise ValueError(f"`sample_rate_hz` is {sample_rate_hz}, must be positive")
    if sample_rate_hz == waveform.sample_rate_hz:
        return waveform
    try:
        import librosa
    except ImportError as error:
        raise ImportError(
            f"sound of {waveform.sample_rate_hz} Hz is brought to {sample_rate_hz} Hz by librosa, which cannot be"
            f" loaded ({error}): pip install librosa, or give sound of {sample_rate_hz} Hz"
        ) from error
    samples = librosa.resample(
        waveform.samples, orig_sr=waveform.sample_rate_hz, target_sr=sample_rate_hz, res_type="soxr_hq"
    )
    return Waveform(np.ascontiguousarray(samples, np.float32), sample_rate_hz)
