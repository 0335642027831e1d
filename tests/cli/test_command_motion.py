"""`dawn animate`: where the motion of head and eyes comes from."""

import numpy as np
import pytest
from command_calls import EXAMPLES, animate, written_frames
from PIL import Image

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.cli import beginning
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.motion import track_files
from diffusers_dawn.motion.track_files import load_track
from real_inputs import REAL, needs_real


@needs_real
def test_pose_can_come_from_another_video(folder, tmp_path, capsys, detector):
    assert animate(folder, tmp_path / "driven.mp4", motion=REAL / "speaker_25fps.mp4", debug=True) == 0
    printed = capsys.readouterr().out
    assert "motion " in printed
    assert "pose and blink 0.0" in printed


def test_head_motion_is_a_factor_of_the_head(folder, drawn, tmp_path, detector, monkeypatch):
    written, frames = written_frames(monkeypatch), {}
    for factor in (None, 1, 0):
        written.clear()
        assert animate(folder, tmp_path / "out.mp4", head_motion=factor, image=drawn) == 0
        frames[factor] = np.concatenate(written)
    assert np.array_equal(frames[None], frames[1])
    assert not np.array_equal(frames[0], frames[1])


def test_motion_by_a_text_is_kept_in_a_file_that_moves_another_video(folder, drawn, tmp_path, capsys, detector):
    text = "at 0.2 s yaw 20; blink at 0.1 s"
    assert animate(folder, tmp_path / "a.mp4", motion=text, save_motion=tmp_path / "m.json", image=drawn) == 0
    assert f"wrote {tmp_path}/m.json" in capsys.readouterr().out
    track = load_track(tmp_path / "m.json")
    assert track.num_frames == 13 and track.pose[5, 0] == pytest.approx(20, abs=1e-3)
    arguments = {"motion": tmp_path / "m.json", "save_motion": tmp_path / "again.npz", "seed": 3}
    assert animate(folder, tmp_path / "b.mp4", **arguments, image=drawn) == 0
    np.testing.assert_allclose(load_track(tmp_path / "again.npz").pose, track.pose, atol=1e-3)


def test_a_preview_is_written_first_and_changes_nothing(folder, drawn, tmp_path, detector, monkeypatch):
    written = written_frames(monkeypatch)
    monkeypatch.setattr(beginning, "BEGINNING_S", 0.2)
    said = {"motion": "at 0.4 s yaw 20", "image": drawn}
    assert animate(folder, tmp_path / "alone.mp4", **said) == 0
    alone = written.copy()
    written.clear()
    # that it moves as the whole begins is tested in the studio, which shows the same
    assert animate(folder, tmp_path / "whole.mp4", preview_while=tmp_path / "first.mp4", **said) == 0
    assert len(read_video(tmp_path / "first.mp4")[0]) == 5 < len(alone)
    np.testing.assert_array_equal(written[5:], alone)


def test_driving_video_is_read_as_far_as_it_is_needed(folder, drawn, tmp_path, capsys, detector, monkeypatch):
    face = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    write_video(tmp_path / "film.mp4", np.stack([face] * 40))
    read, stream = [], track_files.stream_video

    def stream_and_count(*args, **kwargs):
        for frame in stream(*args, **kwargs):
            read.append(frame)
            yield frame

    monkeypatch.setattr(track_files, "stream_video", stream_and_count)
    assert animate(folder, tmp_path / "out.mp4", motion=tmp_path / "film.mp4", image=drawn) == 0
    assert len(read) == 13
    assert "pose and blink 0.0" in capsys.readouterr().out


def test_checkpoint_without_pbnet_is_driven_by_a_video(folder, drawn, tmp_path, detector):
    parts = DAWNPipeline.from_pretrained(folder / "tiny").components
    DAWNPipeline(**parts | {"pbnet": None}).save_pretrained(tmp_path / "driven_only")
    face = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    write_video(tmp_path / "film.mp4", np.stack([face] * 13))
    arguments = {"checkpoint": tmp_path / "driven_only", "motion": tmp_path / "film.mp4"}
    assert animate(folder, tmp_path / "out.mp4", image=drawn, **arguments) == 0
    assert len(read_video(tmp_path / "out.mp4")[0]) == 13
