"""Of sound files that are nothing but frames, what follows damage is heard when it should be."""

import warnings

import numpy as np
import pytest

from diffusers_dawn.media.recordings import read_waveform
from synthetic_media import lag_s, write_audio

RATE_HZ, DURATION_S = 48_000, 3.0
CODECS = ("mp3", "mp2", "ac3", "eac3")


def noise_of_a_crowd():
    samples = np.random.default_rng(0).normal(0, 0.1, round(DURATION_S * RATE_HZ))
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, contents = tmp_path_factory.mktemp("whole"), {}
    for codec in CODECS:
        options = {"write_xing": "0"} if codec == "mp3" else None
        path = write_audio(folder / f"a.{codec}", noise_of_a_crowd()[None], RATE_HZ, codec, options=options)
        contents[codec] = path.read_bytes(), read_waveform(path).samples
    return contents


def read_quietly(content):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = read_waveform(content).samples
    return samples, " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("start_s", "duration_s", "seed"), [(0.5, 0.1, None), (1.0, 0.5, None), (0.7, 0.33, 3)])
def test_what_follows_damage_is_not_early(files, codec, start_s, duration_s, seed):
    content, intact = files[codec]
    first, last = (round(end_s / DURATION_S * len(content)) for end_s in (start_s, start_s + duration_s))
    noise = bytes(last - first) if seed is None else np.random.default_rng(seed).bytes(last - first)
    samples, said = read_quietly(content[:first] + noise + content[last:])
    assert len(samples) == len(intact)
    after = round((start_s + duration_s + 0.2) * RATE_HZ)
    # frames of a constant bit rate tell exactly how many are missing
    assert lag_s(samples[after:], intact[after:], RATE_HZ) == 0
    assert "of silence as its time stamps say" in said


@pytest.mark.parametrize("codec", ["mp3", "mp2", "ac3"])
def test_tags_between_joined_files_take_no_time(files, codec):
    tag = b"ID3\4\0\0\0\0\x27\x10" + b"cover" * 1001 + b"end"  # 10 bytes, and 5008 as it says
    joined = read_quietly(files[codec][0] + tag + files[codec][0])[0]
    assert len(joined) / RATE_HZ == pytest.approx(2 * DURATION_S, abs=0.1)


@pytest.mark.parametrize(("codec", "suffix"), [("flac", "mkv"), ("flac", "flac"), ("wavpack", "wv")])
def test_noise_of_damaged_frames_is_not_heard(tmp_path, codec, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", noise_of_a_crowd()[None] / 4, RATE_HZ, codec)
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = content[:middle] + np.random.default_rng(1).bytes(300) + content[middle + 300 :]
    samples, said = read_quietly(damaged)
    intact, nothing = read_quietly(content)
    assert nothing == "" and "of silence as its time stamps say" in said
    changed = np.flatnonzero(samples != intact)
    assert len(samples) == len(intact) and len(changed) > 1000 and not samples[changed].any()
