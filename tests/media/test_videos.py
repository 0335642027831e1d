import io
import random
import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.media.shown_colours import BT2020_MATRIX, PQ, codes_to_srgb
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import count_video_frames, read_video, stream_video
from diffusers_dawn.records import FPS
from real_inputs import REAL, needs_real
from synthetic_media import moving_frames, tone, with_content, write_audio


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


QUADRANTS = np.array([[10, 90], [170, 240]])
# (a, b, c, d) of x' = a x + c y, y' = b x + d y, and what becomes of the quadrants
ORIENTATIONS = {
    (1, 0, 0, 1): QUADRANTS,
    (-1, 0, 0, 1): QUADRANTS[:, ::-1],
    (1, 0, 0, -1): QUADRANTS[::-1],
    (-1, 0, 0, -1): QUADRANTS[::-1, ::-1],
    (0, 1, -1, 0): np.rot90(QUADRANTS, -1),
    (0, -1, 1, 0): np.rot90(QUADRANTS),
    (0, 1, 1, 0): QUADRANTS.T,
    (0, -1, -1, 0): QUADRANTS[::-1, ::-1].T,
}


@given(
    matrix=st.sampled_from(list(ORIENTATIONS)),
    scale=st.sampled_from([1, 1 << 14, 1 << 16, 3 << 16]),
    slant=st.integers(-300, 300),
    shift=st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)),
)
def test_a_video_is_read_turned_and_mirrored_as_its_display_matrix_says(tmp_path_factory, matrix, scale, slant, shift):
    path = tmp_path_factory.mktemp("turned") / "video.mov"
    stored = np.kron(QUADRANTS, np.ones((32, 32))).astype(np.uint8)[None, ..., None].repeat(3, axis=-1)
    write_video(path, stored)
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 4 + 40
    # how large and where it is shown, and half a percent of another angle, change nothing
    slant = slant if scale > 1 << 15 else 0
    a, b, c, d = (part * scale or slant for part in matrix)
    content[matrix_at : matrix_at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, *shift, 1 << 30)
    shown = read_video(bytes(content))[0][0, 16::32, 16::32, 0]
    np.testing.assert_allclose(shown, ORIENTATIONS[matrix], atol=6)  # H.264 and limited range


def test_converting_a_high_dynamic_range_holds_little_beside_the_picture():
    codes = np.full((2048, 512, 3), 30_000, np.uint16)
    codes_to_srgb(codes[:1], 9, 18)  # its tables stay
    tracemalloc.start()
    try:
        codes_to_srgb(codes, 9, 18)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the picture itself takes 3 bytes
    assert peak_bytes < 6 * codes.shape[0] * codes.shape[1]


def test_the_brightness_of_pq_is_that_of_its_curve(tmp_path):
    """Code .4403 of PQ is 50 cd/m2 (SMPTE ST 2084), half of SDR's white: code 188 of sRGB."""
    codes = np.full((64, 64, 3), round(0.4403 * 65535), np.uint16)
    with av.open(str(tmp_path / "pq.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        stream.codec_context.color_primaries = stream.codec_context.colorspace = BT2020_MATRIX
        stream.codec_context.color_trc = PQ
        frame = av.VideoFrame.from_ndarray(codes, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match="`video` has a high dynamic range"):
        pictures, _ = read_video(tmp_path / "pq.mp4", 25)
    np.testing.assert_allclose(pictures.astype(int), 188, atol=2)


def write_anamorphic(path, aspect):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for picture in moving_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("aspect", "size"), [("4/3", (48, 85)), ("3/4", (64, 64)), ("1/1", (48, 64)), ("0/1", (48, 64))]
)
def test_pixels_that_are_not_square_become_so_by_the_side_that_grows(tmp_path, aspect, size):
    assert read_video(write_anamorphic(tmp_path / "video.mp4", aspect))[0].shape == (3, *size, 3)


def test_pictures_of_absurd_size_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_anamorphic(tmp_path / "video.mp4", "16/1")
    monkeypatch.setattr("diffusers_dawn.media.videos.MOST_FRAME_PIXELS", 40_000)
    with pytest.raises(ValueError, match="`video` shows pictures of 1024x48 px, must be of 0 megapixels at most"):
        read_video(path)


def test_more_frames_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "video.mp4", moving_frames(12))
    monkeypatch.setattr("diffusers_dawn.media.videos.free_bytes", lambda: 2 * 5 * 48 * 64 * 3)
    monkeypatch.setattr("diffusers_dawn.media.videos.FRAME_BYTES_PER_PX", 0)
    with pytest.raises(ValueError, match=r"`video` has more frames than fit in memory: 5 of \(48, 64\) px"):
        read_video(tmp_path / "video.mp4")


def test_films_that_were_joined_are_read_to_their_end(tmp_path):
    for index in range(2):
        grey = np.full((40, 32, 32, 3), 50 + 150 * index, np.uint8)
        write_transport_stream(tmp_path / f"{index}.ts", grey)
    joined = b"".join((tmp_path / f"{index}.ts").read_bytes() for index in range(2))
    with pytest.warns(UserWarning, match="`video` begins to count its time anew 1 times, and is joined there"):
        frames = read_video(joined, FPS)[0]
    assert count_video_frames(joined, FPS) == len(frames) == 80
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), [50] * 40 + [200] * 40, atol=3)


def write_transport_stream(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_the_last_good_picture_stays_where_the_end_is_damaged(tmp_path):
    with av.open(str(tmp_path / "video.mov"), "w") as container:
        stream = container.add_stream("png", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "rgb24"
        pictures = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in moving_frames(12)]
        packets = [packet for picture in [*pictures, None] for packet in stream.encode(picture)]
        for index, packet in enumerate(packets):
            container.mux(with_content(packet, b"no picture") if index >= 8 else packet)
    with pytest.warns(UserWarning, match=r"`video` has \d damaged places; the picture before stays instead"):
        frames = read_video(tmp_path / "video.mov", FPS)[0]
    assert np.array_equal(frames, moving_frames(12)[[*range(8), 7, 7, 7, 7]])
    with pytest.warns(UserWarning, match="damaged places"):
        assert len(read_video(tmp_path / "video.mov")[0]) == 8


def test_missing_unreadable_and_pictureless_videos_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="`video` does not exist"):
        read_video(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="`video` cannot be decoded"):
        read_video(b"this is no video" * 20)
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    with pytest.raises(ValueError, match="`video` has no video track"):
        read_video(path)


@pytest.mark.parametrize(
    "arguments", [{"fps": 0}, {"fps": -1.0}, {"fps": float("inf")}, {"fps": float("nan")}, {"max_frames": 0}]
)
def test_reading_no_frames_is_an_error(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be (positive|a whole number from 1)"):
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


@settings(max_examples=20)
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
    with pytest.raises(ValueError, match="`fps` is 0, must be positive and finite"):
        list(stream_video(b"", 0))
    with pytest.raises(ValueError, match="`first_frame` is -1, must be a whole number from 0"):
        list(stream_video(b"", 25, -1))
    with pytest.raises(ValueError, match="`fps` is 0, must be positive and finite"):
        count_video_frames(b"", 0)


@needs_real
@pytest.mark.parametrize(("name", "num_frames"), [("speaker_25fps.mp4", 200), ("speaker_30fps.mp4", 180)])
def test_real_videos_are_read_at_25_fps(name, num_frames):
    frames, fps = read_video(REAL / name, fps=FPS, max_frames=num_frames + 1)
    assert (len(frames), fps) == (num_frames, FPS) and count_video_frames(REAL / name, FPS) == num_frames


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
