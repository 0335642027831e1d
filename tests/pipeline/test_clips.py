from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.pipeline.clips import (
    ClipInput,
    collect_clips,
    count_frames,
    generators_of,
    prepare_clips,
    read_recording,
)
from diffusers_dawn.records import FaceState, Portrait, Waveform

FACE = FaceState(np.zeros(6), np.zeros(2), (1.0, 3.0, 1.0, 3.0), (8, 8))
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
SECOND = Waveform(NOISE, 16_000)


class PortraitMaker:
    """Makes a portrait per call and counts them."""

    def __init__(self) -> None:
        self.clips = []

    def __call__(self, clip: ClipInput) -> Portrait:
        self.clips.append(clip)
        return Portrait(np.zeros((8, 8, 3), dtype=np.uint8), FACE)


def tracks(frames: int, width: int = 6, batch: int | None = None) -> torch.Tensor:
    shape = (frames, width) if batch is None else (batch, frames, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(frames))


def test_single_values_are_one_clip():
    (clip,) = collect_clips("face.png", "speech.wav", None, FACE, tracks(4), tracks(4, 2))
    assert (clip.image, clip.audio, clip.face) == ("face.png", "speech.wav", FACE)
    assert torch.equal(clip.pose, tracks(4))
    assert torch.equal(clip.blink, tracks(4, 2))
    assert clip.audio_embeds is None


def test_lists_are_batches():
    clips = collect_clips(["a", "b"], ["x", "y"], sampling_rate=[8000, 16_000])
    assert [(clip.image, clip.audio, clip.sampling_rate) for clip in clips] == [("a", "x", 8000), ("b", "y", 16_000)]


def test_single_values_serve_every_clip():
    clips = collect_clips("a", ["x", "y", "z"], sampling_rate=8000, pose=tracks(4))
    assert [(clip.image, clip.audio, clip.sampling_rate) for clip in clips] == [("a", s, 8000) for s in "xyz"]
    assert all(torch.equal(clip.pose, tracks(4)) for clip in clips)


def test_list_of_one_serves_every_clip():
    assert [clip.image for clip in collect_clips(["a"], ["x", "y"])] == ["a", "a"]


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_pictures_with_four_axes_are_a_batch_and_with_three_one(make):
    assert len(collect_clips(make((3, 8, 8, 3)), "x")) == 3
    assert len(collect_clips(make((8, 8, 3)), "x")) == 1


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_recordings_with_one_or_two_axes_are_one(make):
    assert len(collect_clips("a", make(100), 8000)) == 1
    assert len(collect_clips("a", make((2, 100)), 8000)) == 1
    assert len(collect_clips("a", make((3, 2, 100)), 8000)) == 3


@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_recordings_stacked_into_one_array_are_refused_for_several_pictures(make):
    for audio in (make((2, 100)), make((100, 2)), (make((2, 100)), 8000)):
        with pytest.raises(
            ValueError, match=r"`audio` is one array \(.* for 2 pictures, .*: pass one recording per picture"
        ):
            collect_clips(["a", "b"], audio, 8000)
    for audio in (make(100), make((1, 100)), make((100, 1)), make((2, 1, 100)), [make((2, 100)), make((2, 100))]):
        assert len(collect_clips(["a", "b"], audio, 8000)) == 2


def test_array_with_its_rate_is_one_recording():
    recording = (np.zeros(100), 8000)
    (clip,) = collect_clips("a", recording)
    assert clip.audio is recording


@pytest.mark.parametrize("form", ["array", "tensor", "list of arrays", "list of tensors", "lists of numbers"])
def test_tracks_of_a_batch_come_in_any_form(form):
    batch = tracks(4, batch=2)
    given_as = {
        "array": batch.numpy(),
        "tensor": batch,
        "list of arrays": [*batch.numpy()],
        "list of tensors": [*batch],
        "lists of numbers": batch.tolist(),
    }[form]
    clips = collect_clips("a", "x", pose=given_as)
    assert len(clips) == 2
    for clip, expected in zip(clips, batch, strict=True):
        assert torch.equal(clip.pose, expected)


@pytest.mark.parametrize("form", ["array", "tensor", "lists of numbers"])
def test_one_track_comes_in_any_form(form):
    given_as = {"array": tracks(4).numpy(), "tensor": tracks(4), "lists of numbers": tracks(4).tolist()}[form]
    (clip,) = collect_clips("a", "x", pose=given_as)
    assert torch.equal(clip.pose, tracks(4))


def test_tracks_of_a_batch_may_differ_in_length():
    clips = collect_clips("a", ["x", "y"], pose=[tracks(4), tracks(7)])
    assert [len(clip.pose) for clip in clips] == [4, 7]


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_tracks_become_float32(dtype):
    (clip,) = collect_clips("a", "x", pose=np.ones((4, 6), dtype=dtype))
    assert clip.pose.dtype == torch.float32


def test_speech_features_take_the_place_of_a_recording():
    (clip,) = collect_clips("a", None, audio_embeds=tracks(4, 11))
    assert clip.audio is None
    assert torch.equal(clip.audio_embeds, tracks(4, 11))


@given(images=st.integers(1, 4), single_audio=st.booleans(), copies=st.integers(1, 3))
def test_copies_of_a_prompt_follow_each_other(images, single_audio, copies):
    names = [f"image {index}" for index in range(images)]
    audio = "x" if single_audio else [f"audio {index}" for index in range(images)]
    clips = collect_clips(names, audio, num_videos_per_prompt=copies)
    assert [clip.image for clip in clips] == [name for name in names for _ in range(copies)]
    if not single_audio:
        assert [clip.audio for clip in clips] == [name for name in audio for _ in range(copies)]


def test_missing_image_is_refused():
    with pytest.raises(ValueError, match="`image` is missing"):
        collect_clips(None, "x")


@pytest.mark.parametrize(("audio", "embeds"), [(None, None), ("x", tracks(4, 11))])
def test_neither_and_both_of_recording_and_features_are_refused(audio, embeds):
    with pytest.raises(ValueError, match="either `audio` or `audio_embeds`"):
        collect_clips("a", audio, audio_embeds=embeds)


@pytest.mark.parametrize("copies", [0, -1, 1.5, "2", None, True])
def test_numbers_of_copies_that_are_not_whole_are_refused(copies):
    with pytest.raises(ValueError, match="`num_videos_per_prompt` is"):
        collect_clips("a", "x", num_videos_per_prompt=copies)


def test_batches_of_different_lengths_are_refused_by_name():
    with pytest.raises(ValueError, match="`image` has 2, `audio` has 3"):
        collect_clips(["a", "b"], ["x", "y", "z"])
    with pytest.raises(ValueError, match="`audio` has 3, `pose` has 2"):
        collect_clips("a", ["x", "y", "z"], pose=tracks(4, batch=2))


@pytest.mark.parametrize("name", ["image", "audio", "face", "pose", "blink"])
def test_empty_batches_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"`{name}` has 0"):
        collect_clips(**{"image": "a", "audio": "x"} | {name: []})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pose", np.zeros((4, 5))),
        ("pose", np.zeros(6)),
        ("pose", np.zeros((0, 6))),
        ("pose", np.zeros((1, 2, 4, 6))),
        ("pose", [np.zeros((4, 6)), np.zeros((4, 2))]),
        ("blink", np.zeros((4, 6))),
        ("blink", 3.0),
    ],
)
def test_tracks_of_a_wrong_shape_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` is \(.*must be \(F, {6 if name == 'pose' else 2}\)"):
        collect_clips("a", "x", **{name: value})


def test_features_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"`audio_embeds` is \(4,\), must be \(F, D\)"):
        collect_clips("a", None, audio_embeds=torch.zeros(4))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "width"), [("pose", 6), ("blink", 2), ("audio_embeds", 11)])
def test_tracks_that_are_not_finite_are_refused(name, width, value):
    track = tracks(4, width)
    track[2, 1] = value
    with pytest.raises(ValueError, match=f"`{name}` holds values that are not finite"):
        collect_clips("a", None if name == "audio_embeds" else "x", **{name: track})


def test_prepared_clips_hold_portraits_and_waveforms():
    maker = PortraitMaker()
    clips = collect_clips(["a", "b"], (NOISE, 16_000), face=FACE, pose=tracks(25))
    prepared = prepare_clips(clips, maker)
    assert maker.clips == clips
    for clip in prepared:
        assert isinstance(clip.image, Portrait)
        assert isinstance(clip.audio, Waveform)
        assert clip.audio.sample_rate_hz == 16_000
        assert torch.equal(clip.pose, tracks(25))


def test_copies_of_a_prompt_are_prepared_once():
    maker = PortraitMaker()
    prepared = prepare_clips(collect_clips(["a", "b"], SECOND, num_videos_per_prompt=3), maker)
    assert [clip.image for clip in maker.clips] == ["a", "b"]
    assert len({id(clip.image) for clip in prepared}) == 2
    assert len({id(clip.audio) for clip in prepared}) == 1


def test_one_picture_with_two_faces_is_prepared_twice():
    maker = PortraitMaker()
    prepare_clips(collect_clips("a", SECOND, face=[FACE, replace(FACE, num_faces=2)]), maker)
    assert len(maker.clips) == 2


def test_one_array_at_two_rates_is_read_at_each():
    prepared = prepare_clips(collect_clips("a", NOISE, [16_000, 8000]), PortraitMaker())
    assert [clip.audio.sample_rate_hz for clip in prepared] == [16_000, 8000]
    assert [clip.audio.duration_s for clip in prepared] == [1, 2]


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (NOISE, None, "`sampling_rate` is missing"),
        (NOISE, 16_000.0, "`sampling_rate` is 16000.0, must be a positive whole number"),
        (NOISE, 0, "`sampling_rate` is 0, must be a positive whole number"),
        ((NOISE, 16_000), 44_100, "`sampling_rate` is 44100, but `audio` has 16000 Hz"),
    ],
)
def test_rate_is_refused_by_the_name_that_a_call_gives_it(audio, rate, message):
    with pytest.raises(ValueError, match=message):
        read_recording(audio, rate)


def test_another_sound_track_is_offered_by_what_a_call_takes(tmp_path):
    with av.open(str(tmp_path / "two.mov"), "w") as container:
        for stream in [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]:
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 1000, np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.warns(UserWarning, match=r"2 sound tracks; .*; `read_waveform\(track=\.\.\.\)` takes another"):
        read_recording(tmp_path / "two.mov")


def test_generators_are_one_for_all_or_one_per_clip():
    one, other = torch.Generator(), torch.Generator()
    assert generators_of(None, 2) is None and generators_of(one, 2) is one
    assert generators_of((one, other), 2) == generators_of([one, other], 2) == [one, other]
    with pytest.raises(ValueError, match="`generator` has 2 entries, must have one per clip: 3"):
        generators_of([one, other], 3)
    for wrong in (7, "7", [7, 8], [one, None], np.random.default_rng(0)):
        with pytest.raises(ValueError, match=r"(?s)`generator` is .*, must be a torch.Generator"):
            generators_of(wrong, 2)


def test_clips_with_features_have_no_waveform():
    (clip,) = prepare_clips(collect_clips("a", None, audio_embeds=tracks(4, 11)), PortraitMaker())
    assert clip.audio is None


def test_all_of_a_recording_is_counted_or_what_is_wanted_of_it():
    clip = ClipInput(image=None, audio=SECOND)
    assert count_frames(clip) == 25
    assert count_frames(clip, 1) == 1
    assert count_frames(clip, 25) == 25


def test_all_features_are_counted_or_what_is_wanted_of_them():
    clip = ClipInput(image=None, audio_embeds=tracks(9, 11))
    assert count_frames(clip) == 9
    assert count_frames(clip, 4) == 4


@pytest.mark.parametrize("num_frames", [-1, 0, 26, 5.0, True, "5"])
def test_more_frames_than_the_recording_lasts_and_no_whole_numbers_are_refused(num_frames):
    message = rf"`num_frames` is {num_frames!r}, must be a whole number in \[1, 25\], what `audio` lasts"
    with pytest.raises(ValueError, match=message):
        count_frames(ClipInput(image=None, audio=SECOND), num_frames)


def test_more_frames_than_features_are_refused():
    with pytest.raises(
        ValueError, match=r"`num_frames` is 10, must be a whole number in \[1, 9\], what `audio_embeds` lasts"
    ):
        count_frames(ClipInput(image=None, audio_embeds=tracks(9, 11)), 10)


@pytest.mark.parametrize("name", ["pose", "blink"])
@pytest.mark.parametrize(("frames", "num_frames"), [(24, None), (26, None), (25, 20)])
def test_tracks_of_another_length_are_refused(name, frames, num_frames):
    clip = ClipInput(image=None, audio=SECOND, **{name: tracks(frames)})
    with pytest.raises(ValueError, match=f"`{name}` has {frames} frames, the clip has {num_frames or 25}"):
        count_frames(clip, num_frames)


def test_tracks_of_the_clips_length_are_accepted():
    assert count_frames(ClipInput(image=None, audio=SECOND, pose=tracks(20), blink=tracks(20, 2)), 20) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": ["a", None]}, "`image` is a list that holds None"),
        ({"audio": ["x", None]}, "`audio` is a list that holds None"),
        ({"face": 5}, "`face` is 5, must be a `FaceState`, a dict of its fields, or a list of them"),
        ({"face": [FACE, "me"]}, "`face` is 'me', must be"),
        ({"num_videos_per_prompt": 10**9}, "`num_videos_per_prompt` is 1000000000, must be .* from 1 to 1000"),
        ({"pose": "still"}, r"`pose` is a str, must be numbers \(F, 6\)"),
        ({"blink": [["a", "b"]]}, r"`blink` is a list, must be numbers \(F, 2\)"),
        ({"pose": [[0] * 6, [0] * 5]}, r"`pose` is a list, must be numbers \(F, 6\)"),
        ({"pose": np.full((4, 6), 1e30)}, r"`pose` holds values up to 1e\+30, must be at most 10000"),
        ({"audio": None, "audio_embeds": torch.full((4, 8), 1e6)}, "`audio_embeds` holds values up to 1e"),
    ],
)
def test_what_is_no_clip_is_refused_by_its_name(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        collect_clips(**{"image": "a", "audio": "x"} | arguments)
