"""The pipeline on a tiny network with random weights: its contract, not its beauty."""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import EulerDiscreteScheduler, TaylorSeerCacheConfig

from diffusers_dawn import DAWNPipeline, DAWNPipelineOutput, Portrait, PoseBlinkNet
from diffusers_dawn.pipeline.clip_tensors import initial_states
from diffusers_dawn.pipeline.request import MOVED
from pipeline_calls import BATCH_TOLERANCE, RATE_HZ, face, machine_settings, picture, run, seeded, speech
from real_inputs import REAL, needs_real


def test_whole_recording_becomes_frames_pose_blink_and_sound_of_one_length(pipe):
    out = run(pipe, audio=speech(13))
    assert out.frames.shape == (1, 13, 3, 64, 64)
    assert out.pose[0].shape == (13, 6)
    assert out.blink[0].shape == (13, 2)
    assert out.sampling_rate == [RATE_HZ]
    assert len(out.audio[0]) == 13 * RATE_HZ // 25
    assert out.fps == 25
    assert out.waveform().duration_s == 13 / 25
    assert 0 <= out.frames.min() <= out.frames.max() <= 1


def test_same_seed_same_video_and_another_seed_another(pipe):
    first, again, other = (run(pipe, generator=seeded(seed)).frames for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_batch_with_generators_gives_what_single_calls_give(pipe):
    images, sounds = [picture(1), picture(2)], [speech(seed=1), speech(seed=2)]
    together = run(pipe, images, sounds, generator=[seeded(1), seeded(2)])
    for index in range(2):
        alone = run(pipe, images[index], sounds[index], generator=seeded(index + 1))
        torch.testing.assert_close(together.frames[index], alone.frames[0], **BATCH_TOLERANCE)
        torch.testing.assert_close(together.pose[index], alone.pose[0], **BATCH_TOLERANCE)


def test_batch_of_clips_of_different_length_gives_what_single_calls_give(pipe):
    sounds = [speech(4, seed=1), speech(7, seed=2)]
    together = run(pipe, [picture(1), picture(2)], sounds, generator=[seeded(1), seeded(2)])
    assert [frames.shape[0] for frames in together.frames] == [4, 7]
    alone = run(pipe, picture(2), sounds[1], generator=seeded(2))
    assert torch.equal(together.frames[1], alone.frames[0])


def test_one_portrait_serves_several_recordings(pipe):
    out = run(pipe, picture(), [speech(seed=1), speech(seed=2)])
    assert out.frames.shape[0] == 2
    assert not torch.allclose(out.frames[0], out.frames[1])


def test_several_videos_per_prompt_differ(pipe):
    out = run(pipe, num_videos_per_prompt=2)
    assert out.frames.shape[0] == len(out.pose) == len(out.portraits) == 2
    assert not torch.allclose(out.frames[0], out.frames[1])


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_fewer_frames_than_the_recording_lasts_can_be_asked_for(pipe, num_frames):
    assert run(pipe, num_frames=num_frames).frames.shape[1] == num_frames


def test_given_tracks_replace_pbnet_and_come_back(pipe):
    pose, blink = np.full((6, 6), 2.0, np.float32), np.full((6, 2), 0.2, np.float32)
    out = run(pipe, pose=pose, blink=blink)
    np.testing.assert_array_equal(out.pose[0], pose)
    np.testing.assert_array_equal(out.blink[0], blink)


def test_own_tracks_of_a_call_reproduce_it(pipe):
    noise = torch.randn(1, 3, 6, 16, 16, generator=seeded())
    first = run(pipe, latents=noise, eta=0.0)
    again = run(pipe, latents=noise, eta=0.0, pose=first.pose, blink=first.blink)
    torch.testing.assert_close(first.frames, again.frames, atol=1e-5, rtol=0)


@pytest.mark.parametrize("own_tracks", [False, True])
def test_head_motion_is_scaled_around_the_portraits_pose(pipe, own_tracks):
    tracks = {}
    if own_tracks:
        out = run(pipe)
        tracks = {"pose": out.pose[0] + np.linspace(0, 3, 6)[:, None] * np.array([1, 1, 1, 0, 0, 0])}
        tracks["blink"] = out.blink[0]
    usual, still, twice = (run(pipe, motion=f"head motion {factor}", **tracks) for factor in (1, 0, 2))
    initial = face().pose
    np.testing.assert_allclose(still.pose[0], np.tile(initial, (6, 1)), rtol=1e-6)
    np.testing.assert_allclose(twice.pose[0] - initial, 2 * (usual.pose[0] - initial), atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(still.blink[0], usual.blink[0])
    assert not torch.equal(still.frames, usual.frames)


def test_threads_that_share_a_pipeline_get_what_each_would_get_alone(pipe):
    scheduler = pipe.scheduler
    assert_threads_get_what_each_would_get_alone(pipe)
    assert pipe.scheduler is scheduler


def test_threads_wait_for_each_other_where_networks_keep_something_of_a_call(pipe):
    pipe.unet.enable_cache(TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1))
    try:
        assert_threads_get_what_each_would_get_alone(pipe)
    finally:
        pipe.unet.disable_cache()


def assert_threads_get_what_each_would_get_alone(pipe):
    def stop_guidance(call, step, timestep, tensors):
        call._guidance_scale = 1.0
        return tensors

    def interrupt(call, step, timestep, tensors):
        call._interrupt = step == 1
        return tensors

    settings = [
        {"preset": "fast", "guidance_scale": 1.5, "callback_on_step_end": stop_guidance},
        {"preset": "balanced", "guidance_scale": 2.0},
        {"preset": "quality", "callback_on_step_end": interrupt},
        {"preset": "fast"},
    ]
    settings = [{"num_inference_steps": None, **given, "generator": seed} for seed, given in enumerate(settings)]

    def render(given):
        return run(pipe, **given | {"generator": seeded(given["generator"])}).frames

    alone = [render(given) for given in settings]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(render, settings))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, **BATCH_TOLERANCE)


def test_pose_changes_the_video(pipe):
    blink = np.full((6, 2), 0.3, np.float32)
    still = np.tile(face().pose, (6, 1))
    turned = still + np.array([30, 0, 0, 0, 0, 0])
    videos = [run(pipe, pose=pose, blink=blink).frames for pose in (still, turned)]
    assert not torch.allclose(*videos)


def test_pbnet_may_be_absent_when_tracks_are_given(pipe):
    parts = pipe.components | {"pbnet": None}
    without = DAWNPipeline(**parts)
    without.set_progress_bar_config(disable=True)
    pose, blink = np.zeros((6, 6)), np.zeros((6, 2))
    assert run(without, pose=pose, blink=blink).frames.shape[1] == 6
    with pytest.raises(ValueError, match="`pose` and `blink` must be given"):
        run(without)


def test_features_may_be_given_instead_of_audio(pipe):
    embeds = pipe.encode_audio(run(pipe).waveform())
    out = run(pipe, audio_embeds=embeds)
    torch.testing.assert_close(out.frames, run(pipe).frames, atol=1e-5, rtol=0)
    assert out.audio is None


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_output_types(pipe, output_type):
    frames = run(pipe, output_type=output_type).frames
    if output_type == "pil":
        assert isinstance(frames[0][0], PIL.Image.Image)
        assert (len(frames), len(frames[0]), frames[0][0].size) == (1, 6, (64, 64))
    else:
        assert (
            frames.shape
            == {"np": (1, 6, 64, 64, 3), "pt": (1, 6, 3, 64, 64), "latent": (1, 3, 6, 16, 16)}[output_type]
        )


def test_latents_decode_to_the_frames(pipe):
    motion = run(pipe, output_type="latent")
    pieces = list(pipe.decode_motion(motion.frames, motion.portraits, chunk_size=4))
    assert [piece.shape[1] for piece in pieces] == [4, 2]
    torch.testing.assert_close(torch.cat(pieces, dim=1), run(pipe).frames, atol=1e-5, rtol=0)


def test_tuple_has_the_fields_of_the_record(pipe):
    as_tuple, record = run(pipe, return_dict=False), run(pipe)
    assert torch.equal(as_tuple[0], record.frames)
    assert len(as_tuple) == len(record)


def test_tuple_keeps_its_fields_without_audio(pipe):
    embeds = torch.randn(4, 32, generator=seeded())
    as_tuple = run(pipe, audio_embeds=embeds, return_dict=False)
    assert len(as_tuple) == len(fields(DAWNPipelineOutput))
    assert as_tuple[3] is None


def test_public_stages_in_order_give_what_a_call_gives(pipe):
    expected = run(pipe, eta=0.0)
    portrait = pipe.prepare_portrait(picture(), face())
    features = pipe.encode_audio(speech(), RATE_HZ)[None]
    generator = seeded()
    pose, blink = pipe.predict_motion(features, *initial_states([portrait], "cpu"), generator=generator)
    contexts = pipe.prepare_conditions([portrait], features, pose, blink)
    latents = pipe.prepare_latents(1, 6, 64, 64, torch.device("cpu"), generator)
    pipe.scheduler.set_timesteps(2)
    motion = pipe.denoise(latents, pipe.scheduler.timesteps, contexts, {"eta": 0.0})
    frames = torch.cat(list(pipe.decode_motion(motion, [portrait])), dim=1)
    torch.testing.assert_close(frames, expected.frames, atol=1e-5, rtol=0)


def test_stages_take_a_scheduler_of_ones_own_in_the_place_of_the_pipelines(pipe):
    own = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    own.set_timesteps(2)
    before = dict(vars(pipe.scheduler))
    portrait, features = pipe.prepare_portrait(picture(), face()), pipe.encode_audio(speech(), RATE_HZ)[None]
    pose, blink = pipe.predict_motion(features, *initial_states([portrait], "cpu"), generator=seeded())
    contexts = pipe.prepare_conditions([portrait], features, pose, blink)
    unscaled, latents = (
        pipe.prepare_latents(1, 6, 64, 64, torch.device("cpu"), seeded(1), scheduler=sampler)
        for sampler in (None, own)
    )
    assert torch.equal(latents, unscaled * own.init_noise_sigma) and own.init_noise_sigma > 1
    motion = pipe.denoise(latents, own.timesteps, contexts, {}, scheduler=own)
    assert vars(pipe.scheduler) == before and pipe.num_timesteps == 2
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler.set_timesteps(2)
    assert torch.equal(pipe.denoise(latents, pipe.scheduler.timesteps, contexts, {}), motion)


def test_recording_of_several_clips_is_encoded_once(pipe):
    calls = []
    handle = pipe.audio_encoder.register_forward_hook(lambda *_: calls.append(1))
    run(pipe, [picture(1), picture(2)], num_videos_per_prompt=2)
    handle.remove()
    assert len(calls) == 1


def test_picture_with_known_face_can_be_cropped(pipe):
    known = face(image_size=(200, 300), box_px=(100.0, 150.0, 60.0, 120.0))
    portrait = pipe.prepare_portrait(picture(size=(200, 300)), known, crop=True)
    assert portrait.image.shape == (portrait.crop.side, portrait.crop.side, 3)
    assert portrait.face.image_size == portrait.image.shape[:2]


def test_portrait_has_its_own_face(pipe):
    portrait = pipe.prepare_portrait(picture(), face())
    with pytest.raises(ValueError, match="cannot be given with a `Portrait`"):
        run(pipe, portrait)


def test_given_blink_completes_a_pose_network(pipe):
    sizes = {name: value for name, value in pipe.pbnet.config.items() if not name.startswith("_")}
    pose_only = DAWNPipeline(**pipe.components | {"pbnet": PoseBlinkNet(**sizes | {"networks": "pose"}).eval()})
    pose_only.set_progress_bar_config(disable=True)
    blink = np.full((6, 2), 0.3, np.float32)
    np.testing.assert_array_equal(run(pose_only, blink=blink).blink[0], blink)
    with pytest.raises(ValueError, match="`blink` must be given"):
        run(pose_only)


def test_another_size_than_that_of_training(pipe):
    assert run(pipe, height=96, width=96).frames.shape[-2:] == (96, 96)


@needs_real
def test_face_is_found_cropped_and_reported(pipe, detector):
    pipe.face_detector = detector
    out = pipe(str(REAL / "full_body.png"), speech(), sampling_rate=RATE_HZ, num_inference_steps=1, output_type="pt")
    portrait = out.portraits[0]
    assert portrait.face.num_faces == 1
    assert portrait.crop is not None
    assert portrait.image.shape == (portrait.crop.side, portrait.crop.side, 3)
    assert abs(portrait.face.pose[1]) < 30


@needs_real
def test_prepared_portrait_gives_what_its_picture_gives(pipe, detector):
    pipe.face_detector = detector
    path = REAL / "portrait_1.jpeg"
    portrait = pipe.prepare_portrait(path)
    assert isinstance(portrait, Portrait)
    assert torch.equal(run(pipe, portrait, face=None).frames, run(pipe, path, face=None).frames)


@needs_real
def test_face_index_out_of_range_says_how_many_there_are(pipe, detector):
    pipe.face_detector = detector
    with pytest.raises(ValueError, match=r"`face_index` is 3.*1 face"):
        pipe.prepare_portrait(REAL / "portrait_1.jpeg", face_index=3)


def test_picture_without_face_is_an_error(pipe, detector):
    pipe.face_detector = detector
    with pytest.raises(ValueError, match="no face found in `image`"):
        run(pipe, np.full((128, 128, 3), 90, np.uint8), face=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
        ({"num_inference_steps": -3}, "`num_inference_steps` is -3"),
        ({"num_inference_steps": 5000}, "`num_inference_steps` is 5000"),
        ({"height": 100, "width": 100}, "`height` is 100, must be a positive multiple of"),
        ({"height": 64, "width": 128}, "must be equal"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
        ({"eta": 2.0}, "`eta` is 2.0"),
        ({"motion": "head motion 2.1"}, "'head motion 2.1' has 2.1, must have a number from 0 to 2"),
        ({"output_type": "gif"}, "`output_type` is 'gif'"),
        ({"num_frames": 0}, "`num_frames` is 0"),
        ({"num_frames": 99}, "`num_frames` is 99"),
        ({"pose": np.zeros((6, 5)), "blink": np.zeros((6, 2))}, "`pose` is"),
        ({"pose": np.zeros((5, 6)), "blink": np.zeros((5, 2))}, "`pose` has 5 frames, the clip has 6"),
        ({"latents": torch.zeros(1, 3, 5, 16, 16)}, "`latents` is"),
        ({"generator": [seeded(), seeded()]}, "`generator` has 2 entries"),
        ({"generator": 7}, "`generator` is 7, must be a torch.Generator"),
        ({"num_frames": 5.0}, "`num_frames` is 5.0, must be a whole number"),
        ({"callback_on_step_end_tensor_inputs": ["audio"]}, "`callback_on_step_end_tensor_inputs`"),
        ({"callback_on_step_end_tensor_inputs": 5}, "`callback_on_step_end_tensor_inputs` is 5, must be of"),
        ({"callback_on_step_end": 5}, "`callback_on_step_end` is 5, must be a function, or None"),
        ({"callback_on_step_end": lambda *_: 5}, "`callback_on_step_end` returned 5, must return tensors by name"),
        ({"timesteps": []}, r"`timesteps` is \[\], must be a list of finite numbers"),
        ({"timesteps": "abc"}, "`timesteps` is 'abc', must be a list of finite numbers"),
        ({"sigmas": [float("nan")]}, r"`sigmas` is \[nan\], must be a list of finite numbers"),
        ({"memory_budget": 1000}, "`num_frames` is 6, which needs .* GiB"),
        ({"audio_embeds": torch.zeros(6, 7)}, "`audio_embeds` is"),
        ({"timesteps": [900, 100], "sigmas": [1.0]}, "only one of `timesteps` and `sigmas`"),
        ({"sampling_rate": None}, "`sampling_rate` is missing"),
        ({"height": 0, "width": 0}, "`height` is 0"),
        ({"face": face(100)}, "`face.image_size` is"),
        ({"face": face(pose=np.full(6, np.nan))}, "`face.pose` is"),
        ({"face": face(blink=np.zeros(3))}, "`face.blink` is"),
    ],
)
def test_bad_argument_is_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)


@pytest.mark.parametrize(("name", "place"), MOVED.items())
def test_what_is_no_argument_of_a_call_is_refused_with_its_place(pipe, name, place):
    of_pipe = re.match(r"pipe\.(\w+)\(", place)
    of_call = re.match(r"(\w+)=", place)
    assert hasattr(pipe, of_pipe[1]) if of_pipe else of_call[1] in inspect.signature(pipe.__call__).parameters
    with pytest.raises(TypeError, match=f"`{name}` is no argument of a call; use `{re.escape(place)}`$"):
        pipe(picture(), speech(), **{name: 1})
    with pytest.raises(TypeError, match=f"`{name}` is no argument of a call; use"):
        pipe.plan(10, **{name: 1})
    with pytest.raises(TypeError, match="`colour` is no argument of a call$"):
        pipe(picture(), speech(), colour=1)


def test_a_call_has_at_most_24_parameters():
    names = inspect.signature(DAWNPipeline.__call__).parameters.keys() - {"self", "moved"}
    assert len(names) <= 24


def test_only_one_of_face_and_its_number_is_taken(pipe):
    with pytest.raises(ValueError, match="only one of `face` and `face_index`"):
        pipe.prepare_portrait(picture(), face(), face_index=0)


def test_a_plan_is_what_a_call_does(pipe):
    with machine_settings(pipe, window_frames=4, window_overlap=2):
        plan = pipe.plan(10, preset="fast", guidance_scale=1.5, batch_size=2)
        assert [(window.start, window.stop) for window in plan.windows.slices] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert (plan.request.num_inference_steps, len(plan.request.scheduler.timesteps)) == (4, 4)
    arguments = {"guidance_scale": 1.5, "batch_size": 2, "preset": "fast"}
    assert plan.num_bytes == pipe.estimate_memory(10, window_frames=4, **arguments)
    with machine_settings(pipe, memory_budget=plan.num_bytes - 1, window_frames=4, window_overlap=2):
        with pytest.raises(ValueError, match="`num_frames` is 10, which needs"):
            pipe.plan(10, **arguments)
        with pytest.raises(ValueError, match="`num_frames` is 10, which needs"):
            run(pipe, [picture()] * 2, speech(10), preset="fast", num_inference_steps=None, guidance_scale=1.5)


def test_picture_that_is_not_square_needs_a_crop(pipe):
    with pytest.raises(ValueError, match="`image` is 90x80, must be square"):
        run(pipe, picture(size=(80, 90)), face=face(image_size=(80, 90)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_an_error(pipe, value):
    sound = speech()
    sound[100] = value
    with pytest.raises(ValueError, match="`audio`"):
        run(pipe, audio=sound)
