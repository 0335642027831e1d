"""Sounds and pictures whose timing and content are known."""

from fractions import Fraction

import av
import numpy as np


def tone(sample_rate_hz=16_000, duration_s=1.0, frequency_hz=440.0, peak=0.5):
    times_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def clicks(sample_rate_hz, duration_s=3.1):
    samples = np.zeros(round(duration_s * sample_rate_hz), np.float32)
    for start_s in (0.3, 1.0, 1.7, 2.3):
        click = tone(sample_rate_hz, 0.004, 2000.0, 0.8)
        start = round(start_s * sample_rate_hz)
        samples[start : start + len(click)] = click
    return samples


def lag_s(samples, reference, sample_rate_hz):
    size = 1 << (len(reference) * 2).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(reference, size)))
    lag = int(np.argmax(correlation))
    return (lag - size if lag > size // 2 else lag) / sample_rate_hz


def moving_frames(num_frames=12, height=48, width=64):
    row = np.linspace(0, 250, width)
    pictures = [np.broadcast_to(np.roll(row, 2 * index)[:, None], (height, width, 3)) for index in range(num_frames)]
    return np.stack(pictures).astype(np.uint8)


def write_audio(path, samples, sample_rate_hz, codec, start_s=0.0, layout="mono", change=None, options=None):
    """Channels (C, N) into a file, as other programs write it; `change` makes other packets of index and packet."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = sample_rate_hz, Fraction(1, sample_rate_hz)
        frame.pts = round(start_s * sample_rate_hz)
        resampler = av.AudioResampler(stream.format, layout, sample_rate_hz)
        converted = [piece for source in (frame, None) for piece in resampler.resample(source)]
        packets = (packet for piece in (*converted, None) for packet in stream.encode(piece))
        for index, packet in enumerate(packets):
            container.mux(packet if change is None else change(index, packet))
    return path


def with_content(packet, content):
    """A packet of the same place and time that holds something else."""
    other = av.Packet(content)
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.duration, other.stream = packet.duration, packet.stream
    return other
