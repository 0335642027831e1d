import io
import random
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffusers_dawn.media import (
    count_video_frames,
    read_image,
    read_video,
    read_waveform,
    resample,
    stream_video,
)
from diffusers_dawn.records import FPS, Waveform
from diffusers_dawn.video_writer import write_video
from real_inputs import REAL, needs_real
from synthetic_media import clicks, lag_s, moving_frames, tone

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)


def write_audio(path, samples, sample_rate_hz, codec, start_s=0.0, layout="mono"):
    """Channels (C, N) into a file, as other programs write it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = sample_rate_hz, Fraction(1, sample_rate_hz)
        frame.pts = round(start_s * sample_rate_hz)
        resampler = av.AudioResampler(stream.format, layout, sample_rate_hz)
        for source in (frame, None):
            for converted in resampler.resample(source):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


# pictures


@pytest.mark.parametrize(
    "as_source", [str, Path, Path.read_bytes, Image.open, lambda path: np.array(Image.open(path))]
)
def test_a_picture_is_the_same_from_every_kind_of_source(tmp_path, as_source):
    path = tmp_path / "picture.png"
    Image.fromarray(RED_GREEN).save(path)
    assert np.array_equal(read_image(as_source(path)), RED_GREEN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_a_tensor_has_its_channels_first(dtype):
    tensor = torch.from_numpy(RED_GREEN).permute(2, 0, 1)
    tensor = tensor if dtype == torch.uint8 else (tensor / 255).to(dtype)
    assert np.array_equal(read_image(tensor), RED_GREEN)


def test_float_arrays_span_0_to_1_and_grey_becomes_rgb():
    assert np.array_equal(read_image(RED_GREEN / 255.0), RED_GREEN)
    assert read_image(np.full((4, 5), 0.5)).shape == (4, 5, 3)
    assert read_image(np.full((4, 5, 1), 7, np.uint8)).max() == 7


def test_the_content_not_the_suffix_decides_about_the_format(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), "blue").save(path, format="JPEG")
    assert read_image(path)[0, 0, 2] > 250


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees: the left pixel belongs on top
    path = tmp_path / "phone.png"
    Image.fromarray(RED_GREEN).save(path, exif=exif)
    assert np.array_equal(read_image(path), RED_GREEN.transpose(1, 0, 2))


def test_transparency_is_laid_over_white(tmp_path):
    clear = np.zeros((2, 2, 4), np.uint8)
    assert read_image(clear).min() == 255
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").min() == 255


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((2, 2), 32_768, np.uint16)).save(tmp_path / "grey.png")
    assert np.array_equal(np.unique(read_image(tmp_path / "grey.png")), [127])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 5), np.uint8), "shape"),
        (np.zeros((0, 2, 3), np.uint8), "shape"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape"),
        (torch.zeros(2, 2, 3), "shape"),
        (np.zeros((2, 2, 3), np.int64), "int64"),
        (np.full((2, 2, 3), 200.0), "0, 1"),
        (np.full((2, 2, 3), -0.1), "0, 1"),
        (np.full((2, 2, 3), np.nan), "nan"),
        (Image.new("F", (2, 2)), "floating-point"),
    ],
)
def test_a_bad_picture_array_is_an_error_that_names_the_argument(array, message):
    with pytest.raises(ValueError, match=rf"`portrait`.*{message}"):
        read_image(array, name="portrait")


def test_a_missing_picture_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="`image` does not exist"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_picture_is_an_error(tmp_path, content):
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(content)


def test_a_truncated_picture_is_an_error(tmp_path):
    stored = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stored, format="JPEG")
    with pytest.raises(ValueError, match="`image` cannot be read"):
        read_image(stored.getvalue()[: len(stored.getvalue()) // 2])


def test_a_folder_and_another_kind_of_object_are_errors(tmp_path):
    with pytest.raises(ValueError, match="`image` is a directory"):
        read_image(tmp_path)
    with pytest.raises(TypeError, match="`image` is of type int"):
        read_image(3)


@needs_real
def test_the_jpeg_behind_a_png_name_is_read():
    assert read_image(REAL / "full_body.png").shape == (1200, 800, 3)


# recordings


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


@settings(deadline=None, max_examples=40)
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
        (tone(), 0, "must be positive"),
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


def test_another_kind_of_object_is_no_recording():
    with pytest.raises(TypeError, match="`audio` is of type float"):
        read_waveform(1.5)


def test_missing_unreadable_empty_and_folder_recordings_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="`audio` does not exist"):
        read_waveform(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="`audio` is a directory"):
        read_waveform(tmp_path)
    for content in (b"", b"this is no recording" * 50):
        (tmp_path / "broken.wav").write_bytes(content)
        with pytest.raises(ValueError, match="`audio` cannot be decoded"):
            read_waveform(tmp_path / "broken.wav")
        with pytest.raises(ValueError, match="`audio` cannot be decoded"):
            read_waveform(content)


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


# videos


def test_reading_at_another_rate_shows_the_frame_of_that_time(tmp_path):
    frames = np.stack([np.full((32, 32, 3), 8 * index, np.uint8) for index in range(30)])
    write_video(tmp_path / "grey.mp4", frames, fps=30)
    for fps, expected in ((10, np.arange(10) * 3), (60, np.arange(60) // 2), (25, np.arange(25) * 30 // 25)):
        decoded, decoded_fps = read_video(tmp_path / "grey.mp4", fps=fps)
        assert decoded_fps == fps
        assert np.array_equal(np.rint(decoded.mean(axis=(1, 2, 3)) / 8), expected)


def test_reading_stops_after_max_frames(tmp_path):
    write_video(tmp_path / "video.mp4", moving_frames(20))
    for fps in (None, 10, 50):
        assert len(read_video(tmp_path / "video.mp4", fps=fps, max_frames=7)[0]) == 7


def test_a_video_filmed_upright_is_read_upright(tmp_path):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    frames[:, :, :32] = 255
    write_video(tmp_path / "video.mov", frames)
    content = bytearray((tmp_path / "video.mov").read_bytes())
    # the display matrix of the track header, for "turn by 90 degrees clockwise": left goes to the top
    matrix_at = content.index(b"tkhd") + 4 + 40
    content[matrix_at : matrix_at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    upright, _ = read_video(bytes(content))
    assert upright.shape == (3, 64, 48, 3)
    assert upright[:, :28].min() > 240 and upright[:, 36:].max() < 15


def test_missing_unreadable_and_pictureless_videos_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="`video` does not exist"):
        read_video(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="`video` cannot be decoded"):
        read_video(b"this is no video" * 20)
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    with pytest.raises(ValueError, match="`video` has no video track"):
        read_video(path)


@pytest.mark.parametrize("arguments", [{"fps": 0}, {"fps": -1.0}, {"max_frames": 0}])
def test_reading_no_frames_is_an_error(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be positive"):
        read_video(tmp_path / "none.mp4", **arguments)


def write_at_times(path, frames, times_ms):
    """A video of variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width = frames.shape[1:3]
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time_ms in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@settings(deadline=None, max_examples=20)
@given(
    gaps_ms=st.lists(st.integers(5, 200), min_size=1, max_size=20),
    fps=st.sampled_from([10, 24, 25, 29.97, 60]),
    first_frame=st.integers(0, 30),
)
def test_frames_come_one_by_one_as_all_at_once_from_any_frame_on(tmp_path_factory, gaps_ms, fps, first_frame):
    path = tmp_path_factory.mktemp("video") / "variable.mkv"
    times_ms = np.cumsum([0, *gaps_ms])
    frames = np.stack([np.full((16, 16, 3), 10 * index, np.uint8) for index in range(len(times_ms))])
    write_at_times(path, frames, times_ms.tolist())
    whole, _ = read_video(path, fps=fps)
    streamed = list(stream_video(path, fps, first_frame))
    assert count_video_frames(path, fps) == len(whole)
    assert len(streamed) == max(len(whole) - first_frame, 0)
    assert all(np.array_equal(one, other) for one, other in zip(streamed, whole[first_frame:], strict=True))
    # 1 us absorbs rounded time stamps
    shown = np.searchsorted(times_ms, np.arange(len(whole)) / fps * 1000 + 1e-3, side="right") - 1
    assert np.array_equal(np.rint(whole.mean(axis=(1, 2, 3)) / 10), shown)


def test_streaming_and_counting_refuse_what_reading_refuses(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    for read in (lambda source: list(stream_video(source, 25)), lambda source: count_video_frames(source, 25)):
        with pytest.raises(FileNotFoundError, match="`video` does not exist"):
            read(tmp_path / "none.mp4")
        with pytest.raises(ValueError, match="`video` cannot be decoded"):
            read(b"this is no video" * 20)
        with pytest.raises(ValueError, match="`video` has no video track"):
            read(path)


def test_streaming_and_counting_at_no_rate_or_from_before_the_start_is_an_error():
    with pytest.raises(ValueError, match=r"`fps` \(0\) must be positive"):
        list(stream_video(b"", 0))
    with pytest.raises(ValueError, match=r"`first_frame` \(-1\) 0 or more"):
        list(stream_video(b"", 25, -1))
    with pytest.raises(ValueError, match="`fps` is 0; it must be positive"):
        count_video_frames(b"", 0)


@needs_real
@pytest.mark.parametrize(("name", "num_frames"), [("speaker_25fps.mp4", 200), ("speaker_30fps.mp4", 180)])
def test_real_videos_are_read_at_25_fps(name, num_frames):
    frames, fps = read_video(REAL / name, fps=FPS, max_frames=num_frames + 1)
    assert (len(frames), fps) == (num_frames, FPS) and count_video_frames(REAL / name, FPS) == num_frames


def test_a_picture_can_come_as_a_stream(tmp_path):
    Image.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(tmp_path / "picture.png")
    stream = io.BytesIO((tmp_path / "picture.png").read_bytes())
    assert read_image(stream).shape == (4, 5, 3)


def test_postscript_is_refused_and_not_run():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="`image` is an EPS file"):
        read_image(program)


def transport_stream() -> bytes:
    stream_file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    with av.open(stream_file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return stream_file.getvalue()


def test_damaged_transport_stream_is_read_or_refused_in_one_sentence():
    intact, refused = transport_stream(), 0
    # 656 is one whose tracks show up late
    for seed in (656, *range(30)):
        rng, damaged = random.Random(seed), bytearray(intact)
        for _ in range(rng.randrange(1, 60)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            assert read_video(bytes(damaged))[0].shape[1:] == (64, 64, 3)
        except ValueError as error:
            assert str(error).startswith("`video` ")
            refused += 1
    assert refused
