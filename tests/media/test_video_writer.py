import os
import resource
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.media.recordings import read_waveform, resample
from diffusers_dawn.media.video_kinds import VIDEO_KINDS, check_frame_size, check_output_path
from diffusers_dawn.media.video_writer import (
    SYNTHETIC_COMMENT,
    VideoWriter,
    resampled_bytes,
    write_video,
    writer_bytes,
)
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.records import FPS, Waveform
from synthetic_media import clicks, lag_s, moving_frames, tone

# videos


@pytest.mark.parametrize(
    ("suffix", "rate_hz"),
    [(".mp4", 16_000), (".mp4", 37_800), (".mov", 44_100), (".MP4", 16_000), (".webm", 16_000), (".webm", 48_000)],
)
def test_sound_is_in_time_and_as_long_as_the_frames(tmp_path, suffix, rate_hz):
    path = tmp_path / f"clicks{suffix}"
    frames = moving_frames(63)
    write_video(path, frames, Waveform(clicks(rate_hz), rate_hz))
    sound = read_waveform(path)
    expected = resample(Waveform(clicks(rate_hz), rate_hz), sound.sample_rate_hz)
    assert sound.sample_rate_hz == (rate_hz if rate_hz in VIDEO_KINDS[suffix.lower()].sound_rates_hz else 48_000)
    assert sound.duration_s == pytest.approx(63 / FPS, abs=1e-4)
    expected_samples = expected.samples[: len(sound.samples)]
    assert abs(lag_s(sound.samples, expected_samples, sound.sample_rate_hz)) < 0.001
    with av.open(str(path)) as container:
        # WebM's head counts what an Opus decoder drops at the start, 6.5 ms, and in milliseconds
        assert container.duration / 1e6 == pytest.approx(63 / FPS, abs=0.009 if suffix == ".webm" else 1e-4)
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


def test_a_gif_shows_every_frame_for_its_time_in_its_colours_and_has_no_sound(tmp_path):
    frames = moving_frames(9, 47, 63)
    frames[..., 1] //= 2
    with pytest.warns(UserWarning, match=r"a GIF holds no sound; it is left out of .*/talk\.gif"):
        write_video(tmp_path / "talk.gif", frames, Waveform(tone(), 16_000))
    with Image.open(tmp_path / "talk.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (9, (63, 47), 0)
        assert gif.info["comment"].decode() == SYNTHETIC_COMMENT
        for index, frame in enumerate(frames):
            gif.seek(index)
            assert gif.info["duration"] == 40
            # 64 colours and a dither between them
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).mean() < 6
    with pytest.raises(ValueError, match="`fps` is 60, must be a number from 0.001 to 50"):
        write_video(tmp_path / "fast.gif", frames, fps=60)
    write_video(tmp_path / "talk.gif", frames, metadata={"comment": "x" * 700})
    with Image.open(tmp_path / "talk.gif") as gif:
        assert gif.info["comment"] == b"x" * 700 and gif.n_frames == 9
    assert os.listdir(tmp_path) == ["talk.gif"]


def test_a_folder_holds_every_frame_as_it_is_and_the_sound(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8)
    write_video(tmp_path / "frames", frames, Waveform(tone(37_800), 37_800))
    assert sorted(os.listdir(tmp_path / "frames")) == [f"frame_{index:06}.png" for index in range(5)] + ["sound.wav"]
    for index, frame in enumerate(frames):
        with Image.open(tmp_path / "frames" / f"frame_{index:06}.png") as picture:
            assert np.array_equal(np.asarray(picture), frame) and picture.text["Comment"] == SYNTHETIC_COMMENT
    sound = read_waveform(tmp_path / "frames" / "sound.wav")
    assert sound.sample_rate_hz == 37_800 and len(sound.samples) == 37_800 // 5
    assert np.abs(sound.samples - tone(37_800)[: 37_800 // 5]).max() < 1e-4
    with pytest.raises(ValueError, match="`metadata` has the key 'a b'"):
        write_video(tmp_path / "other", frames, metadata={"a b": "c"})
    assert os.listdir(tmp_path) == ["frames"]


def test_a_folder_of_frames_is_replaced_as_a_whole_and_no_other_folder_is(tmp_path):
    folder = tmp_path / "frames"
    write_video(folder, moving_frames(5))
    with pytest.raises(RuntimeError), VideoWriter(folder) as writer:
        writer.write(moving_frames(2))
        raise RuntimeError
    assert len(list(folder.iterdir())) == 5
    write_video(folder, moving_frames(2))
    assert len(list(folder.iterdir())) == 2 and os.listdir(tmp_path) == ["frames"]
    (folder / "diary.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"is a directory: .*; it holds other things than frames \(diary.txt\)"):
        write_video(folder, moving_frames(2))
    assert (folder / "diary.txt").read_text() == "dear"


def opacity_in(path):
    """What a file says of opacity: by libvpx for WebM, which FFmpeg's own decoder passes over."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        frames = [frame for packet in container.demux(stream) if packet.size for frame in decoder.decode(packet)]
        frames += decoder.decode(None)
        assert stream.codec_context.name == ("vp9" if path.suffix == ".webm" else "prores")
        return np.stack([frame.to_ndarray(format="rgba")[..., 3] for frame in frames])


@pytest.mark.parametrize("name", ["cut.mov", "cut.webm", "cut"])
def test_opacity_comes_back_from_the_file(tmp_path, name):
    opacity = np.zeros((6, 32, 48, 1), np.uint8)
    for index in range(6):
        opacity[index, 8:24, 8 + index : 28 + index] = 255
    opacity[:, 28:] = 128
    frames = np.concatenate([moving_frames(6, 32, 48), opacity], axis=-1)
    write_video(tmp_path / name, frames, Waveform(tone(), 16_000))
    if name == "cut":
        pictures = [Image.open(tmp_path / "cut" / f"frame_{index:06}.png") for index in range(6)]
        read = np.stack([np.asarray(picture)[..., 3] for picture in pictures])
    else:
        read = opacity_in(tmp_path / name)
    assert read.shape == (6, 32, 48)
    assert np.abs(read.astype(int) - opacity[..., 0]).max() <= {"cut": 0, "cut.mov": 2, "cut.webm": 40}[name]
    assert np.abs(read.astype(int) - opacity[..., 0]).mean() < 2


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_opacity_that_a_file_cannot_hold_is_an_error(tmp_path, suffix):
    frames = np.zeros((2, 16, 16, 4), np.uint8)
    with pytest.raises(ValueError, match=f"'{suffix}': .*, which holds no transparency; must end in .mov"):
        write_video(tmp_path / f"video{suffix}", frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.gif"])
def test_equal_frames_give_equal_files(tmp_path, name):
    contents = set()
    for _ in range(2):
        write_video(tmp_path / name, moving_frames(20, 96, 128), None if ".gif" in name else Waveform(tone(), 16_000))
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("size_px", [64, 128, 192])
def test_a_file_does_not_depend_on_what_memory_held_before(tmp_path, size_px):
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
    texture = np.asarray(texture.resize((2 * size_px, 2 * size_px), Image.Resampling.BICUBIC)).astype(float)
    moving = np.stack([texture[2 * frame :, frame:][:size_px, :size_px] for frame in range(12)])
    moving += rng.normal(0, 4, moving.shape)
    np.save(tmp_path / "frames.npy", moving.clip(0, 255).astype(np.uint8))
    write = "import sys, numpy, diffusers_dawn as d; d.write_video(sys.argv[2], numpy.load(sys.argv[1]))"
    for filling in ("0", "85"):  # what glibc writes into memory that it hands out
        command = [sys.executable, "-c", write, str(tmp_path / "frames.npy"), str(tmp_path / f"{filling}.mp4")]
        subprocess.run(command, env=os.environ | {"MALLOC_PERTURB_": filling}, check=True)
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "85.mp4").read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
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
            tags = {key.lower(): text for key, text in container.metadata.items()}
            assert tags.get("comment") == expected, given
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
        np.zeros((2, 8, 8, 5), np.uint8),
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
    # of a width at which the encoder looks ahead; at others it takes less
    words = [sys.executable, "-c", MEASURE, str(tmp_path / "video.mp4"), "800", "1280", "60"]
    peak = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    # how many threads encode, and so how many frames they hold, depends on the machine
    assert 0.6 * peak < writer_bytes(800, 1280, 60) < 1.6 * peak
    assert writer_bytes(800, 1280, 1) < writer_bytes(800, 1280, 60) == writer_bytes(800, 1280, 600)


@pytest.mark.parametrize(
    ("name", "rate_hz", "seconds_held"),
    [
        ("a.mp4", 44_100, 0),
        ("a.mp4", 192_000, 2),
        ("a.webm", 16_000, 2),
        ("a.webm", 48_000, 0),
        ("a.gif", 7, 0),
        ("a", 7, 0),
    ],
)
def test_memory_of_sound_at_another_rate_is_estimated(name, rate_hz, seconds_held):
    assert resampled_bytes(name, 3600 * 25, rate_hz) == seconds_held * 3600 * 48_000 * 4


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


@pytest.mark.parametrize("fps", [0, -25, 1e-9, float("inf"), float("nan"), 1e9, "25", True, None])
def test_no_frame_rate_is_an_error(tmp_path, fps):
    with pytest.raises(ValueError, match=r"`fps` is .*, must be a number from 0.001 to 1000"):
        write_video(tmp_path / "x.mp4", moving_frames(), fps=fps)


NO_TAGS = ["x", [("a", "b")], {"comment": 5}, {5: "five"}, {"comment": "\ud800"}, {"a\0": "b"}]


@pytest.mark.parametrize("metadata", NO_TAGS)
def test_tags_that_are_no_texts_are_an_error(tmp_path, metadata):
    with pytest.raises(ValueError, match="`metadata` (has|is) .*, must be texts by texts"):
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
