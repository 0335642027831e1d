from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clips import AUDIO_DIM, tiny_clip, write_tiny_data_set
from tiny_evaluation import SHORT, quiet_pipeline, write_test_split

from training.data.dataset_info import DatasetInfo
from training.evaluation.clips import Evaluation
from training.evaluation.report import LeftOut


@pytest.fixture(scope="module")
def pipe():
    return quiet_pipeline()


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    return write_tiny_data_set(tmp_path_factory.mktemp("data") / "clips", num_clips=2, num_test_clips=3)


def without_features(name):
    clip = tiny_clip(name)
    return replace(clip, labels={key: values for key, values in clip.labels.items() if key != "audio_features"})


def test_clips_are_spread_over_the_test_split_and_cut(pipe, data_set):
    evaluation = Evaluation(pipe, data_set, SHORT, None)
    assert evaluation.clip_ids == ["test-0", "test-2"]
    assert len(evaluation.truth(0).frames) == 15 == len(evaluation.labels(0)["pose"])
    assert evaluation.speech(0).shape == (15, AUDIO_DIM)
    assert evaluation.portrait(1).image.shape == (64, 64, 3)


def test_clips_of_one_person_are_joined_to_the_length_that_is_asked_for(pipe, data_set):
    whole = replace(SHORT, clip_seconds=1.2, long_seconds=None, num_clips=3)
    single = Evaluation(pipe, data_set, whole, None)
    evaluation = Evaluation(pipe, data_set, replace(whole, clip_seconds=2, join_clips=True), None)
    # of three clips of 30 frames, all of one person, the third is left over
    assert evaluation.clip_ids == ["test-0+1"] and evaluation.num_frames(0) == 50 == len(evaluation.speech(0))
    clip, parts = evaluation.truth(0), [single.truth(place) for place in range(2)]
    np.testing.assert_array_equal(clip.frames, np.concatenate([part.frames for part in parts])[:50])
    np.testing.assert_array_equal(clip.samples, np.concatenate([part.samples for part in parts])[: 50 * 640])
    np.testing.assert_array_equal(evaluation.labels(0)["pose"][30:], parts[1].labels["pose"][:20])
    with pytest.raises(ValueError, match="`clip_seconds` is 9, but nobody speaks as long in the test split"):
        Evaluation(pipe, data_set, replace(whole, clip_seconds=9, join_clips=True), None)


def test_noise_depends_on_seed_and_purpose_alone(pipe, data_set):
    evaluation = Evaluation(pipe, data_set, SHORT, None)
    first, again, other = (
        torch.randn(4, generator=evaluation.random(*purpose)) for purpose in ((0, 1), (0, 1), (1, 0))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    reseeded = Evaluation(pipe, data_set, replace(SHORT, seed=1), None)
    assert not torch.equal(first, torch.randn(4, generator=reseeded.random(0, 1)))


def test_rendered_pictures_are_those_of_the_pipeline(pipe, data_set):
    evaluation = Evaluation(pipe, data_set, SHORT, None)
    portrait, speech, labels = evaluation.portrait(0), evaluation.speech(0), evaluation.labels(0)
    tracks = tuple(torch.from_numpy(labels[name]) for name in ("pose", "blink"))
    (stretches,) = evaluation.each(
        "videos", {"a": 0}, lambda place: evaluation.render(portrait, speech, tracks, evaluation.random(place, 0))
    )
    expected = pipe(
        image=portrait,
        audio_embeds=speech,
        pose=tracks[0],
        blink=tracks[1],
        num_inference_steps=1,
        generator=evaluation.random(0, 0),
        output_type="np",
    ).frames[0]
    np.testing.assert_array_equal(evaluation.pictures(stretches), (expected * 255).round().astype(np.uint8))
    assert evaluation.rendered[:2].tolist() == [1, len(speech)] and evaluation.rendered[2] > 0


def test_without_pbnet_the_head_is_held(pipe, data_set):
    bare = type(pipe)(**(pipe.components | {"pbnet": None}))
    evaluation = Evaluation(bare, data_set, SHORT, None)
    portrait, speech = evaluation.portrait(0), evaluation.speech(0)
    pose, blink = evaluation.free_tracks(portrait, speech, evaluation.random(0))
    np.testing.assert_allclose(pose, np.tile(portrait.face.pose, (15, 1)), rtol=1e-6)
    np.testing.assert_allclose(blink, np.tile(portrait.face.blink, (15, 1)), rtol=1e-6)


def test_speech_is_encoded_where_no_features_are_stored(pipe, tmp_path):
    folder = write_test_split(tmp_path / "clips", without_features, DatasetInfo(64))
    evaluation = Evaluation(pipe, folder, SHORT, None)
    assert evaluation.speech(0).shape == (15, AUDIO_DIM) and evaluation.speech_note() is None


def test_features_of_another_encoder_are_told(pipe, data_set):
    # the tiny clips' features are random numbers
    assert "correlate by only" in Evaluation(pipe, data_set, SHORT, None).speech_note()


def test_features_of_the_same_encoder_need_no_note(pipe, tmp_path):
    def encoded(name):
        clip = tiny_clip(name)
        features = pipe.encode_audio((clip.samples, 16_000)).numpy().astype(np.float16)
        return replace(clip, labels=clip.labels | {"audio_features": features})

    folder = write_test_split(tmp_path / "clips", encoded, DatasetInfo(64, "x", AUDIO_DIM))
    # longer pieces: the encoder normalises all that it hears at once
    assert Evaluation(pipe, folder, replace(SHORT, clip_seconds=1.2, long_seconds=3), None).speech_note() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_clips": 0}, "`num_clips` is 0"),
        ({"frame_stride": 0}, "`frame_stride` is 0"),
        ({"clip_seconds": 0.3}, "`clip_seconds` is 0.3"),
        ({"long_seconds": 1.0}, "`long_seconds` is 1.0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"recordings": (Path("no/such.wav"),)}, "`recordings` has no/such.wav"),
    ],
)
def test_setting_that_is_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **changes)


def test_data_set_that_does_not_suit_the_pipeline_is_refused(pipe, tmp_path):
    narrow = write_test_split(tmp_path / "narrow", without_features, DatasetInfo(64, "x", 8))
    with pytest.raises(ValueError, match="features of width 8, the pipeline expects 32"):
        Evaluation(pipe, narrow, SHORT, None)
    small = write_test_split(
        tmp_path / "small", lambda name: tiny_clip(name, size=32), DatasetInfo(32, "x", AUDIO_DIM)
    )
    with pytest.raises(ValueError, match="frames of 32 px, the pipeline makes 64 px"):
        Evaluation(pipe, small, SHORT, None)


def test_data_set_without_usable_test_clips_is_refused(pipe, tmp_path):
    short = write_test_split(
        tmp_path / "short", lambda name: tiny_clip(name, num_frames=5), DatasetInfo(64, "x", AUDIO_DIM)
    )
    with pytest.raises(ValueError, match="no clip of 13 frames or more"):
        Evaluation(pipe, short, SHORT, None)
    untested = write_tiny_data_set(tmp_path / "untested", num_clips=2, num_test_clips=0)
    with pytest.raises(ValueError, match="no clips of the split 'test'"):
        Evaluation(pipe, untested, SHORT, None)


def test_nothing_is_read_without_a_reader(pipe, data_set):
    evaluation = Evaluation(pipe, data_set, SHORT, None)
    for read in (evaluation.needed_reader, lambda: evaluation.readings(0, 0), lambda: evaluation.truth_readings(0)):
        with pytest.raises(LeftOut, match="mediapipe"):
            read()


@pytest.mark.parametrize("steps", [0, 1000])
def test_steps_outside_of_the_schedule_are_refused_at_once(pipe, data_set, steps):
    with pytest.raises(ValueError, match=f"`num_inference_steps` is {steps}"):
        Evaluation(pipe, data_set, replace(SHORT, num_inference_steps=steps), None)


def test_a_preset_and_steps_are_refused_together(pipe, data_set):
    with pytest.raises(ValueError, match="either `preset`"):
        Evaluation(pipe, data_set, replace(SHORT, preset="fast", num_inference_steps=5), None)
