import os
import resource
import subprocess
import sys

import av
import numpy as np
import pytest

from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.media.video_writer import (
    SYNTHETIC_COMMENT,
    VideoWriter,
    check_frame_size,
    check_output_path,
    write_video,
    writer_bytes,
)
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.records import FPS, Waveform
from synthetic_media import clicks, lag_s, moving_frames, tone

# videos


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".MP4"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 37_800])
def test_sound_is_in_time_and_as_long_as_the_frames(tmp_path, suffix, rate_hz):
    path = tmp_path / f"clicks{suffix}"
    frames = moving_frames(63)
    write_video(path, frames, Waveform(clicks(rate_hz), rate_hz))
    sound = read_waveform(path)
    expected = resample(Waveform(clicks(rate_hz), rate_hz), sound.sample_rate_hz)
    assert sound.sample_rate_hz == (rate_hz if rate_hz != 37_800 else 48_000)
    assert sound.duration_s == pytest.approx(63 / FPS, abs=1e-4)
    expected_samples = expected.samples[: len(sound.samples)]
    assert abs(lag_s(sound.samples, expected_samples, sound.sample_rate_hz)) < 0.001
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(63 / FPS, abs=1e-4)
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(video=0)) == 63


def test_short_sound_is_extended_by_silence(tmp_path):
    write_video(tmp_path / "short.mp4", moving_frames(50), Waveform(tone(duration_s=0.5), 16_000))
    sound = read_waveform(tmp_path / "short.mp4")
    assert sound.duration_s == pytest.approx(2.0, abs=1e-4)
    # AAC rings over one block of 64 ms
    assert np.abs(sound.samples[round(0.6 * 16_000) :]).max() < 1e-3


@pytest.mark.parametrize("fps", [25, 30, 23.976, 12.5])
def test_frames_come_back_in_number_order_and_rate(tmp_path, fps):
    frames = np.stack([np.full((32, 32, 3), 5 * index, np.uint8) for index in range(40)])
    write_video(tmp_path / "grey.mp4", frames, fps=fps)
    decoded, decoded_fps = read_video(tmp_path / "grey.mp4")
    assert decoded_fps == pytest.approx(fps, rel=1e-4)
    assert decoded.shape == frames.shape
    # crf 18 and limited range: within 2 grey levels, neighbours are 5 apart
    assert np.abs(decoded.astype(int) - frames).max() <= 2


def test_colours_survive_the_round_trip(tmp_path):
    frames = np.broadcast_to(np.array([200, 40, 90], np.uint8), (3, 64, 64, 3))
    write_video(tmp_path / "red.mp4", frames)
    # BT.709 written and read; BT.601 on one side would shift green by 13
    assert np.abs(read_video(tmp_path / "red.mp4")[0].astype(int) - frames).max() <= 3


def test_frames_may_come_in_pieces(tmp_path):
    frames = moving_frames(30)
    write_video(tmp_path / "whole.mp4", frames)
    with VideoWriter(tmp_path / "pieces.mp4") as writer:
        for piece in np.array_split(frames, 4):
            writer.write(piece)
        assert writer.num_frames == 30
    assert np.array_equal(read_video(tmp_path / "pieces.mp4")[0], read_video(tmp_path / "whole.mp4")[0])


def test_odd_sizes_are_extended_at_the_edge_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="47x63 frames are extended at the edge to 48x64"):
        write_video(tmp_path / "odd.mp4", moving_frames(3, 47, 63))
    decoded, _ = read_video(tmp_path / "odd.mp4")
    assert decoded.shape == (3, 48, 64, 3)
    assert np.abs(decoded[:, 47].astype(int) - decoded[:, 46]).mean() < 3


def test_an_mp4_can_start_playing_before_it_is_loaded_and_carries_its_tags(tmp_path):
    write_video(tmp_path / "tags.mp4", moving_frames(), metadata={"comment": "made by a test"})
    content = (tmp_path / "tags.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "tags.mp4")) as container:
        assert container.metadata["comment"] == "made by a test"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_video_says_that_it_is_synthetic_unless_it_is_given_other_tags(tmp_path, suffix):
    path = tmp_path / f"tags{suffix}"
    for given, expected in (
        ({}, SYNTHETIC_COMMENT),
        ({"metadata": None}, SYNTHETIC_COMMENT),
        ({"metadata": {"comment": "with a seed"}}, "with a seed"),
        ({"metadata": {"title": "no comment"}}, None),
        ({"metadata": {}}, None),
    ):
        write_video(path, moving_frames(2), **given)
        with av.open(str(path)) as container:
            assert container.metadata.get("comment") == expected, given
    assert "synthetic" in SYNTHETIC_COMMENT and "diffusers_dawn" in SYNTHETIC_COMMENT


def test_missing_pyav_is_an_error_that_says_what_to_install_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"PyAV, which cannot be loaded .*: pip install av$"):
        write_video(tmp_path / "video.mp4", moving_frames(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_video_leaves_nothing_and_keeps_the_old_file(tmp_path, interruption):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")
    with pytest.raises(interruption), VideoWriter(path, waveform=Waveform(tone(), 16_000)) as writer:
        writer.write(moving_frames())
        assert len(list(tmp_path.iterdir())) == 2
        raise interruption
    assert [entry.name for entry in tmp_path.iterdir()] == ["video.mp4"]
    assert path.read_bytes() == b"old"


def test_a_video_without_frames_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no frames were written"), VideoWriter(tmp_path / "empty.mp4"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
    ],
)
def test_frames_of_another_shape_or_type_are_an_error(tmp_path, frames):
    with pytest.raises(ValueError, match="`frames` is"):
        write_video(tmp_path / "video.mp4", frames)


def test_frames_that_change_their_size_are_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="`frames` has frames of"),
        VideoWriter(tmp_path / "video.mp4") as writer,
    ):
        writer.write(moving_frames(2))
        writer.write(moving_frames(2, 32, 32))
    assert not list(tmp_path.iterdir())


def test_frames_larger_than_h264_allows_are_an_error(tmp_path):
    for height, width in ((4320, 8192), (8192, 4320), (2160, 16_384)):
        check_frame_size(height, width)
    for height, width in ((8000, 6000), (4400, 8192), (64, 16_400)):
        with pytest.raises(
            ValueError, match=rf"`photo` would be {width}x{height} px, .*: up to 36 megapixels, such as"
        ):
            check_frame_size(height, width, "photo")
    with pytest.raises(ValueError, match="`frames` would be 16400x16 px"):
        write_video(tmp_path / "video.mp4", np.zeros((1, 16, 16_400, 3), np.uint8))
    assert not list(tmp_path.iterdir())


MEASURE = """
import sys
import numpy as np
import psutil
from diffusers_dawn.media.video_writer import VideoWriter

height, width, num_frames = map(int, sys.argv[2:])
rng, process, peak = np.random.default_rng(0), psutil.Process(), 0
picture = (np.cumsum(rng.integers(-3, 4, (height, width, 3)), axis=1) + 128).clip(0, 255).astype(np.uint8)[None]
with VideoWriter(sys.argv[1]) as writer:
    before = process.memory_info().rss
    for _ in range(num_frames):
        writer.write(picture)
        peak = max(peak, process.memory_info().rss - before)
print(peak)
"""


def test_memory_of_writing_is_estimated(tmp_path):
    words = [sys.executable, "-c", MEASURE, str(tmp_path / "video.mp4"), "800", "1200", "60"]
    peak = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    # how many threads encode, and so how many frames they hold, depends on the machine
    assert 0.6 * peak < writer_bytes(800, 1200, 60) < 1.6 * peak
    assert writer_bytes(800, 1200, 1) < writer_bytes(800, 1200, 60) == writer_bytes(800, 1200, 600)


@pytest.mark.parametrize("size", [0, 60_000])
def test_a_full_disk_is_an_error_that_names_the_destination_and_leaves_nothing(tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(OSError, match=r"/video\.mp4 cannot be written: File too large$"):
            write_video(tmp_path / "video.mp4", noise, Waveform(tone(), 16_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_writing_outside_of_the_block_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="only inside"):
        VideoWriter(tmp_path / "video.mp4").write(moving_frames())


@pytest.mark.parametrize("fps", [0, -25, float("inf"), float("nan"), 1e9, "25", True, None])
def test_no_frame_rate_is_an_error(tmp_path, fps):
    with pytest.raises(ValueError, match=r"`fps` is .*, must be a number above 0, up to 1000"):
        write_video(tmp_path / "x.mp4", moving_frames(), fps=fps)


@pytest.mark.parametrize("metadata", [{"comment": 5}, {5: "five"}, {"comment": None}])
def test_tags_that_are_no_texts_are_an_error(tmp_path, metadata):
    with pytest.raises(ValueError, match="`metadata` has .*, must be texts by texts"):
        write_video(tmp_path / "x.mp4", moving_frames(), metadata=metadata)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["take:1", "http:", "file:x"])
def test_a_folder_with_a_colon_is_no_protocol(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    os.mkdir(folder)
    write_video(f"{folder}/x.mp4", moving_frames())
    assert os.listdir(folder) == ["x.mp4"] and os.listdir() == [folder]


# output paths


def test_new_files_and_files_that_exist_are_good_output_paths(tmp_path):
    check_output_path(str(tmp_path / "video.mp4"))
    (tmp_path / "video.mp4").write_bytes(b"old")
    check_output_path(tmp_path / "video.mp4")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_bad_output_paths_are_errors(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path / "folder.mp4", "is a directory"),
        (tmp_path / "none" / "video.mp4", "folder that does not exist"),
        (tmp_path / "file" / "video.mp4", "folder that does not exist"),
        (tmp_path / "video.gif", r"ends in '\.gif'"),
        (tmp_path / "video", "ends in ''"),
    ):
        with pytest.raises(ValueError, match=f"`output`.*{message}"):
            check_output_path(path)


def test_a_special_file_is_no_output_path(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match="not a regular file"):
        check_output_path(tmp_path / "pipe.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_no_place_for_output(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="not writable"):
        check_output_path(tmp_path / "video.mp4")
