"""The pipeline on a tiny network with random weights: its contract, not its beauty."""

from dataclasses import fields, replace

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)

from diffusers_dawn import A2VFlowDiffusionModel, DAWNPipeline, DAWNPipelineOutput, FaceState, Portrait, PoseBlinkNet
from diffusers_dawn.clip_inputs import initial_states
from diffusers_dawn.random_checkpoint import random_pipeline
from diffusers_dawn.scheduler_choice import SCHEDULERS, make_scheduler
from real_inputs import REAL, needs_real

RATE_HZ = 16_000
# frames of one clip computed alone, in a batch, or from moved weights: sums are taken in another order
BATCH_TOLERANCE = {"atol": 1e-3, "rtol": 0}


@pytest.fixture(scope="module")
def pipe() -> DAWNPipeline:
    pipe = random_pipeline("tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(autouse=True)
def fresh_scheduler(pipe):
    pipe.scheduler = make_scheduler("dawn", pipe.scheduler.config)


def picture(seed: int = 0, size: tuple[int, int] = (80, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def speech(num_frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, num_frames * RATE_HZ // 25).astype(np.float32)


def face(size: int = 80, **changes) -> FaceState:
    state = FaceState(
        pose=np.array([3.0, -2.0, 1.0, 5e-4, 60.0, 65.0]),
        blink=np.array([0.3, 0.31]),
        box_px=(0.2 * size, 0.8 * size, 0.25 * size, 0.9 * size),
        image_size=(size, size),
    )
    return replace(state, **changes)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(pipe, image=None, audio=None, **arguments):
    defaults = {"sampling_rate": RATE_HZ, "face": face(), "num_inference_steps": 2, "output_type": "pt"}
    defaults |= {"generator": seeded()} | arguments
    if defaults.get("audio_embeds") is None:
        audio = speech() if audio is None else audio
    else:
        defaults.pop("sampling_rate")
    return pipe(picture() if image is None else image, audio, **defaults)


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


@pytest.mark.parametrize(
    ("preset", "steps", "sampler"), [(None, 10, "DDIM"), ("fast", 4, "DDIM"), ("quality", 20, "DAWNDDIM")]
)
def test_a_preset_samples_and_leaves_the_pipelines_scheduler_as_it_is(pipe, preset, steps, sampler):
    own, seen = pipe.scheduler, []

    def look(pipeline, index, timestep, tensors):
        seen.append(type(pipeline.scheduler).__name__)
        return tensors

    run(pipe, preset=preset, num_inference_steps=None, callback_on_step_end=look, output_type="latent")
    assert len(seen) == pipe.num_timesteps == steps
    assert all(name.startswith(sampler) for name in seen)
    assert pipe.scheduler is own


def test_a_step_cache_changes_the_video_a_little(pipe):
    exact, cached = (
        run(pipe, num_inference_steps=4, eta=0.0, cache_interval=interval, output_type="latent").frames
        for interval in (1, 2)
    )
    other = run(pipe, num_inference_steps=4, eta=0.0, output_type="latent", generator=seeded(1)).frames
    assert 0 < (exact - cached).abs().mean() < (exact - other).abs().mean()


def test_a_step_cache_is_refused_where_there_are_no_deep_levels(pipe):
    shallow = A2VFlowDiffusionModel.from_config(pipe.unet.config, block_out_channels=[8])
    flat = DAWNPipeline(**(pipe.components | {"unet": shallow}))
    with pytest.raises(ValueError, match="`cache_interval` is 2, must be 1: this denoiser has no deep levels"):
        run(flat, cache_interval=2)


@pytest.fixture
def cached(pipe):
    def enable(config):
        pipe.unet.enable_cache(config)
        return pipe

    yield enable
    pipe.unet.disable_cache()


def test_attention_broadcast_changes_the_video_a_little_and_forgets_the_clip(pipe, cached):
    settings = {"num_inference_steps": 4, "eta": 0.0, "output_type": "latent"}
    exact, other = (run(pipe, **settings, generator=seeded(seed)).frames for seed in (0, 1))
    cached(
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: pipe.current_timestep
        )
    )
    first, second = (run(pipe, **settings).frames for _ in range(2))
    assert torch.equal(first, second)
    assert 0 < (exact - first).abs().mean() < (exact - other).abs().mean()


def test_attention_broadcast_is_refused_with_several_calls_per_step(pipe, cached):
    cached(PyramidAttentionBroadcastConfig(2, current_timestep_callback=lambda: pipe.current_timestep))
    with pytest.raises(ValueError, match="knows one call per step, this clip takes 2"):
        run(pipe, guidance_scale=1.5)


def test_taylor_seer_keeps_windows_and_conditions_apart(pipe, cached):
    settings = {"num_inference_steps": 4, "eta": 0.0, "output_type": "latent", "guidance_scale": 1.5}
    settings |= {"window_frames": 4, "window_overlap": 2}
    exact, other = (run(pipe, **settings, generator=seeded(seed)).frames for seed in (0, 1))
    cached(TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1, taylor_factors_dtype=torch.float32))
    seen = run(pipe, **settings).frames
    assert 0 < (exact - seen).abs().mean() < (exact - other).abs().mean()


def test_the_published_sampler_is_a_preset(pipe):
    named = run(pipe, preset="quality", num_inference_steps=None)
    spelled = run(pipe, num_inference_steps=20, eta=1.0)
    assert torch.equal(named.frames, spelled.frames)


def test_after_an_error_the_pipeline_has_its_own_scheduler_again(pipe):
    own = pipe.scheduler

    def stop(*_):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        run(pipe, preset="fast", num_inference_steps=None, callback_on_step_end=stop)
    assert pipe.scheduler is own


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


def test_guidance_of_one_ignores_the_null_condition_and_more_does_not(pipe):
    videos = [run(pipe, guidance_scale=scale, output_type="latent").frames for scale in (1.0, 1.5)]
    assert not torch.allclose(*videos)


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
    latents = pipe.prepare_latents(1, 6, 16, 16, torch.device("cpu"), generator)
    pipe.scheduler.set_timesteps(2)
    motion = pipe.denoise(latents, pipe.scheduler.timesteps, contexts, {"eta": 0.0})
    frames = torch.cat(list(pipe.decode_motion(motion, [portrait])), dim=1)
    torch.testing.assert_close(frames, expected.frames, atol=1e-5, rtol=0)


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="accelerate's sequential offload needs a GPU")
def test_sequential_offload_renders_the_same():
    generator, expected = seeded(), run(random_pipeline("tiny").to("cuda"), generator=seeded()).frames
    offloaded = random_pipeline("tiny")
    offloaded.enable_sequential_cpu_offload()
    torch.testing.assert_close(run(offloaded, generator=generator).frames, expected, **BATCH_TOLERANCE)


def test_sequential_offload_keeps_on_the_device_what_its_hooks_do_not_suit(monkeypatch, pipe):
    kept = []
    monkeypatch.setattr(
        DiffusionPipeline, "enable_sequential_cpu_offload", lambda self: kept.append(self._exclude_from_cpu_offload)
    )
    pipe.enable_sequential_cpu_offload()
    assert kept == [["lfg", "pbnet"]]
    assert pipe._exclude_from_cpu_offload == []


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
@pytest.mark.parametrize("exclude", [None, "audio_encoder", ["audio_encoder"]])
def test_group_offload_renders_the_same(pipe, offload_type, exclude):
    offloaded = random_pipeline("tiny")
    offloaded.set_progress_bar_config(disable=True)
    offloaded.enable_group_offload(
        torch.device("cpu"),
        torch.device("cpu"),
        offload_type=offload_type,
        num_blocks_per_group=1,
        exclude_modules=exclude,
    )
    torch.testing.assert_close(run(offloaded).frames, run(pipe).frames, **BATCH_TOLERANCE)


def test_model_offload_renders_the_same(tmp_path, pipe):
    pipe.save_pretrained(tmp_path)
    offloaded = DAWNPipeline.from_pretrained(tmp_path)
    offloaded.set_progress_bar_config(disable=True)
    expected = run(offloaded).frames
    offloaded.enable_model_cpu_offload(device="cpu:0")
    torch.testing.assert_close(run(offloaded).frames, expected, **BATCH_TOLERANCE)


def test_another_size_than_that_of_training(pipe):
    assert run(pipe, height=96, width=96).frames.shape[-2:] == (96, 96)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_listed_scheduler_renders(pipe, name):
    pipe.scheduler = make_scheduler(name, pipe.scheduler.config)
    frames = run(pipe, num_inference_steps=5).frames
    assert torch.isfinite(frames).all()
    assert torch.equal(frames, run(pipe, num_inference_steps=5).frames)


def test_own_timesteps(pipe):
    pipe.scheduler.set_timesteps(2)
    assert torch.equal(run(pipe, timesteps=pipe.scheduler.timesteps.tolist()).frames, run(pipe).frames)


def test_own_timesteps_of_ddpm(pipe):
    pipe.scheduler = make_scheduler("ddpm", pipe.scheduler.config)
    assert torch.isfinite(run(pipe, timesteps=[900, 500, 100]).frames).all()


def test_steps_that_do_not_suit_the_scheduler_are_named(pipe):
    pipe.scheduler = make_scheduler("pndm", pipe.scheduler.config)
    with pytest.raises(ValueError, match="`num_inference_steps` 2 does not suit PNDMScheduler"):
        run(pipe)


def test_own_sigmas(pipe):
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    # the last noise level is where Euler ends, not a step
    assert torch.isfinite(run(pipe, sigmas=[10.0, 1.0, 0.1, 0.0]).frames).all()
    assert pipe.num_timesteps == 3


def test_callback_sees_each_step_and_may_change_the_latents(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, int(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    motion = run(pipe, callback_on_step_end=callback, output_type="latent").frames
    assert [step for step, _ in seen] == [0, 1]
    assert [time for _, time in seen] == pipe.scheduler.timesteps.tolist()
    assert not motion.any()


def test_callback_may_interrupt(pipe):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = True
        return tensors

    run(pipe, num_inference_steps=5, callback_on_step_end=callback)
    assert steps == [0]


def test_saved_pipeline_loads_and_renders_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    # transformers may choose another attention kernel for a loaded audio encoder
    torch.testing.assert_close(run(loaded).frames, run(pipe).frames, atol=1e-3, rtol=0)


@pytest.mark.parametrize("device_map", ["cpu", "balanced"])
def test_pipeline_loads_onto_devices_by_a_map(pipe, tmp_path, device_map):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path, device_map=device_map)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(run(loaded).frames, run(pipe).frames, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_pipeline_loads_onto_the_gpu_by_a_map(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path, device_map="cuda")
    assert {part.device.type for part in (loaded.unet, loaded.lfg, loaded.pbnet, loaded.audio_encoder)} == {"cuda"}
    assert run(loaded).frames.isfinite().all()


def test_incomplete_checkpoint_is_an_error(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises((OSError, ValueError), match="diffusion_pytorch_model"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_checkpoint_with_missing_tensors_is_an_error_that_names_them(pipe, tmp_path):
    from safetensors.torch import load_file, save_file

    pipe.save_pretrained(tmp_path)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_in.bias"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="conv_in.bias"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_missing_tensors_of_the_audio_encoder_are_an_error(pipe, tmp_path):
    from safetensors.torch import load_file, save_file

    pipe.save_pretrained(tmp_path)
    path = tmp_path / "audio_encoder" / "model.safetensors"
    tensors = {key: tensor for key, tensor in load_file(path).items() if "layers.0" not in key}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights of `audio_encoder` lack \d+ tensors: .*layers.0"):
        DAWNPipeline.from_pretrained(tmp_path)


def test_pipeline_loads_by_id_from_the_hubs_cache(pipe, tmp_path):
    repository = tmp_path / "models--someone--dawn"
    pipe.save_pretrained(repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    loaded = DAWNPipeline.from_pretrained("someone/dawn", cache_dir=tmp_path, local_files_only=True)
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_half_precision_renders_nearly_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    half = DAWNPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 3, 6, 16, 16, generator=seeded())
    expected, found = (run(part, latents=noise, eta=0.0).frames for part in (pipe, half))
    # bfloat16 has 8 bits: a few hundredths on average, more at the edges of what moves
    assert (found - expected).abs().mean() < 0.05


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
        run(pipe, REAL / "portrait_1.jpeg", face=None, face_index=3)


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
        ({"height": 100, "width": 100}, "`height` and `width` are 100 and 100"),
        ({"height": 64, "width": 128}, "must be equal"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
        ({"eta": 2.0}, "`eta` is 2.0"),
        ({"output_type": "gif"}, "`output_type` is 'gif'"),
        ({"num_frames": 0}, "`num_frames` is 0"),
        ({"num_frames": 99}, "`num_frames` is 99"),
        ({"pose": np.zeros((6, 5)), "blink": np.zeros((6, 2))}, "`pose` is"),
        ({"pose": np.zeros((5, 6)), "blink": np.zeros((5, 2))}, "`pose` has 5 frames, the clip has 6"),
        ({"latents": torch.zeros(1, 3, 5, 16, 16)}, "`latents` is"),
        ({"generator": [seeded(), seeded()]}, "`generator` has 2 entries"),
        ({"callback_on_step_end_tensor_inputs": ["audio"]}, "`callback_on_step_end_tensor_inputs`"),
        ({"decode_chunk_size": 0}, "`decode_chunk_size` is 0"),
        ({"window_frames": 0}, "`window_frames` is 0"),
        ({"window_frames": 30, "window_overlap": 30}, "`window_overlap` is 30, must be less than a window's 30"),
        ({"memory_budget": -1}, "`memory_budget` is -1"),
        ({"memory_budget": 1000}, "`num_frames` is 6, which needs .* GiB"),
        ({"audio_embeds": torch.zeros(6, 7)}, "`audio_embeds` is"),
        ({"timesteps": [900, 100], "sigmas": [1.0]}, "only one of `timesteps` and `sigmas`"),
        ({"sampling_rate": None}, "`sampling_rate` is missing"),
        ({"height": 0, "width": 0}, "`height` and `width` are 0"),
        ({"face": face(100)}, "`face.image_size` is"),
        ({"face": face(pose=np.full(6, np.nan))}, "`face.pose` is"),
        ({"face": face(blink=np.zeros(3))}, "`face.blink` is"),
        ({"face_index": 0}, "only one of `face` and `face_index`"),
    ],
)
def test_bad_argument_is_named(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)


def test_picture_that_is_not_square_needs_a_crop(pipe):
    with pytest.raises(ValueError, match="`image` is 90x80, must be square"):
        run(pipe, picture(size=(80, 90)), face=face(image_size=(80, 90)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_an_error(pipe, value):
    sound = speech()
    sound[100] = value
    with pytest.raises(ValueError, match="`audio`"):
        run(pipe, audio=sound)


def test_unsuitable_scheduler_is_refused_by_name(pipe):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler cannot sample DAWN"):
        run(pipe)


def test_audio_encoder_of_another_width_is_refused(pipe):
    from transformers import HubertConfig, HubertModel

    other = HubertModel(HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, conv_dim=(8,) * 7))
    with pytest.raises(ValueError, match="width 16, `unet` expects 32"):
        DAWNPipeline(**pipe.components | {"audio_encoder": other})
