"""Make clean synthetic speech sound like recordings: noise, rooms, microphones, levels.

Nothing here moves the speech in time: filters have no phase, the direct sound of a room arrives at once.
"""

import numpy as np

from diffusers_dawn.records import SAMPLE_RATE_HZ

NOISE_KINDS = ("white", "pink", "babble")
# how likely each change is, and where its settings are drawn from
REVERBERATION_SHARE, DECAYS_S, DIRECT_TO_REVERBERANT_DB = 0.5, (0.1, 0.7), (0.0, 18.0)
BAND_SHARE, LOWEST_HZ, HIGHEST_HZ = 0.5, (30.0, 300.0), (2_800.0, 7_800.0)
NOISE_SHARE, SNRS_DB = 0.8, (5.0, 40.0)
GAINS_DB = (-18.0, 6.0)
MAX_PEAK = 0.99
# first reflections come after the direct sound
FIRST_REFLECTION_S = 0.003
BABBLE_VOICES = 6


def augment(samples: np.ndarray, seed: int) -> np.ndarray:
    """Change a recording at random: a room, a microphone, noise, a level.

    Args:
        samples: Float array (N,) in [-1, 1], 16 kHz.
        seed: Same seed, same changes.

    Returns:
        Float32 array (N,) in [-1, 1]; what was said when stays as it is.

    Raises:
        ValueError: If `samples` is not one-dimensional, or empty.
    """
    _check(samples)
    rng = np.random.default_rng(seed)
    changed = samples.astype(np.float64)
    if rng.random() < REVERBERATION_SHARE:
        changed = reverberate(changed, rng.uniform(*DECAYS_S), rng.uniform(*DIRECT_TO_REVERBERANT_DB), rng)
    if rng.random() < BAND_SHARE:
        # by octaves
        lowest_hz, highest_hz = (np.exp(rng.uniform(*np.log(limits))) for limits in (LOWEST_HZ, HIGHEST_HZ))
        changed = limit_band(changed, lowest_hz, highest_hz)
    if rng.random() < NOISE_SHARE:
        kind = NOISE_KINDS[rng.integers(len(NOISE_KINDS))]
        changed = add_noise(changed, rng.uniform(*SNRS_DB), kind, rng)
    return change_gain(changed, rng.uniform(*GAINS_DB)).astype(np.float32)


def reverberate(
    samples: np.ndarray, decay_s: float, direct_to_reverberant_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Put a recording into a room whose echoes are noise that decays exponentially.

    Args:
        samples: Array (N,), 16 kHz.
        decay_s: Time in which the echoes fall by 60 dB.
        direct_to_reverberant_db: Energy of the direct sound over that of all echoes.
        rng: Draws the echoes.

    Returns:
        Array (N,): the direct sound, unchanged, and its echoes.

    Raises:
        ValueError: If `samples` is not one-dimensional or empty, or `decay_s` is not positive.
    """
    _check(samples)
    if not decay_s > 0:
        raise ValueError(f"`decay_s` is {decay_s}; it must be positive")
    times_s = np.arange(max(round(decay_s * SAMPLE_RATE_HZ), 2)) / SAMPLE_RATE_HZ
    echoes = rng.normal(size=len(times_s)) * 10 ** (-3 * times_s / decay_s)
    echoes[times_s < min(FIRST_REFLECTION_S, times_s[-1])] = 0
    echoes *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.sum(echoes**2))
    length = len(samples) + len(echoes)
    reverberant = np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(echoes, length), length)
    return samples + reverberant[: len(samples)]


def limit_band(samples: np.ndarray, lowest_hz: float, highest_hz: float) -> np.ndarray:
    """Take away low and high frequencies, with slopes of 12 dB per octave or more and without delay.

    Args:
        samples: Array (N,), 16 kHz.
        lowest_hz: Frequency below which the sound is weakened (by 3 dB there).
        highest_hz: Frequency above which it is weakened.

    Returns:
        Array (N,).

    Raises:
        ValueError: If `samples` is not one-dimensional or empty, or the limits are not 0 < lowest < highest.
    """
    _check(samples)
    if not 0 < lowest_hz < highest_hz:
        raise ValueError(f"`lowest_hz` ({lowest_hz}) must be positive and below `highest_hz` ({highest_hz})")
    # a tenth of a second of silence keeps the end from sounding at the start
    length = len(samples) + SAMPLE_RATE_HZ // 10
    frequencies_hz = np.maximum(np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ), 1e-3)
    gains = 1 / np.sqrt((1 + (lowest_hz / frequencies_hz) ** 4) * (1 + (frequencies_hz / highest_hz) ** 8))
    return np.fft.irfft(np.fft.rfft(samples, length) * gains, length)[: len(samples)]


def add_noise(samples: np.ndarray, snr_db: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Add noise.

    Args:
        samples: Array (N,), 16 kHz.
        snr_db: Energy of the recording over that of the noise.
        kind: "white", "pink" (energy falls by 3 dB per octave) or "babble" (as of many voices at once: their
            spectrum, and loudness that swells with syllables).
        rng: Draws the noise.

    Returns:
        Array (N,).

    Raises:
        ValueError: If `samples` is not one-dimensional or empty, or there is no such kind.
    """
    _check(samples)
    if kind not in NOISE_KINDS:
        raise ValueError(f"`kind` is {kind!r}, must be one of {', '.join(NOISE_KINDS)}")
    noise = _babble(len(samples), rng) if kind == "babble" else _coloured_noise(len(samples), kind, rng)
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)) / max(np.mean(noise**2), 1e-12))
    return samples + noise * level * 10 ** (-snr_db / 20)


def change_gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Change the level, as far as the peak allows.

    Args:
        samples: Array (N,).
        gain_db: Wanted change.

    Returns:
        Array (N,) within [-0.99, 0.99].

    Raises:
        ValueError: If `samples` is not one-dimensional, or empty.
    """
    _check(samples)
    peak = max(float(np.abs(samples).max()), 1e-12)
    return samples * min(10 ** (gain_db / 20), MAX_PEAK / peak)


def _coloured_noise(num_samples: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    frequencies_hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ)
    if kind == "white":
        gains = np.ones(len(frequencies_hz))
    elif kind == "pink":
        gains = 1 / np.sqrt(np.maximum(frequencies_hz, 20))
    else:  # long-term average of speech: flat up to 500 Hz, then falling by about 9 dB per octave
        gains = (frequencies_hz > 80) / (1 + (frequencies_hz / 500) ** 1.5)
    return np.fft.irfft(np.fft.rfft(rng.normal(size=num_samples)) * gains, num_samples)


def _babble(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    babble = np.zeros(num_samples)
    for _ in range(BABBLE_VOICES):
        # about four syllables per second, at no steady pace
        syllable_hz, drift_hz = rng.uniform(3, 6), rng.uniform(0.3, 1)
        phase = 2 * np.pi * (syllable_hz * times_s + rng.uniform()) + np.sin(2 * np.pi * drift_hz * times_s) * 2
        babble += _coloured_noise(num_samples, "speech", rng) * (1 + np.sin(phase)) ** 2
    return babble


def _check(samples: np.ndarray) -> None:
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"`samples` has shape {samples.shape}; it must be (N,) with one sample at least")
