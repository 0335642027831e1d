"""Where files come from, and that they cannot make other files be opened."""

import io
import os
import tempfile
import threading
import time

import numpy as np
import pytest

from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.sources import as_array, open_binary
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import count_video_frames, read_video
from diffusers_dawn.records import Waveform
from synthetic_media import moving_frames, tone, write_audio

SESSION = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
READERS = {
    "audio": read_waveform,
    "video": read_video,
    "counted": lambda source: count_video_frames(source, 25, name="counted"),
}


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with a recording and a film that playlists name, and in which the process runs."""
    write_audio(tmp_path / "other.wav", tone()[None], 16_000, "pcm_s16le")
    write_video(tmp_path / "other.mp4", moving_frames(), Waveform(tone(), 16_000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("other", ["other.wav", "other.mp4"])
@pytest.mark.parametrize("suffix", [".ffconcat", ".m3u8", ".wav"])
def test_texts_that_name_another_file_are_refused_and_do_not_open_it(beside, name, other, suffix):
    playlists = (
        f"ffconcat version 1.0\nfile {other}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n",
    )
    for text in playlists:
        path = beside / f"list{suffix}"
        path.write_text(text)
        with path.open("rb") as stream:
            for source in (path, str(path), f"list{suffix}", path.read_bytes(), stream):
                with pytest.raises(
                    ValueError, match=rf"^`{name}` cannot be decoded \(.*\): .*must hold sound or pictures itself$"
                ):
                    READERS[name](source)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("address", ["https://example.com/a.png", "file:///etc/hosts", "rtmp://127.0.0.1/live"])
def test_addresses_are_said_not_to_be_fetched(name, address):
    with pytest.raises(ValueError, match=f"`{name}` is a URL, must be a file: {address}; download it"):
        READERS[name](address)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("path", ["a" * 300, "a\0b"])
def test_names_that_no_file_can_have_are_refused_by_the_argument(name, path):
    with pytest.raises(ValueError, match=f"`{name}` cannot be opened"):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_session_description_is_refused_without_waiting_for_the_network(tmp_path, name):
    (tmp_path / "session.sdp").write_bytes(SESSION)
    started = time.perf_counter()
    for source in (SESSION, tmp_path / "session.sdp"):
        with pytest.raises(ValueError, match=f"`{name}` cannot be decoded"):
            READERS[name](source)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_film_is_read_and_counted_alike_from_path_bytes_and_streams(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    write_video(path, moving_frames(10), Waveform(tone(), 16_000))
    frames, _ = read_video(path)
    with path.open("rb") as stream:
        for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), stream):
            assert np.array_equal(read_video(source)[0], frames)
            if hasattr(source, "seek"):
                source.seek(0)
            assert count_video_frames(source, 25) == 10


def test_stream_stays_open_and_may_be_any_object_that_reads(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    with tempfile.NamedTemporaryFile() as file:
        file.write(path.read_bytes())
        file.seek(0)
        assert read_waveform(file).duration_s == 1
        assert not file.closed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_recording_can_come_through_a_pipe(tmp_path):
    content = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    feeder.start()
    assert read_waveform(tmp_path / "pipe").duration_s == 1
    feeder.join()


def test_tags_in_another_encoding_do_not_matter(tmp_path):
    content = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le").read_bytes()
    title = "Café".encode("latin-1")
    chunk = b"LIST" + (12 + len(title)).to_bytes(4, "little") + b"INFOINAM" + len(title).to_bytes(4, "little") + title
    header, audio = content[:12], content[12:]
    size = (len(content) - 8 + len(chunk)).to_bytes(4, "little")
    tagged = header[:4] + size + header[8:] + chunk + audio
    assert np.array_equal(read_waveform(tagged).samples, read_waveform(content).samples)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_named(tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone()[None], 16_000, "pcm_s16le")
    path.chmod(0)
    with pytest.raises(ValueError, match=r"`audio` cannot be opened \(.*tone.wav\): Permission denied"):
        read_waveform(path)


def test_opened_path_is_closed_again(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_binary(tmp_path / "file", "audio") as file:
        assert file.read() == b"content"
    assert file.closed


def test_file_object_is_no_tensor():
    with tempfile.NamedTemporaryFile() as file:
        with pytest.raises(TypeError, match="`image` is of type _TemporaryFileWrapper"):
            as_array(file, "image")
        assert file.write(b"still usable") == 12
