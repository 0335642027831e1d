"""Read pictures, recordings and videos from the forms users have them in.

Everything goes through PyAV and Pillow; resampling through librosa. All times count from the start of the container,
so that the picture and the sound of one file stay together.
"""

import io
import itertools
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from .records import FPS, Waveform

if TYPE_CHECKING:
    import av
    import torch

ImageSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | torch.Tensor"
MediaSource: TypeAlias = "str | os.PathLike | bytes | BinaryIO"
WaveformSource: TypeAlias = "MediaSource | np.ndarray | torch.Tensor | tuple[np.ndarray, int] | Waveform"

MAX_AUDIO_CHANNELS = 8
SILENCE_PEAK = 1e-4
# decoded mp3 and float recordings overshoot 1 a little; far above it are integer samples stored as floats
MAX_FLOAT_PEAK = 8.0
# longest block of the common codecs (Opus: 120 ms): a codec pads its last block, never by more than that
MAX_CODEC_PADDING_S = 0.12


def read_image(source: ImageSource, name: str = "image") -> np.ndarray:
    """Read a picture.

    The content decides about the format, not the file's suffix. EXIF orientation is applied, transparency is laid
    over white, of an animation the first picture counts.

    Args:
        source: File, its bytes, a binary stream, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or
            a torch tensor (H, W) or (C, H, W) with C one of 1, 3, 4. Arrays and tensors: uint8 or floats in [0, 1].
        name: Argument name for error messages.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` is not a picture, or an array of another shape, type or range.
        TypeError: If `source` is of another kind.
    """
    if isinstance(source, Image.Image):
        return _rgb_from_pil(source, name)
    if isinstance(source, (str, os.PathLike, bytes, io.IOBase)):
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        opened = opened if isinstance(opened, io.IOBase) else _existing_file(opened, name)
        try:
            with Image.open(opened) as picture:
                if picture.format == "EPS":  # a program, which Pillow would hand to Ghostscript
                    raise ValueError(f"`{name}` is an EPS file, which is not read; convert it to PNG")
                return _rgb_from_pil(picture, name)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"`{name}` cannot be read as a picture ({_describe(source)}): {error}") from error
    array = _as_array(source, name)
    if not isinstance(source, np.ndarray) and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return _rgb_from_pil(Image.fromarray(_uint8_from_array(array, name)), name)


def _rgb_from_pil(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode == "F":
        raise ValueError(f"`{name}` has floating-point pixels without a known range; convert it to RGB first")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # Pillow clips 16-bit grey to 255 instead of scaling it
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def _uint8_from_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in {3, 4})):
        raise ValueError(
            f"`{name}` has shape {array.shape} (channels last); allowed are (H, W) and (H, W, C) with 1, 3 or 4 "
            "channels for arrays, (H, W) and (C, H, W) for tensors"
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"`{name}` holds {array.dtype} values; allowed are uint8 and floats in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(f"`{name}` holds floats from {low:g} to {high:g}; allowed are floats in [0, 1]")
    return np.round(array * 255).astype(np.uint8)


def read_waveform(source: WaveformSource, sample_rate_hz: int | None = None, name: str = "audio") -> Waveform:
    """Read a recording: its first channel, at its own sample rate.

    Reads every container that FFmpeg does, also the sound of a video. Sound that starts later than the picture is
    preceded by silence; padding at the end that the codec added is cut. Raw AAC streams (.aac) say nothing about the
    padding at their start: they come out 1024 samples or so late.

    Args:
        source: File, its bytes, a binary stream, samples, samples with their rate, or a `Waveform`. Samples are 1-D,
            or 2-D with the channels (at most 8) along the shorter axis; floats in [-1, 1] or integers of full scale.
        sample_rate_hz: Rate of samples given without one. Of other sources it must be the rate they have.
        name: Argument name for error messages.

    Returns:
        Mono float32 waveform of at least one video frame's length.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be decoded, has no sound, is empty, shorter than one frame (1/25 s), not
            finite, badly shaped or scaled, lacks a sample rate or contradicts `sample_rate_hz`.
        TypeError: If `source` is of another kind.
    """
    if isinstance(source, Waveform):
        source = (source.samples, source.sample_rate_hz)
    if isinstance(source, tuple):
        if len(source) != 2 or not isinstance(source[1], (int, np.integer)):
            raise ValueError(f"`{name}` is a tuple, but not one of samples and sample rate in this order")
        samples, own_rate_hz = source[0], int(source[1])
        samples, other_peak = _first_channel(_as_array(samples, name), name)
    elif isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        samples, own_rate_hz, other_peak = _decode_audio(source, name)
    else:
        samples, other_peak = _first_channel(_as_array(source, name), name)
        own_rate_hz = sample_rate_hz
        if own_rate_hz is None:
            raise ValueError(f"`{name}` holds samples without a rate: `sample_rate_hz` must be given")
    if sample_rate_hz not in {None, own_rate_hz}:
        raise ValueError(f"`sample_rate_hz` is {sample_rate_hz}, but `{name}` has {own_rate_hz} Hz")
    _check_samples(samples, own_rate_hz, other_peak, name)
    return Waveform(samples, own_rate_hz)


def _first_channel(array: np.ndarray, name: str) -> tuple[np.ndarray, float]:
    """First channel as float32, and the largest magnitude of the others."""
    if array.ndim not in {1, 2}:
        raise ValueError(f"`{name}` has shape {array.shape}; allowed are 1-D samples and 2-D samples of channels")
    channels = array[None] if array.ndim == 1 else array
    if channels.shape[0] > channels.shape[1] > 0:
        channels = channels.T
    if len(channels) > MAX_AUDIO_CHANNELS:
        raise ValueError(
            f"`{name}` has shape {array.shape}: its shorter axis must be the channels, at most {MAX_AUDIO_CHANNELS}"
        )
    if channels.size == 0:
        return np.zeros(0, np.float32), 0.0
    peak = max((float(np.abs(_float_samples(channel, name)).max()) for channel in channels[1:]), default=0.0)
    return np.ascontiguousarray(_float_samples(channels[0], name)), peak


def _float_samples(samples: np.ndarray, name: str) -> np.ndarray:
    """Full-scale integers to [-1, 1); unsigned bytes are centred at 128 as in WAV files."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in {np.dtype(np.int16), np.dtype(np.int32)}:
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if np.issubdtype(samples.dtype, np.floating):
        return samples.astype(np.float32)
    raise ValueError(f"`{name}` holds {samples.dtype} samples; allowed are floats, int16, int32 and uint8")


def _decode_audio(source: MediaSource, name: str) -> tuple[np.ndarray, int, float]:
    """First channel, sample rate, and the largest magnitude of the other channels."""
    blocks, other_peak, rate_hz, start_s = [], 0.0, None, 0.0
    with _open_container(source, name) as container:
        if not container.streams.audio:
            raise ValueError(f"`{name}` has no audio track ({_describe(source)})")
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            if rate_hz is None:
                rate_hz = frame.sample_rate
                start_s = _time_s(frame, container) or 0.0
            if frame.sample_rate != rate_hz:
                raise ValueError(f"`{name}` changes its sample rate from {rate_hz} to {frame.sample_rate} Hz")
            samples = frame.to_ndarray()
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            blocks.append(_float_samples(samples[0], name))
            if len(samples) > 1:
                other_peak = max(other_peak, float(np.abs(_float_samples(samples[1:], name)).max(initial=0)))
        end_s = _declared_end_s(container, stream)
    if rate_hz is None:
        raise ValueError(f"`{name}` is empty: its audio track holds no samples ({_describe(source)})")
    lead = round(start_s * rate_hz)
    blocks.insert(0, np.zeros(max(lead, 0), np.float32))
    samples = np.concatenate(blocks)[max(-lead, 0) :]
    # a larger excess is no padding: the header's duration is an estimate there (mp3 without an index)
    if end_s is not None and 0 < len(samples) / rate_hz - end_s <= MAX_CODEC_PADDING_S:
        samples = samples[: max(round(end_s * rate_hz), 1)]
    return samples, rate_hz, other_peak


def _declared_end_s(container: "av.container.InputContainer", stream: "av.stream.Stream") -> float | None:
    ends_s = []
    if container.duration is not None:
        ends_s.append(container.duration / 1e6)
    if stream.duration is not None:
        start_s = float((stream.start_time or 0) * stream.time_base) - (container.start_time or 0) / 1e6
        ends_s.append(start_s + float(stream.duration * stream.time_base))
    return min(ends_s, default=None)


def _check_samples(samples: np.ndarray, rate_hz: int, other_peak: float, name: str) -> None:
    if rate_hz <= 0:
        raise ValueError(f"`{name}` has a sample rate of {rate_hz} Hz; it must be positive")
    if len(samples) == 0:
        raise ValueError(f"`{name}` is empty")
    if not np.isfinite(samples).all():
        raise ValueError(f"`{name}` holds samples that are NaN or infinite")
    if len(samples) * FPS < rate_hz:
        raise ValueError(
            f"`{name}` lasts {len(samples) / rate_hz:.4f} s; it must last one video frame (1/{FPS} s) at least"
        )
    peak = float(np.abs(samples).max())
    if peak > MAX_FLOAT_PEAK:
        raise ValueError(f"`{name}` holds floats up to {peak:g}; allowed are floats in [-1, 1]")
    if peak < SILENCE_PEAK:
        where = "silent in its first channel, the only one that is used" if other_peak >= SILENCE_PEAK else "silent"
        warnings.warn(f"`{name}` is {where}: the mouth will hardly move", stacklevel=3)


def resample(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """Change the sample rate of a recording (band-limited, soxr "HQ").

    Args:
        waveform: The recording.
        sample_rate_hz: Wanted rate.

    Returns:
        The recording at that rate; the same object if it has it already.

    Raises:
        ValueError: If the rate is not positive.
    """
    if sample_rate_hz <= 0:
        raise ValueError(f"`sample_rate_hz` is {sample_rate_hz}; it must be positive")
    if sample_rate_hz == waveform.sample_rate_hz:
        return waveform
    import librosa

    samples = librosa.resample(
        waveform.samples, orig_sr=waveform.sample_rate_hz, target_sr=sample_rate_hz, res_type="soxr_hq"
    )
    return Waveform(np.ascontiguousarray(samples, np.float32), sample_rate_hz)


def read_video(
    source: MediaSource, fps: float | None = None, max_frames: int | None = None, name: str = "video"
) -> tuple[np.ndarray, float]:
    """Read the pictures of a video, turned upright as its metadata says.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is then the one shown at i / fps s after the container's start.
            None keeps the frames as they are stored.
        max_frames: Stop after so many frames; None reads all.
        name: Argument name for error messages.

    Returns:
        uint8 array (F, H, W, 3), and its frames per second (the average rate when `fps` is None).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be decoded or has no pictures, or `fps` or `max_frames` is not positive.
    """
    if (fps is not None and fps <= 0) or (max_frames is not None and max_frames <= 0):
        raise ValueError(f"`fps` ({fps}) and `max_frames` ({max_frames}) must be positive where they are given")
    if fps is not None:
        return np.stack(list(itertools.islice(stream_video(source, fps, name=name), max_frames))), fps
    shots = list(
        itertools.islice(((_upright(shot.frame), shot.native_fps) for shot in _shots(source, name)), max_frames)
    )
    return np.stack([picture for picture, _ in shots]), shots[0][1]


def stream_video(source: MediaSource, fps: float, first_frame: int = 0, name: str = "video") -> Iterator[np.ndarray]:
    """Read the pictures of a video one by one, so that its length does not matter.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second: frame i is the one shown at i / fps s after the container's start.
        first_frame: Index of the first frame to give; those before it are decoded, but not converted.
        name: Argument name for error messages.

    Yields:
        uint8 arrays (H, W, 3), turned upright as the metadata says. Neighbours may be the same object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be decoded or has no pictures, `fps` is not positive or `first_frame` negative.
    """
    if fps <= 0 or first_frame < 0:
        raise ValueError(f"`fps` ({fps}) must be positive, `first_frame` ({first_frame}) 0 or more")
    index, shown, picture = 0, None, None
    for shot in _shots(source, name):
        # what was shown until now fills the time up to this frame; 1 us absorbs rounded time stamps
        while shown is not None and index / fps < shot.time_s - 1e-6:
            if index >= first_frame:
                picture = _upright(shown.frame) if picture is None else picture
                yield picture
            index += 1
        shown, picture = shot, None
    for _ in range(max(index, first_frame), _num_frames_until(shown.time_s, shown.native_fps, fps)):
        picture = _upright(shown.frame) if picture is None else picture
        yield picture


def count_video_frames(source: MediaSource, fps: float, name: str = "video") -> int:
    """Count how many frames `stream_video` gives, without decoding any.

    Args:
        source: File, its bytes, or a binary stream.
        fps: Wanted frames per second.
        name: Argument name for error messages.

    Returns:
        Number of frames; more than `stream_video` gives where a part of the file cannot be decoded.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `source` cannot be read or has no pictures, or `fps` is not positive.
    """
    if fps <= 0:
        raise ValueError(f"`fps` is {fps}; it must be positive")
    with _open_container(source, name) as container:
        stream, native_fps = _video_stream(container, source, name)
        packets = [packet for packet in container.demux(stream) if packet.size > 0 and not packet.is_discard]
        times_s = [_time_s(packet, container) for packet in packets]
    if not packets:
        raise ValueError(f"`{name}` holds no pictures ({_describe(source)})")
    last_s = max(index / native_fps if time_s is None else time_s for index, time_s in enumerate(times_s))
    return _num_frames_until(last_s, native_fps, fps)


class _Shot(NamedTuple):
    """A stored picture, when it is shown, and how many there are per second on average."""

    frame: "av.VideoFrame"
    time_s: float
    native_fps: float


def _shots(source: MediaSource, name: str) -> Iterator[_Shot]:
    shot = None
    with _open_container(source, name) as container:
        stream, native_fps = _video_stream(container, source, name)
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            time_s = _time_s(frame, container)
            shot = _Shot(frame, index / native_fps if time_s is None else time_s, native_fps)
            yield shot
    if shot is None:
        raise ValueError(f"`{name}` holds no pictures ({_describe(source)})")


def _video_stream(
    container: "av.container.InputContainer", source: MediaSource, name: str
) -> "tuple[av.video.stream.VideoStream, float]":
    """The video track, and its average frames per second."""
    if not container.streams.video:
        raise ValueError(f"`{name}` has no video track ({_describe(source)})")
    stream = container.streams.video[0]
    return stream, float(stream.average_rate or stream.guessed_rate or FPS)


def _upright(frame: "av.VideoFrame") -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _num_frames_until(last_s: float, native_fps: float, fps: float) -> int:
    """Frames until the end of the last picture, which is shown for an average time; those before it all count."""
    return max(round((last_s + 1 / native_fps) * fps), math.ceil((last_s - 1e-6) * fps), 1)


@contextmanager
def _open_container(source: MediaSource, name: str) -> Iterator["av.container.InputContainer"]:
    """Open a file for decoding; decoding errors inside the block become ValueErrors that name the argument."""
    import av

    if isinstance(source, (str, os.PathLike)):
        source = str(_existing_file(source, name))
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with av.open(opened) as container:
            yield container
    except (av.FFmpegError, OSError, IndexError) as error:
        # PyAV has no class of its own for some error codes, and does not expect tracks that show up late
        raise ValueError(f"`{name}` cannot be decoded ({_describe(source)}): {error}") from error


def _time_s(frame: "av.frame.Frame | av.Packet", container: "av.container.InputContainer") -> float | None:
    if frame.pts is None:
        return None
    return float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6


def _existing_file(path: str | os.PathLike, name: str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"`{name}` is a directory: {path}; a file is needed")
    if not path.exists():
        raise FileNotFoundError(f"`{name}` does not exist: {path}")
    return path


def _describe(source: object) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _as_array(source: object, name: str) -> np.ndarray:
    """A numpy array from an array or a torch tensor (on any device, of any float type)."""
    if isinstance(source, np.ndarray):
        return source
    # a tensor is recognised by its methods, so that reading files does not import torch
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        return (source.float() if source.is_floating_point() else source).numpy()
    raise TypeError(f"`{name}` is of type {type(source).__name__}, which cannot be read")
