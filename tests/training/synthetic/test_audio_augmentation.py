import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.synthetic.audio_augmentation import (
    NOISE_KINDS,
    add_noise,
    augment,
    change_gain,
    limit_band,
    noise_alone,
    reverberate,
    through_phone,
)

RATE_HZ = 16_000


def syllables(num_samples=RATE_HZ, seed=0):
    """Noise that swells and falls, as speech does."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(num_samples) / RATE_HZ
    return (0.3 * rng.normal(size=num_samples).clip(-3, 3) * np.sin(2 * np.pi * 3 * times_s) ** 4 / 3).astype(
        np.float32
    )


def peak_lag(changed, samples, reach=200):
    lags = np.arange(-reach, reach + 1)
    inner = samples[reach:-reach].astype(np.float64)
    products = [inner @ changed[reach + lag : len(samples) - reach + lag] for lag in lags]
    return lags[int(np.argmax(products))]


def level_db(samples, lowest_hz, highest_hz):
    energy = np.abs(np.fft.rfft(samples)) ** 2
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    return 10 * np.log10(energy[(frequencies_hz >= lowest_hz) & (frequencies_hz < highest_hz)].mean())


@given(st.integers(0, 2**63), st.integers(1000, 20_000))
def test_augmentation_keeps_length_and_range_and_does_not_shift(seed, num_samples):
    samples = syllables(num_samples)
    changed = augment(samples, seed)
    assert changed.shape == samples.shape and changed.dtype == np.float32
    assert np.isfinite(changed).all() and np.abs(changed).max() <= 1
    assert peak_lag(changed, samples) == 0


def test_same_seed_gives_the_same_bytes_and_seeds_differ():
    changed = [augment(syllables(), seed).tobytes() for seed in range(20)]
    assert changed == [augment(syllables(), seed).tobytes() for seed in range(20)]
    assert len(set(changed)) == 20


def test_silence_stays_silent_before_reverberant_speech_and_rings_after_it():
    samples = np.zeros(RATE_HZ)
    samples[8000] = 0.5
    changed = reverberate(samples, 0.3, 6.0, np.random.default_rng(0))
    assert np.abs(changed[:8000]).max() < 1e-12 and changed[8000] == pytest.approx(0.5)
    echoes = changed[8001:]
    assert np.sum(changed[8000] ** 2) / np.sum(echoes**2) == pytest.approx(10**0.6, rel=1e-6)
    # 60 dB in 0.3 s: 20 dB in each tenth
    early, late = (np.sqrt(np.mean(echoes[start : start + 800] ** 2)) for start in (400, 2000))
    assert 20 * np.log10(early / late) == pytest.approx(20, abs=2)


def test_band_limits_weaken_what_lies_outside():
    noise = np.random.default_rng(0).normal(size=RATE_HZ)
    limited = limit_band(noise, 300, 3000)
    change_db = [level_db(limited, *band) - level_db(noise, *band) for band in ((20, 75), (600, 1500), (6000, 8000))]
    assert change_db[0] < -20 and abs(change_db[1]) < 1 and change_db[2] < -20


@pytest.mark.parametrize("kind", NOISE_KINDS)
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_has_the_wanted_level(kind, snr_db):
    samples = syllables(3 * RATE_HZ)
    noise = add_noise(samples, snr_db, kind, np.random.default_rng(1)) - samples
    assert 10 * np.log10(np.mean(samples.astype(float) ** 2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=1e-3)


def test_noises_have_their_spectra():
    silent = np.full(4 * RATE_HZ, 1e-3)
    fall_db = {}
    for kind in NOISE_KINDS:
        noise = add_noise(silent, 0.0, kind, np.random.default_rng(2)) - silent
        fall_db[kind] = level_db(noise, 500, 600) - level_db(noise, 4000, 4800)
    assert abs(fall_db["white"]) < 1
    assert fall_db["pink"] == pytest.approx(9, abs=1)  # three octaves
    assert fall_db["babble"] > 15


def test_gain_stops_before_clipping():
    samples = np.array([0.1, -0.2, 0.4])
    np.testing.assert_allclose(change_gain(samples, -6.0206), samples / 2, rtol=1e-5)
    assert np.abs(change_gain(samples, 40)).max() == pytest.approx(0.99)
    assert change_gain(np.zeros(3), 6).tolist() == [0, 0, 0]


def test_silence_can_be_augmented():
    for seed in range(10):
        assert np.isfinite(augment(np.zeros(5000, np.float32), seed)).all()


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 10))])
def test_samples_of_another_shape_are_refused(samples):
    rng = np.random.default_rng(0)
    for change in (
        lambda: augment(samples, 0),
        lambda: reverberate(samples, 0.3, 6, rng),
        lambda: limit_band(samples, 100, 4000),
        lambda: add_noise(samples, 10, "pink", rng),
        lambda: change_gain(samples, 3),
    ):
        with pytest.raises(ValueError, match="`samples` has shape"):
            change()


def test_impossible_settings_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="`decay_s` is 0"):
        reverberate(syllables(), 0, 6, rng)
    with pytest.raises(ValueError, match="`lowest_hz`"):
        limit_band(syllables(), 4000, 300)
    with pytest.raises(ValueError, match="`kind` is 'brown'"):
        add_noise(syllables(), 10, "brown", rng)


@given(st.integers(0, 2**32), st.integers(1, 30_000))
def test_noise_alone_is_in_range_and_repeatable(seed, num_samples):
    noise = noise_alone(num_samples, seed)
    assert noise.shape == (num_samples,) and noise.dtype == np.float32
    assert np.isfinite(noise).all() and np.abs(noise).max() <= 1
    assert np.array_equal(noise, noise_alone(num_samples, seed))


def test_music_has_tones_that_noise_has_not():
    def peak_share(kind):
        noise = add_noise(np.full(RATE_HZ, 1e-6), -100, kind, np.random.default_rng(3))
        energy = np.sort(np.abs(np.fft.rfft(noise)[50:]) ** 2)
        return energy[-80:].sum() / energy.sum()

    assert peak_share("music") > 1.5 * peak_share("babble") and peak_share("music") > 0.5


def test_phone_passes_its_band_only():
    noise = np.random.default_rng(0).normal(size=RATE_HZ) * 0.1
    heard = through_phone(noise)
    assert level_db(heard, 600, 3000) == pytest.approx(level_db(noise, 600, 3000), abs=1)
    assert level_db(heard, 20, 100) < level_db(noise, 20, 100) - 12
    assert level_db(heard, 6000, 8000) < level_db(noise, 6000, 8000) - 12


def test_phone_has_eight_bits():
    assert len(np.unique(through_phone(syllables()).round(9))) <= 255


def test_noise_of_no_length_is_refused():
    with pytest.raises(ValueError, match="`num_samples` is 0, must be positive"):
        noise_alone(0, 0)
