"""What a file holds behind the end that is read, or lacks before it, is said."""

import io
import struct
import warnings
from fractions import Fraction

import av
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diffusers_dawn.media.chunked_files import CHUNKED_FORMS, EVEN_FORMS
from diffusers_dawn.media.file_ends import NUT_TITLE, warn_of_ends
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import count_video_frames, read_video
from synthetic_media import moving_frames, tone, write_audio

RATE_HZ = 44_100
CODECS = {
    "wav": "pcm_s16le",
    "w64": "pcm_s16le",
    "caf": "pcm_s16le",
    "aiff": "pcm_s16be",
    "m4a": "aac",
    "mov": "aac",
    "3gp": "aac",
    "flv": "aac",
    "rf64.wav": "pcm_s16le",
    "voc": "pcm_s16le",
    "wma": "mp3",
    "tta": "tta",
    "mmf": "adpcm_yamaha",
    "ast": "pcm_s16be_planar",
}
# of these FFmpeg reads all, or says itself where a second one begins
OTHER_CODECS = {
    "au": "pcm_s16be",
    "avi": "pcm_s16le",
    "ogg": "libopus",
    "mp3": "mp3",
    "rm": "ac3",
    "sox": "pcm_s32le",
    "nut": "pcm_s16le",
    "ac3": "ac3",
    "eac3": "eac3",
    "mp2": "mp2",
    "no_index.mp3": "mp3",
    "mpg": "mp2",
    "vob": "ac3",
    "ts": "ac3",
    "fragments.mp4": "aac",
}
# of chunks that lie between others, or of frames: a cut is seen wherever it does not fall between two of them
FRAMED = ("ac3", "eac3", "mp2", "no_index.mp3", "mpg", "vob", "ts", "fragments.mp4")
OPTIONS = {
    "rf64.wav": {"rf64": "always"},
    "no_index.mp3": {"write_xing": "0"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"},
}
RATES_HZ = {"ogg": 48_000, "ast": 48_000}
# made of chunks of samples, which can be cut anywhere
PLAIN = ("wav", "w64", "caf", "aiff", "au", "rf64.wav", "voc", "avi", "nut", "sox", "ast")
CODED = ("ogg", "mp3", "rm", "flv", "wma")


def recording(folder, suffix, duration_s):
    path, rate_hz = folder / f"a.{suffix}", RATES_HZ.get(suffix, RATE_HZ)
    codec = (CODECS | OTHER_CODECS)[suffix]
    write_audio(path, tone(rate_hz, duration_s)[None], rate_hz, codec, options=OPTIONS.get(suffix))
    return path.read_bytes()


def read_with_warnings(content):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waveform = read_waveform(content)
    return waveform.duration_s, " ".join(str(warning.message) for warning in caught)


@given(
    suffix=st.sampled_from(sorted(CODECS)),
    durations_s=st.lists(st.integers(40, 900).map(lambda ms: ms / 1000), min_size=1, max_size=4),
)
def test_joined_files_are_counted_and_the_first_is_read(tmp_path_factory, suffix, durations_s):
    folder = tmp_path_factory.mktemp("joined")
    parts = [recording(folder, suffix, duration_s) for duration_s in durations_s]
    alone_s, said = read_with_warnings(parts[0])
    assert said == ""
    joined_s, said = read_with_warnings(b"".join(parts))
    assert joined_s == pytest.approx(alone_s, abs=0.05)
    expected = f"`audio` is {len(parts)} files that were joined byte by byte, of which the first is read"
    assert said.startswith(expected) if len(parts) > 1 else said == ""


@given(suffix=st.sampled_from(PLAIN), share=st.floats(0.15, 0.98))
def test_a_sound_whose_end_is_missing_is_read_as_far_as_it_goes_and_said(tmp_path_factory, suffix, share):
    content = recording(tmp_path_factory.mktemp("cut"), suffix, 2.0)
    heard_s, said = read_with_warnings(content[: round(share * len(content))])
    assert heard_s == pytest.approx(2.0 * share, abs=0.1)
    # those that say how long they are may round it
    assert heard_s > 1.4 or "`audio` is cut off" in said
    assert read_with_warnings(content) == (pytest.approx(2.0, abs=0.03), "")


@settings(deadline=None, max_examples=25)
@given(suffix=st.sampled_from(CODED), share=st.floats(0.3, 0.85))
def test_a_coded_sound_whose_end_is_missing_is_said_by_pages_chunks_or_time(tmp_path_factory, suffix, share):
    content = recording(tmp_path_factory.mktemp("cut"), suffix, 4.0)
    heard_s, said = read_with_warnings(content[: round(share * len(content))])
    # a page of Ogg holds a second here, and the rest of a packet is filled
    assert 4.0 * share - 1.1 < heard_s < 4.0 * share + 0.4 and "`audio` is cut off" in said
    assert read_with_warnings(content) == (pytest.approx(4.0, abs=0.05), "")


@example(suffix="fragments.mp4", share=0.765625)
@given(suffix=st.sampled_from(FRAMED), share=st.floats(0.3, 0.95))
def test_a_sound_in_frames_that_ends_within_one_is_said(tmp_path_factory, suffix, share):
    content = recording(tmp_path_factory.mktemp("cut"), suffix, 2.0)
    sizes = [round(share * len(content)) - back for back in (0, 1)]  # no two cuts side by side lie between frames
    try:
        reads = [read_with_warnings(content[:size]) for size in sizes]
    except ValueError as error:
        # FFmpeg opens no film whose last fragment lacks a part of its table
        assert suffix == "fragments.mp4" and "cut off" in str(error)
        return
    assert any("`audio` is cut off" in said for _, said in reads)
    # a fragment holds half a second, and of a cut one nothing may be heard
    assert all(2.0 * share - 0.6 < heard_s < 2.0 * share + 0.2 for heard_s, _ in reads)
    whole_s, said = read_with_warnings(content)
    assert whole_s == pytest.approx(2.0, abs=0.1) and said == ""


FILMS = {
    "gif": ("gif", "rgb8", {}),
    "apng": ("apng", "rgb24", {}),
    "nut": ("mpeg4", "yuv420p", {}),
    "ivf": ("libvpx", "yuv420p", {}),
    "mxf": ("mpeg2video", "yuv420p", {}),
    "gxf": ("mpeg2video", "yuv420p", {}),
    "dv": ("dvvideo", "yuv420p", {}),
    "mpg": ("mpeg1video", "yuv420p", {}),
    "ts": ("mpeg4", "yuv420p", {}),
    "m2ts": ("mpeg2video", "yuv420p", {}),
    "mp4": ("mpeg4", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
}


def film(path, num_frames):
    codec, pixel_format, options = FILMS[path.suffix[1:]]
    height, width = (576, 720) if path.suffix in {".mxf", ".gxf", ".dv"} else (48, 64)
    with av.open(str(path), "w", options=options) as container:
        picture = container.add_stream(codec, rate=25)
        picture.width, picture.height, picture.pix_fmt = width, height, pixel_format
        for index, frame in enumerate(moving_frames(num_frames, height, width)):
            drawn = av.VideoFrame.from_ndarray(frame).reformat(format=pixel_format)
            drawn.pts, drawn.time_base = index, Fraction(1, 25)
            container.mux(picture.encode(drawn))
        container.mux(picture.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", FILMS)
def test_a_film_whose_end_is_missing_is_said_by_pages_frames_or_marks(tmp_path, suffix):
    content = film(tmp_path / f"film.{suffix}", 13)
    for size in (len(content) - 7, 2 * len(content) // 3):
        with pytest.warns(UserWarning, match="`film` is cut off"):
            try:
                num_frames = len(read_video(content[:size], name="film")[0])
            except ValueError as error:  # the one fragment is not whole
                assert "`film` cannot be decoded" in str(error)
            else:
                assert 1 <= num_frames <= 13
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_video(content, name="film")[0]) == 13


def test_joined_films_in_fragments_are_said_to_be_read_in_part(tmp_path):
    content = film(tmp_path / "film.mp4", 40)
    with pytest.warns(UserWarning, match="`film` is 2 files that were joined byte by byte, which are read in part"):
        assert 40 <= len(read_video(2 * content, name="film")[0]) < 80


def test_a_film_with_sound_whose_end_is_missing_is_said_where_only_the_file_says_its_length(tmp_path):
    path = tmp_path / "film.flv"
    with av.open(str(path), "w") as container:
        picture, sound = (
            container.add_stream("flv1", rate=25),
            container.add_stream("mp3", rate=RATE_HZ, layout="mono"),
        )
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        waves = av.AudioResampler(sound.format, "mono", RATE_HZ, frame_size=1152)
        for index, frame in enumerate(moving_frames(75)):
            wave = av.AudioFrame.from_ndarray(tone(RATE_HZ, 0.04)[None], format="fltp", layout="mono")
            wave.sample_rate, wave.pts = RATE_HZ, index * RATE_HZ // 25
            packets = [packet for piece in waves.resample(wave) for packet in sound.encode(piece)]
            container.mux(packets + picture.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(sound.encode(None) + picture.encode(None))
    content = path.read_bytes()
    for film, message in (
        (content, ""),
        (content[: len(content) // 2], "`film` is cut off or damaged: it ends after"),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read_waveform(film, name="film"), read_video(film, name="film")
        said = [str(warning.message) for warning in caught if "cut off" in str(warning.message)]
        assert [message in line for line in said] == [True] * (2 if message else 0)


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF])
def test_sizes_that_a_program_did_not_know_are_no_missing_end(tmp_path, size):
    content = recording(tmp_path, "wav", 1.0)
    data = content.index(b"data")
    unknown = struct.pack("<I", size)
    content = content[:4] + unknown + content[8 : data + 4] + unknown + content[data + 8 :]
    assert read_with_warnings(content) == (pytest.approx(1.0), "")


def test_joined_films_are_said_wherever_they_are_read(tmp_path):
    path = tmp_path / "film.mp4"
    write_video(path, moving_frames(10))
    content = path.read_bytes()
    for read in (
        lambda film: len(read_video(film, name="film")[0]),
        lambda film: count_video_frames(film, 25, "film"),
    ):
        with pytest.warns(UserWarning, match="`film` is 3 files that were joined byte by byte"):
            assert read(3 * content) == 10


def first_bytes(form):
    head = bytearray(max(place + len(title) for place, title in form.titles.items()))
    for place, title in form.titles.items():
        head[place : place + len(title)] = title
    return bytes(head)


@settings(max_examples=200)
@given(
    title=st.sampled_from([
        b"RIFF\0\0\0\0WAVE",
        b"FORM\0\0\0\0AIFF",
        b"caff\0\1\0\0",
        b"\0\0\0\x10ftypabcd",
        b"FLV\1\0\0\0\0\t",
        b"RF64\xff\xff\xff\xffWAVEds64",
        b"RIFF\0\1\0\0AVI ",
        b"Creative Voice File\x1a\x1a\0\x0a\1\x29\x11\1",
        b"OggS\0\2",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        *(first_bytes(form) for form in (*CHUNKED_FORMS, *EVEN_FORMS)),
        NUT_TITLE,
        b"GIF89a",
    ]),
    rest=st.binary(max_size=200),
)
@pytest.mark.filterwarnings("ignore:.*(cut off|joined byte by byte)")
def test_whatever_follows_the_first_bytes_nothing_fails_and_the_place_stays(title, rest):
    file = io.BytesIO(title + rest)
    file.seek(3)
    warn_of_ends(file, "audio")
    assert file.tell() == 3
