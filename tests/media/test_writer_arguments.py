"""Whatever is given to be written, one sentence names it, and no file stays."""

import io
from fractions import Fraction

import numpy as np
import pytest

from diffusers_dawn import VideoWriter, Waveform, write_video
from diffusers_dawn.media.videos import count_video_frames
from synthetic_media import moving_frames

SILENCE = np.zeros(100, np.float32)
NO_SAMPLES = ["x", None, [0.0], np.zeros((2, 9)), np.zeros(9, int), np.zeros(9, complex)]
NO_SOUNDS = [
    "x",
    SILENCE,
    (SILENCE, 16_000),
    *[Waveform(samples, 16_000) for samples in NO_SAMPLES],
    *[Waveform(SILENCE + value, 16_000) for value in (np.nan, np.inf, 1e30)],
    *[Waveform(SILENCE, rate_hz) for rate_hz in ("x", 0, -5, 1.5, True, None, 10**12)],
]


@pytest.mark.parametrize("name", ["x.mp4", "frames"])
def test_what_is_no_sound_is_named(tmp_path, name):
    for waveform in NO_SOUNDS:
        with pytest.raises(ValueError, match=r"^`waveform(\.samples|\.sample_rate_hz)?` .*must "):
            write_video(tmp_path / name, moving_frames(), waveform)
    assert not list(tmp_path.iterdir())


def test_what_is_no_frames_and_no_path_is_named(tmp_path):
    frames = moving_frames()
    for wrong in ("x", None, 5, frames.tolist(), list(frames), iter(frames), frames / 255, frames[0], frames[:0]):
        with pytest.raises(ValueError, match="^`frames` (is|are) "):
            write_video(tmp_path / "x.mp4", wrong)
    for wrong in (5, None, True, b"x.mp4", io.BytesIO(), []):
        with pytest.raises(ValueError, match="^`path` is a .*, must be a path"):
            write_video(wrong, frames)
    assert not list(tmp_path.iterdir())


def test_rates_of_any_kind_of_number_are_taken(tmp_path):
    for fps in (np.float32(25), np.int64(25), Fraction(30_000, 1001), 0.001):
        write_video(tmp_path / "x.mp4", moving_frames(5), fps=fps)
        assert count_video_frames(tmp_path / "x.mp4", float(fps), "film") == 5


def test_a_writer_writes_one_video(tmp_path):
    writer = VideoWriter(tmp_path / "x.mp4")
    with writer:
        writer.write(moving_frames())
        with pytest.raises(RuntimeError, match="writes one video"), writer:
            pass
    with pytest.raises(RuntimeError, match="writes one video"), writer:
        pass
    assert count_video_frames(tmp_path / "x.mp4", 25, "film") == 12
