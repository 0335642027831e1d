"""Whatever is given in place of an argument, one sentence names it and says what is allowed."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusers_dawn import Portrait, SquareCrop, Waveform
from diffusers_dawn.motion.reading import read_motion
from diffusers_dawn.motion.track import MotionTrack
from pipeline_calls import RATE_HZ, face, picture, run, speech

POSE, BLINK = np.zeros((6, 6)), np.full((6, 2), 0.3)


class NoArray:
    def __array__(self, *_, **__):
        raise RuntimeError("there is none")


def tensors(*shape):
    """Tensors of a shape that hold no real numbers, or none at all."""
    return [
        torch.zeros(shape, dtype=torch.bool),
        torch.zeros(shape, dtype=torch.complex64),
        torch.zeros(shape).to_sparse(),
        torch.empty(shape, device="meta"),
    ]


def refused(make, given, message, errors=(ValueError, TypeError)):
    """None where what is made of something given is refused in such a sentence, else what came instead."""
    try:
        make(given)
    except errors as error:
        return None if re.search(message, str(error)) else f"{given!r}: {error}"
    except Exception as error:
        return f"{given!r}: {error!r}"
    return f"{given!r} was taken"


TRACKS = [
    *["text", {}, b"x", NoArray(), 10**400, POSE.astype(bool), POSE.astype(complex), POSE.astype("M8[s]")],
    *[POSE.astype(str), POSE.astype(object), [[10**400] * 6] * 6, np.zeros((6, 0)), [[[1, 2], [3]]], *tensors(6, 6)],
]
CALLS = {
    "pose": TRACKS,
    "blink": [BLINK.astype(bool), BLINK.astype(complex), *tensors(6, 2)],
    "audio_embeds": [np.zeros((6, 0)), np.zeros((6, 32), bool), *tensors(6, 32)],
    "latents": [*tensors(1, 3, 6, 16, 16), np.zeros((1, 3, 6, 16, 16)), [], torch.zeros(5)],
    "output_type": [[], {}, 5, None, np.array("pt")],
    "preset": [[], {}, ["fast"], np.array("fast"), 5],
    "callback_on_step_end": [
        *[lambda *_, latents=latents: {"latents": latents} for latents in (5, None, torch.zeros(2), np.zeros(3))],
        lambda *_: 5,
    ],
}


def test_arguments_of_a_call_that_are_of_another_kind_are_named(pipe):
    said = [
        refused(lambda value, name=name: run(pipe, **{name: value}), value, f"`{name}` .* must")
        for name, values in CALLS.items()
        for value in values
    ]
    assert [line for line in said if line] == []


def test_pictures_and_recordings_that_cannot_be_read_are_named(pipe):
    wrong = {
        "image": [5, io.StringIO("x"), (1, 2), np.array("x"), *tensors(3, 80, 80)],
        "audio": [
            *[5, io.StringIO("x"), np.array("x"), *tensors(4000)],
            *[Waveform(np.zeros(4000), "x"), Waveform("x", 16_000), (np.zeros(4000), True), (16_000, np.zeros(4000))],
        ],
    }
    said = [
        refused(lambda value, name=name: run(pipe, **{name: value}), value, f"`{name}`")
        for name, values in wrong.items()
        for value in values
    ]
    assert [line for line in said if line] == []


def test_portraits_that_were_put_together_wrongly_are_refused(pipe):
    whole = Portrait(picture(), face())
    changes = {
        "image": ["x", picture() / 255, picture(size=(80, 90)), torch.zeros(80, 80, 3, dtype=torch.uint8)],
        "face": [None, {}, face(image_size=(10, 10)), face(pose=np.full(6, np.nan))],
        "opacity": ["x", np.zeros((3, 3), np.uint8), np.zeros((80, 80))],
        "person": ["x", np.zeros((4, 4)), np.zeros((4, 5), np.uint8), np.uint8(3)],
    }
    for field, values in changes.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^`(image\.)?{field}"):
                pipe.prepare_portrait(replace(whole, **{field: value}))
    opacity, person = np.zeros((80, 80), np.uint8), np.zeros((4, 4), np.uint8)
    good = replace(whole, opacity=opacity, person=person)
    assert pipe.prepare_portrait(good).opacity is opacity


def test_what_chooses_no_face_is_named(pipe):
    for wrong in (5, [], [face()], "x"):
        with pytest.raises(ValueError, match="`face` is .*, must be a `FaceState`, or a dict of its fields"):
            pipe.prepare_portrait(picture(), face=wrong)
    with pytest.raises(ValueError, match="`crop` is .*, must hold whole numbers"):
        pipe.prepare_portrait(picture(), face=face(), crop=SquareCrop(0.5, 0, 5))


def test_a_detector_of_ones_own_that_returns_no_faces_is_told_so(pipe):
    kept = pipe.face_detector
    try:
        for result in (5, None, [5], picture()):
            pipe.face_detector = lambda _, result=result: result
            with pytest.raises(ValueError, match=r"(?s)face detector returned .*, must return a list of `FaceState"):
                pipe.prepare_portrait(picture())
    finally:
        pipe.face_detector = kept


def test_stages_and_streams_name_what_is_no_tensor_and_no_chunk(pipe):
    no_features = [np.zeros((1, 6, 32)), *tensors(1, 6, 32)]
    features, pose, blink = torch.zeros(1, 6, 32), torch.zeros(1, 6), torch.zeros(1, 2)
    calls = [
        (lambda value: pipe.predict_motion(value, pose, blink), no_features, "`audio_embeds`"),
        (lambda value: pipe.predict_motion(features, value, blink), [pose.numpy(), None], "`initial_pose`"),
        (lambda value: pipe.predict_motion(features, pose, blink, temperature=value), [[1, 2], "x"], "`temperature`"),
        (lambda value: pipe.predict_motion(features, pose, blink, take=value), [[1, 1], [], 0], "`take`"),
        (lambda value: pipe.propose_motion(picture(), speech(), RATE_HZ, face(), generator=value), [5], "`generator`"),
        (lambda value: list(pipe.stream(picture(), [value], RATE_HZ, face())), tensors(4000), "`audio_chunks`"),
        (lambda value: pipe.stream(picture(), [], RATE_HZ, value), [5, [face()]], "`face`"),
    ]
    said = [refused(call, value, message) for call, values, message in calls for value in values]
    assert [line for line in said if line] == []


def test_plans_and_estimates_name_counts_that_are_none(pipe):
    for method in (pipe.plan, pipe.estimate_memory):
        for name in ("num_frames", "batch_size"):
            for wrong in ("x", 0, -1, 1.5, None, True):
                with pytest.raises(ValueError, match=f"`{name}` is .*, must be a whole number from 1"):
                    method(**{"num_frames": 25, name: wrong})
    for arguments in ({"window_frames": 0}, {"dtype": "x"}, {"device": "x"}, {"device": {}}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` is .*, must be"):
            pipe.estimate_memory(25, **arguments)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("enable_windows", {"frames": 0}, "`frames` is 0, must be a whole number from 1"),
        ("enable_windows", {"frames": 100.0}, "`frames` is 100.0, must be a whole number from 1"),
        ("enable_windows", {"overlap": None}, "`overlap` is None, must be a whole number from 0"),
        ("enable_windows", {"frames": 30, "overlap": 30}, "`overlap` is 30, must be less than a window's 30 frames"),
        ("enable_step_cache", {"interval": 0}, "`interval` is 0, must be a whole number from 1"),
        ("set_memory_budget", {"num_bytes": -1}, "`num_bytes` is -1, must be a positive number of bytes, or None"),
        ("set_decode_chunk_size", {"frames": 8.0}, "`frames` is 8.0, must be a whole number from 1"),
    ],
)
def test_methods_for_the_machine_name_their_own_arguments_and_change_nothing(pipe, method, arguments, message):
    before = pipe._machine
    with pytest.raises(ValueError, match=f"^{message}$"):
        getattr(pipe, method)(**arguments)
    assert pipe._machine is before


def test_reading_motion_names_what_counts_no_frames_and_finds_no_faces():
    track = MotionTrack(POSE, BLINK)
    for arguments in ({"num_frames": "x"}, {"num_frames": 0}, {"num_frames": [5]}, {"detector": 5}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` is .*, must be a"):
            read_motion(track, **arguments)
