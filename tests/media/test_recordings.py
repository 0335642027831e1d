import struct
import sys
import warnings
from contextlib import nullcontext
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.media.recordings import read_sound_layout, read_waveform, resample
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.records import FPS, Waveform
from real_inputs import REAL, needs_real
from synthetic_media import clicks, lag_s, moving_frames, tone, with_content, write_audio


@pytest.mark.parametrize(
    ("suffix", "codec", "rate_hz"),
    [
        (".wav", "pcm_s16le", 16_000),
        (".wav", "pcm_s24le", 48_000),
        (".wav", "pcm_f32le", 22_050),
        (".wav", "pcm_u8", 8_000),
        (".mp3", "libmp3lame", 44_100),
        (".m4a", "aac", 44_100),
        (".m4a", "aac", 16_000),
        (".ogg", "libopus", 48_000),
        (".webm", "libopus", 48_000),
        (".flac", "flac", 16_000),
        (".mov", "pcm_s16le", 16_000),
    ],
)
def test_every_container_decodes_without_lag_to_its_true_length(tmp_path, suffix, codec, rate_hz):
    samples = clicks(rate_hz)
    waveform = read_waveform(write_audio(tmp_path / f"clicks{suffix}", samples[None], rate_hz, codec))
    assert waveform.sample_rate_hz == rate_hz and waveform.samples.dtype == np.float32
    # Matroska rounds to milliseconds; Opus in it ends up to 10 ms late as it declares no duration
    assert abs(waveform.duration_s - len(samples) / rate_hz) < 0.010
    assert abs(lag_s(waveform.samples, samples, rate_hz)) < 0.001


def test_a_file_of_64_bit_integers_is_read_at_full_scale(tmp_path):
    path = write_audio(tmp_path / "wide.wav", tone(peak=0.5)[None], 16_000, "pcm_s64le")
    np.testing.assert_allclose(read_waveform(path).samples, tone(peak=0.5), atol=1e-6)


@settings(max_examples=20)
@given(num_bad=st.integers(1, 12), seed=st.integers(0, 99))
def test_damaged_packets_are_silent_and_all_others_keep_their_time(tmp_path_factory, num_bad, seed):
    """A click in every packet of 20 ms: those that are left lie where they did."""
    path = tmp_path_factory.mktemp("damaged") / "clicks.mkv"
    rng = np.random.default_rng(seed)
    samples = np.zeros(16_000, np.int16)
    samples[::320] = 20_000
    lost = set(rng.choice(np.arange(1, 50), num_bad, replace=False).tolist())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for index in sorted(set(range(50)) - lost):
            frame = av.AudioFrame.from_ndarray(samples[None, 320 * index : 320 * (index + 1)], "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 320 * index, Fraction(1, 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    has_gap = any(index < max(set(range(50)) - lost) for index in lost)
    with pytest.warns(UserWarning, match="gap.* of silence as its") if has_gap else nullcontext():
        read = read_waveform(path).samples
    expected = [320 * index for index in range(50) if index not in lost]
    assert np.flatnonzero(read).tolist() == expected


def bursts(sample_rate_hz):
    """Tones of 80 ms, each of its own pitch, four a second for four seconds."""
    samples = np.zeros(4 * sample_rate_hz, np.float32)
    for index in range(16):
        start, burst = round((0.25 * index + 0.05) * sample_rate_hz), tone(sample_rate_hz, 0.08, 400 + 60 * index, 0.6)
        samples[start : start + len(burst)] = burst
    return samples


def damaged_inside(index, packet):
    """Noise in the packets from 1.3 to 1.6 s, with which each decoder gave numbers up to 9, or an error of its own."""
    if not 1.3 <= packet.pts * packet.time_base < 1.6:
        return packet
    content = bytes(packet)
    noise = np.random.default_rng(index).integers(0, 256, len(content) - len(content) // 4, dtype=np.uint8)
    return with_content(packet, content[: len(content) // 4] + noise.tobytes())


@pytest.mark.parametrize(
    ("suffix", "codec", "rate_hz"),
    [(".mp4", "aac", 44_100), (".mp3", "libmp3lame", 44_100)],
)
def test_damage_that_decoders_call_something_else_or_turn_into_noise_costs_itself_only(
    tmp_path, suffix, codec, rate_hz
):
    samples = bursts(rate_hz)[None]
    path = write_audio(tmp_path / f"damaged{suffix}", samples, rate_hz, codec, change=damaged_inside)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        waveform = read_waveform(path)
    assert any("`audio` has" in str(warning.message) and "damaged place" in str(warning.message) for warning in said)
    intact = read_waveform(write_audio(tmp_path / f"intact{suffix}", samples, rate_hz, codec)).samples
    assert len(waveform.samples) == pytest.approx(len(intact), abs=0.01 * rate_hz)
    before, behind = slice(0, int(1.2 * rate_hz)), slice(int(1.7 * rate_hz), int(3.9 * rate_hz))
    for part in (before, behind):
        np.testing.assert_allclose(waveform.samples[part], intact[part], atol=0.01)


def test_joined_files_of_other_rates_and_channels_are_read_at_the_first_rate(tmp_path):
    joined = b""
    for index, (rate_hz, layout) in enumerate([(44_100, "mono"), (48_000, "stereo"), (22_050, "mono")]):
        samples = np.stack([tone(rate_hz, 2.0)] * (1 + (layout == "stereo")))
        path = write_audio(tmp_path / f"{index}.mp3", samples, rate_hz, "libmp3lame", layout=layout)
        joined += path.read_bytes()
    with pytest.warns(UserWarning, match="`audio` changes its sample rate; 22050, 48000 Hz are brought to 44100 Hz"):
        waveform = read_waveform(joined)
    # an encoder pads each file by up to three blocks, and the first of the others is lost
    assert waveform.sample_rate_hz == 44_100 and waveform.duration_s == pytest.approx(6, abs=0.25)
    for start_s in (0.2, 2.3, 4.4):
        heard = waveform.samples[int(start_s * 44_100) : int((start_s + 1.5) * 44_100)]
        assert np.argmax(np.abs(np.fft.rfft(heard))) / 1.5 == pytest.approx(440, abs=1)


@pytest.mark.parametrize(("suffix", "codec"), [(".flac", "flac"), (".webm", "libopus"), (".aiff", "pcm_s16be")])
def test_a_recording_that_was_cut_off_is_read_and_said(tmp_path, suffix, codec):
    path = write_audio(tmp_path / f"whole{suffix}", bursts(48_000)[None], 48_000, codec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = read_waveform(path)
    content = path.read_bytes()
    with pytest.warns(UserWarning, match=r"`audio` is cut off or damaged: it ends after \d\.\d+ of 4.0\d s"):
        cut = read_waveform(content[: len(content) * 2 // 3])
    assert 1.5 < cut.duration_s < 3.2 and np.array_equal(
        cut.samples[: 48_000 * 3 // 2], whole.samples[: 48_000 * 3 // 2]
    )


def test_a_recording_is_the_same_from_every_kind_of_source(tmp_path):
    samples = np.round(tone() * 32_768).astype(np.int16)
    path = write_audio(tmp_path / "tone.wav", samples[None] / np.float32(32_768), 16_000, "pcm_s16le")
    with path.open("rb") as stream:
        sources = [path, str(path), path.read_bytes(), stream, (samples, 16_000), (torch.from_numpy(samples), 16_000)]
        sources.append(Waveform(samples.astype(np.float32) / 32_768, 16_000))
        for source in sources:
            waveform = read_waveform(source)
            assert waveform.sample_rate_hz == 16_000
            assert np.array_equal(waveform.samples, samples.astype(np.float32) / 32_768)


@given(
    num_channels=st.integers(1, 8),
    num_samples=st.integers(640, 2000),
    channels_last=st.booleans(),
    dtype=st.sampled_from([np.int16, np.int32, np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_the_first_channel_of_any_array_layout_is_read(num_channels, num_samples, channels_last, dtype, seed):
    channels = np.random.default_rng(seed).uniform(-1, 1, (num_channels, num_samples))
    stored = channels.astype(dtype)
    if np.issubdtype(dtype, np.integer):
        stored = np.clip(channels * 2.0 ** (8 * np.dtype(dtype).itemsize - 1), *_limits(dtype)).astype(dtype)
    waveform = read_waveform(stored.T if channels_last else stored, sample_rate_hz=16_000)
    # one step of int16 is 3e-5
    np.testing.assert_allclose(waveform.samples, channels[0], atol=3.1e-5)


def _limits(dtype):
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def test_the_first_channel_of_a_file_is_read_whatever_its_storage(tmp_path):
    channels = np.stack([tone(frequency_hz=300.0), tone(frequency_hz=700.0)])
    for name, codec in (("packed.wav", "pcm_s16le"), ("planar.m4a", "aac")):
        waveform = read_waveform(write_audio(tmp_path / name, channels, 16_000, codec, layout="stereo"))
        # AAC changes the tone by a few percent; the other channel would be off by 0.5
        assert np.abs(waveform.samples[2000:-2000] - channels[0, 2000:-2000]).mean() < 0.05


def test_sound_that_starts_after_the_picture_is_preceded_by_silence(tmp_path):
    path = tmp_path / "late.mov"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone(peak=0.9)[None] * 32_767).astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 8_000, Fraction(1, 16_000)
        for picture in moving_frames(40):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    waveform = read_waveform(path)
    assert waveform.duration_s == pytest.approx(1.5, abs=0.001)
    assert np.flatnonzero(waveform.samples)[0] == pytest.approx(8_000, abs=2)


def test_a_contradicting_sample_rate_is_an_error(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    assert read_waveform(path, sample_rate_hz=16_000).sample_rate_hz == 16_000
    for source in (path, (tone(), 16_000), Waveform(tone(), 16_000)):
        with pytest.raises(ValueError, match="`sample_rate_hz` is 44100, but `audio` has 16000 Hz"):
            read_waveform(source, sample_rate_hz=44_100)


@pytest.mark.parametrize(
    ("source", "sample_rate_hz", "message"),
    [
        (tone(), None, "`sample_rate_hz` must be given"),
        ((tone(), True), None, "is True, must be a positive whole number"),
        ((tone(), 0), None, "is 0, must be a positive whole number"),
        ((tone(), 16_000.0), None, "is 16000.0, must be a positive whole number"),
        (Waveform(tone(), 16_000.0), None, "is 16000.0, must be a positive whole number"),
        (np.zeros(0, np.float32), 16_000, "empty"),
        (np.zeros((2, 0), np.float32), 16_000, "empty"),
        (np.full(16_000, np.nan), 16_000, "NaN"),
        (np.array([np.inf] * 16_000), 16_000, "NaN or infinite"),
        (tone(duration_s=0.039), 16_000, "one video frame"),
        (np.zeros((9, 100)), 16_000, "at most 8"),
        (np.zeros((2, 3, 4)), 16_000, "shape"),
        (np.zeros(16_000, np.int64), 16_000, "int64"),
        (tone() * 30_000, 16_000, r"\[-1, 1\]"),
        ((16_000, tone()), None, "samples and sample rate in this order"),
    ],
)
def test_a_bad_waveform_is_an_error_that_names_the_argument(source, sample_rate_hz, message):
    with pytest.raises(ValueError, match=rf"`audio`.*{message}"):
        read_waveform(source, sample_rate_hz)


@pytest.mark.parametrize("rate", [True, 0, -16_000, 16_000.0, "16000"])
def test_a_rate_that_is_no_positive_whole_number_is_an_error_by_its_own_name(rate):
    with pytest.raises(ValueError, match=f"`sampling_rate` is {rate!r}, must be a positive whole number"):
        read_waveform(tone(), rate, rate_name="sampling_rate")


def test_numpys_whole_numbers_are_rates():
    assert read_waveform(tone(), np.int64(16_000)).sample_rate_hz == 16_000
    assert type(read_waveform((tone(), np.uint16(16_000))).sample_rate_hz) is int


def test_another_kind_of_object_is_no_recording():
    with pytest.raises(TypeError, match="`audio` is of type float"):
        read_waveform(1.5)


def test_missing_unreadable_empty_and_folder_recordings_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="`audio` does not exist"):
        read_waveform(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="`audio` is a directory"):
        read_waveform(tmp_path)
    for content, message in ((b"", "is empty: .* 0 bytes"), (b"this is no recording" * 50, "cannot be decoded")):
        (tmp_path / "broken.wav").write_bytes(content)
        for source in (tmp_path / "broken.wav", content):
            with pytest.raises(ValueError, match=f"`audio` {message}"):
                read_waveform(source)


def test_a_recording_without_samples_is_an_error(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    header = path.read_bytes().partition(b"data")[0] + b"data" + struct.pack("<I", 0)
    with pytest.raises(ValueError, match="`audio`.*(empty|decoded)"):
        read_waveform(header)


def test_a_video_without_sound_is_an_error(tmp_path):
    write_video(tmp_path / "mute.mp4", moving_frames())
    with pytest.raises(ValueError, match="`audio` has no audio track"):
        read_waveform(tmp_path / "mute.mp4")


def test_silence_is_warned_about_and_read():
    with pytest.warns(UserWarning, match="`audio` is silent: "):
        assert read_waveform(np.zeros(16_000), 16_000).duration_s == 1
    with pytest.warns(UserWarning, match="silent in its first channel"):
        read_waveform(np.stack([np.zeros(16_000), tone()]), 16_000)


def test_silence_in_the_first_channel_of_a_file_is_warned_about(tmp_path):
    channels = np.stack([np.zeros(16_000, np.float32), tone()])
    path = write_audio(tmp_path / "right.wav", channels, 16_000, "pcm_s16le", layout="stereo")
    with pytest.warns(UserWarning, match="silent in its first channel"):
        read_waveform(path)


def test_a_voice_in_another_channel_than_the_first_is_warned_about(tmp_path):
    faint = np.stack([tone(peak=0.04), tone(peak=0.5)])
    path = write_audio(tmp_path / "right.wav", faint, 16_000, "pcm_s16le", layout="stereo")
    for source, rate_hz in ((path, None), (faint, 16_000)):
        with pytest.warns(UserWarning, match=r"faint in its first channel, .* \(peak 0.04, in another channel 0.5\)"):
            read_waveform(source, rate_hz)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_waveform(np.stack([tone(peak=0.06), tone(peak=0.5)]), 16_000)


@pytest.mark.parametrize(("channel", "peak"), [(0, 0.2), (1, 0.6), ("mix", 0.4), ("loudest", 0.6)])
@pytest.mark.filterwarnings("ignore:.*faint")
def test_the_wanted_channel_is_read_from_files_and_arrays(tmp_path, channel, peak):
    channels = np.stack([tone(peak=0.2), tone(peak=0.6)])
    path = write_audio(tmp_path / "two.wav", channels, 16_000, "pcm_s16le", layout="stereo")
    for source in (path, (channels, 16_000), (channels.T, 16_000)):
        assert np.abs(read_waveform(source, channel=channel).samples).max() == pytest.approx(peak, abs=1e-3)


@pytest.mark.parametrize("channel", [-1, 1.0, True, "left", None])
def test_what_chooses_no_channel_is_an_error(channel):
    with pytest.raises(
        ValueError, match="`channel` is .*, must be the number of a channel, from 0, or mix or loudest"
    ):
        read_waveform(tone(), 16_000, channel=channel)


def test_a_channel_or_track_that_is_not_there_is_an_error(tmp_path):
    path = write_audio(tmp_path / "mono.wav", tone()[None], 16_000, "pcm_s16le")
    with pytest.raises(
        ValueError, match="`--audio-channel` is 1, must be from 0 to 0, mix or loudest: `audio` has 1 channel"
    ):
        read_waveform(path, channel=1, choice_names=("--audio-channel", "--audio-track"))
    for track in (1, -1, True):
        with pytest.raises(ValueError, match=f"`track` is {track}, must be the number of a sound track of `audio`"):
            read_waveform(path, track=track)


def test_channels_of_a_file_are_counted(tmp_path):
    mono = write_audio(tmp_path / "mono.wav", tone()[None], 16_000, "pcm_s16le")
    stereo = write_audio(tmp_path / "stereo.m4a", np.stack([tone()] * 2), 16_000, "aac", layout="stereo")
    write_video(tmp_path / "mute.mp4", moving_frames())
    layouts = [read_sound_layout(path) for path in (mono, stereo, tmp_path / "mute.mp4")]
    assert layouts == [(1, 1), (1, 2), (0, 0)] and read_sound_layout(stereo.read_bytes()) == (1, 2)
    with pytest.raises(FileNotFoundError, match="`audio` does not exist"):
        read_sound_layout(tmp_path / "none.wav")


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_resampling_keeps_a_tone(rate_hz):
    resampled = resample(Waveform(tone(rate_hz), rate_hz), 16_000)
    assert len(resampled.samples) == 16_000 and resampled.samples.dtype == np.float32
    # the filter rings at the ends only
    np.testing.assert_allclose(resampled.samples[400:-400], tone(16_000)[400:-400], atol=2e-3)


def test_resampling_to_the_same_rate_returns_the_recording():
    waveform = Waveform(tone(), 16_000)
    assert resample(waveform, 16_000) is waveform


def test_resampling_to_no_rate_is_an_error():
    with pytest.raises(ValueError, match="`sample_rate_hz` is 0"):
        resample(Waveform(tone(), 16_000), 0)


def test_missing_librosa_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    message = r"sound of 44100 Hz .* 16000 Hz by librosa, which .*: pip install librosa, or give sound of 16000 Hz$"
    with pytest.raises(ImportError, match=message):
        resample(Waveform(tone(44_100), 44_100), 16_000)


def test_missing_pyav_is_an_error_that_says_what_to_install_unless_samples_are_given(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"PyAV, which cannot be loaded .*: pip install av$"):
        read_waveform(path)
    assert read_waveform(tone(), 16_000).duration_s == 1


@needs_real
def test_real_recordings_are_read_at_their_own_rate():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of them is silent
        for name, rate_hz, duration_s in (
            ("speech_8s.wav", 16_000, 8.0),
            ("speech_21s.wav", 16_000, 21.014),
            ("speaker_25fps.mp4", 16_000, 8.0),
            ("speaker_30fps.mp4", 44_100, 7.196),
        ):
            waveform = read_waveform(REAL / name)
            assert waveform.sample_rate_hz == rate_hz
            assert waveform.duration_s == pytest.approx(duration_s, abs=1e-3)
