"""Make clean speech sound like recordings: noise, music, rooms, microphones, phones, levels.

Nothing here moves the speech in time: filters have no phase, the direct sound of a room arrives at once.
"""

import numpy as np

from diffusers_dawn.records import SAMPLE_RATE_HZ

NOISE_KINDS = ("white", "pink", "babble", "music")
# how likely each change is, and where its settings are drawn from
REVERBERATION_SHARE, DECAYS_S, DIRECT_TO_REVERBERANT_DB = 0.5, (0.1, 0.7), (0.0, 18.0)
BAND_SHARE, LOWEST_HZ, HIGHEST_HZ = 0.5, (30.0, 300.0), (2_800.0, 7_800.0)
NOISE_SHARE, SNRS_DB = 0.8, (5.0, 40.0)
PHONE_SHARE, PHONE_BAND_HZ = 0.1, (300.0, 3_400.0)
GAINS_DB = (-18.0, 6.0)
MAX_PEAK = 0.99
# first reflections come after the direct sound
FIRST_REFLECTION_S = 0.003
BABBLE_VOICES = 6
# music: time between beats, lowest note, and semitones of its scale above that
BEATS_S, KEYS_HZ, MAJOR_SCALE = (0.15, 0.6), (80.0, 300.0), (0, 2, 4, 5, 7, 9, 11)


def augment(samples: np.ndarray, seed: int) -> np.ndarray:
    """Change a recording at random: a room, a microphone, noise, a level.

    Args:
        samples: Float array (N,) in [-1, 1], 16 kHz.
        seed: Same seed, same changes.

    Returns:
        Float32 array (N,) in [-1, 1]; what was said when stays as it is.

    Raises:
        ValueError: `samples` is not one-dimensional, or empty.
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
    if rng.random() < PHONE_SHARE:
        changed = through_phone(changed)
    return change_gain(changed, rng.uniform(*GAINS_DB)).astype(np.float32)


def noise_alone(num_samples: int, seed: int) -> np.ndarray:
    """Record a place where nobody speaks.

    Args:
        num_samples: Length.
        seed: Same seed, same noise.

    Returns:
        Float32 array (N,) in [-1, 1], 16 kHz.

    Raises:
        ValueError: `num_samples` is not positive.
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` is {num_samples}, must be positive")
    rng = np.random.default_rng(seed)
    noise = _noise(num_samples, NOISE_KINDS[rng.integers(len(NOISE_KINDS))], rng)
    noise *= 10 ** (rng.uniform(*GAINS_DB) / 20) * 0.1 / max(float(noise.std()), 1e-12)
    return noise.clip(-1, 1).astype(np.float32)


def through_phone(samples: np.ndarray) -> np.ndarray:
    """Send a recording through a telephone: its band, and 8 bits of mu-law (ITU-T G.711).

    Args:
        samples: Array (N,), 16 kHz.

    Returns:
        Array (N,).

    Raises:
        ValueError: `samples` is not one-dimensional, or empty.
    """
    banded = limit_band(samples, *PHONE_BAND_HZ)
    peak = max(float(np.abs(banded).max()), 1e-12)
    companded = np.sign(banded) * np.log1p(255 * np.abs(banded) / peak) / np.log(256)
    steps = np.round(companded * 127) / 127
    return np.sign(steps) * (256 ** np.abs(steps) - 1) / 255 * peak


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
        ValueError: `samples` is not one-dimensional or empty, or `decay_s` is not positive.
    """
    _check(samples)
    if not decay_s > 0:
        raise ValueError(f"`decay_s` is {decay_s}, must be positive")
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
        ValueError: `samples` is not one-dimensional or empty, or the limits are not 0 < lowest < highest.
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
        kind: "white", "pink" (energy falls by 3 dB per octave), "babble" (as of many voices at once: their
            spectrum, and loudness that swells with syllables) or "music" (chords, a melody, beats).
        rng: Draws the noise.

    Returns:
        Array (N,).

    Raises:
        ValueError: `samples` is not one-dimensional or empty, or there is no such kind.
    """
    _check(samples)
    if kind not in NOISE_KINDS:
        raise ValueError(f"`kind` is {kind!r}, must be one of {', '.join(NOISE_KINDS)}")
    noise = _noise(len(samples), kind, rng)
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
        ValueError: `samples` is not one-dimensional, or empty.
    """
    _check(samples)
    peak = max(float(np.abs(samples).max()), 1e-12)
    return samples * min(10 ** (gain_db / 20), MAX_PEAK / peak)


def _noise(num_samples: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "babble":
        return _babble(num_samples, rng)
    return _music(num_samples, rng) if kind == "music" else _coloured_noise(num_samples, kind, rng)


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


def _music(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Notes of a key that ring out, some of them struck together, over beats of noise."""
    music = np.zeros(num_samples)
    beat = round(rng.uniform(*BEATS_S) * SAMPLE_RATE_HZ)
    key_hz = rng.uniform(*KEYS_HZ)
    tilt, decay_s = rng.uniform(0.5, 2.0), rng.uniform(0.15, 1.0)
    has_beats = rng.random() < 0.5
    for start in range(-beat, num_samples, beat):
        times_s = np.arange(min(2 * beat, num_samples - max(start, 0))) / SAMPLE_RATE_HZ
        fading = np.exp(-times_s / decay_s) * np.minimum(times_s / 0.01, 1)
        sound = np.zeros(len(times_s))
        for semitone in rng.choice(MAJOR_SCALE, rng.integers(1, 4)):
            note_hz = key_hz * 2 ** (semitone / 12 + rng.integers(0, 3))
            for overtone in range(1, int(min(12, 7_000 / note_hz)) + 1):
                sound += overtone**-tilt * np.sin(2 * np.pi * (overtone * note_hz * times_s + rng.uniform()))
        sound *= fading
        if has_beats:
            sound += rng.normal(size=len(times_s)) * np.exp(-times_s / 0.03) * rng.uniform(0, 2)
        place = max(start, 0)
        music[place : place + len(sound)] += sound
    return music


def _check(samples: np.ndarray) -> None:
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"`samples` has shape {samples.shape}, must be (N,) with at least one sample")
