"""Public functions that are given something of another kind: one sentence that names the argument."""

import os

import numpy as np
import pytest

from diffusers_dawn import (
    FrameLabel,
    JobRenderer,
    lay_over,
    load_track,
    parse_script,
    paste_each,
    read_background,
    save_track,
    stream_video,
    track_face,
    write_video,
)
from made_tracks import moving_track

PICTURE = np.zeros((16, 16, 3), np.uint8)
CUT_OUT = np.zeros((2, 16, 16, 4), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lay_over(None, PICTURE), "`frames` is a NoneType, must be a ndarray"),
        (lambda: lay_over(CUT_OUT, "white"), "`background` is a str, must be a ndarray"),
        (lambda: read_background("white", 0, 16), "`height` is 0, must be a whole number from 1"),
        (lambda: read_background(PICTURE, 16, 0), "`width` is 0, must be a whole number from 1"),
        (lambda: read_background("white", 16.0, 16), "`height` is 16.0, must be a whole number"),
        (lambda: FrameLabel(None, 16, 16), "`label` is a NoneType, must be a str"),
        (lambda: FrameLabel("x", "16", 16), "`height` is '16', must be a whole number from 1"),
        (lambda: FrameLabel("x", 64, 64).draw([PICTURE]), "`frames` is a list, must be a ndarray"),
        (lambda: list(paste_each(PICTURE.tolist(), [PICTURE], None)), "`image` is a list, must be a ndarray"),
        (lambda: list(paste_each(PICTURE, [None], None)), "`frames` is a NoneType, must be a ndarray"),
        (lambda: list(paste_each(PICTURE, [PICTURE], None, "0.1")), "`feather` is '0.1', must be in"),
        (lambda: track_face([[1, 2]], lambda picture: []), "`video[0]` is a list, must be a ndarray"),
        (lambda: list(stream_video("a.mp4", "25")), "`fps` is '25', must be positive and finite"),
        (lambda: list(stream_video("a.mp4", 25, 1.5)), "`first_frame` is 1.5, must be a whole number from 0"),
        (lambda: parse_script(None), "`motion` is a NoneType, must be a str"),
        (lambda: load_track(None), "`path` is of type NoneType, which names no file"),
        (lambda: load_track(b"a.npz"), "`path` is of type bytes, which names no file"),
        (lambda: save_track(None, "a.npz"), "`track` is a NoneType, must be a MotionTrack"),
        (lambda: save_track(moving_track(2), None), "`path` is a NoneType, must be a path"),
        (lambda: JobRenderer(None), "`output` is a NoneType, must be a path"),
        # what a shell makes of "$NAME.mp4" where NAME is not set
        (lambda: write_video(".mp4", PICTURE[None]), "`path` is .mp4, must have a name before .mp4"),
        (lambda: write_video("./.WEBM", PICTURE[None]), "`path` is .WEBM, must have a name before .WEBM"),
    ],
)
def test_what_is_of_another_kind_is_named(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError)) as refusal:
        call()
    assert str(refusal.value).startswith(message)
    assert os.listdir(tmp_path) == []
