"""Samplers, presets, caches and callbacks of the pipeline, on a tiny network with random weights."""

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    UnCLIPScheduler,
    UniPCMultistepScheduler,
)

from diffusers_dawn import A2VFlowDiffusionModel, DAWNPipeline
from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS, make_scheduler
from pipeline_calls import BATCH_TOLERANCE, picture, run, seeded, speech


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
    with pytest.raises(ValueError, match="`interval` is 2, must be 1: this denoiser has no deep levels"):
        flat.enable_step_cache(2)
    flat.enable_step_cache(1)


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


def test_a_call_leaves_no_trace_in_the_pipelines_scheduler(pipe):
    before = dict(vars(pipe.scheduler))
    run(pipe, num_inference_steps=3)
    assert vars(pipe.scheduler) == before


def test_guidance_of_one_ignores_the_null_condition_and_more_does_not(pipe):
    videos = [run(pipe, guidance_scale=scale, output_type="latent").frames for scale in (1.0, 1.5)]
    assert not torch.allclose(*videos)


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
    pipe.scheduler = make_scheduler("DDPMScheduler", pipe.scheduler.config)
    frames = run(pipe, timesteps=[900, 500, 100]).frames
    assert torch.isfinite(frames).all()
    for times in (np.array([900, 500, 100]), torch.tensor([900, 500, 100]), (900, 500, 100)):
        assert torch.equal(run(pipe, timesteps=times).frames, frames)


def test_steps_that_do_not_suit_the_scheduler_are_named(pipe):
    pipe.scheduler = make_scheduler("PNDMScheduler", pipe.scheduler.config)
    with pytest.raises(ValueError, match="`num_inference_steps` 2 does not suit PNDMScheduler"):
        run(pipe)


def test_own_sigmas(pipe):
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    # the last noise level is where Euler ends, not a step
    assert torch.isfinite(run(pipe, sigmas=[10.0, 1.0, 0.1, 0.0]).frames).all()
    assert pipe.num_timesteps == 3


def test_callback_sees_each_step_and_may_change_the_latents(pipe):
    seen, times = [], []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, int(timestep)))
        times.append(pipe.scheduler.timesteps.tolist())
        return {"latents": torch.zeros_like(tensors["latents"])}

    motion = run(pipe, callback_on_step_end=callback, output_type="latent").frames
    assert [step for step, _ in seen] == [0, 1]
    assert [[time for _, time in seen]] * 2 == times
    assert not motion.any()


def test_latents_that_a_callback_returns_keep_their_type(pipe):
    def callback(pipe, step, timestep, tensors):
        return {"latents": tensors["latents"].double()}

    assert run(pipe, callback_on_step_end=callback, output_type="latent").frames.dtype == torch.float32


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"latent": torch.zeros(1)}, "`callback_on_step_end` returned 'latent', may return 'latents' alone"),
        (
            {"latents": torch.zeros(1, 3, 6, 16, 16).long()},
            r"returned `latents` that are torch.int64 \(1, 3, 6, 16, 16",
        ),
        (
            {"latents": torch.zeros(2)},
            r"returned `latents` that are torch.float32 \(2,\), must be a tensor of floats \(1,",
        ),
        ({"latents": None}, "returned `latents` that are a NoneType, must be a tensor of floats"),
    ],
)
def test_callback_that_returns_something_else_is_told_so(pipe, returned, message):
    with pytest.raises(ValueError, match=message):
        run(pipe, callback_on_step_end=lambda *_: returned)


def test_a_call_that_a_callback_ends_by_an_error_leaves_nothing_behind(pipe, monkeypatch):
    freed = []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))

    def callback(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run(pipe, callback_on_step_end=callback)
    assert pipe.current_timestep is None and freed == [True]


def test_callback_may_interrupt(pipe):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = True
        return tensors

    run(pipe, num_inference_steps=5, callback_on_step_end=callback)
    assert steps == [0]


def test_an_interrupt_of_the_pipeline_itself_ends_calls_under_way(pipe):
    steps = []

    def callback(_, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = step == 1
        return tensors

    run(pipe, num_inference_steps=5, callback_on_step_end=callback)
    assert steps == [0, 1]
    run(pipe, num_inference_steps=2, callback_on_step_end=lambda _, step, *rest: steps.append(step))
    assert steps == [0, 1, 0, 1]


def test_an_interrupt_holds_for_all_clips_of_the_call(pipe):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = True
        return tensors

    recordings = [speech(4), speech(6)]
    run(pipe, [picture()] * 2, recordings, num_inference_steps=3, callback_on_step_end=callback)
    assert steps == [0]
    run(pipe, num_inference_steps=3, callback_on_step_end=lambda pipe, step, timestep, tensors: tensors)
    assert not pipe.interrupt


def test_guidance_of_speech_pose_and_blinks_apart_changes_each_its_own_way(pipe):
    scales = ({"speech": 2}, {"pose": 2}, {"blink": 2}, 2.0, {"speech": 2, "pose": 2, "blink": 2}, {})
    videos = [run(pipe, guidance_scale=scale, output_type="latent").frames for scale in scales]
    assert torch.equal(videos[3], videos[4])
    assert torch.equal(videos[5], run(pipe, output_type="latent").frames)
    assert not any(torch.allclose(videos[i], videos[j]) for i in range(4) for j in range(i))


def test_a_pipeline_keeps_a_guidance_of_its_own(pipe, tmp_path):
    guided = DAWNPipeline(**pipe.components, speech_guidance=2)
    guided.set_progress_bar_config(disable=True)
    video = run(guided, output_type="latent").frames
    assert torch.equal(video, run(pipe, guidance_scale={"speech": 2}, output_type="latent").frames)
    assert torch.equal(
        run(guided, guidance_scale=1.0, output_type="latent").frames, run(pipe, output_type="latent").frames
    )
    assert guided.estimate_memory(20) > guided.estimate_memory(20, guidance_scale=1.0) == pipe.estimate_memory(20)
    guided.save_pretrained(tmp_path)
    assert DAWNPipeline.from_pretrained(tmp_path).config.speech_guidance == 2
    assert DAWNPipeline.from_pipe(guided).config.speech_guidance == 2
    with pytest.raises(ValueError, match="`speech_guidance` is -1, must be a number"):
        DAWNPipeline(**pipe.components, speech_guidance=-1)


def test_guidance_that_a_callback_changes_starts_anew_with_the_next_clip(pipe):
    def callback(pipe, step, timestep, tensors):
        pipe._guidance_scale = 1.0
        return tensors

    settings = {"num_inference_steps": 3, "guidance_scale": 3.0, "callback_on_step_end": callback}
    settings["output_type"] = "latent"
    generators = [seeded(1), seeded(2)]
    together = run(pipe, [picture()] * 2, [speech(4), speech(6)], generator=generators, **settings).frames
    alone = run(pipe, picture(), speech(6), generator=seeded(2), **settings).frames
    torch.testing.assert_close(together[1], alone[0], **BATCH_TOLERANCE)


def test_a_scheduler_for_flow_matching_takes_the_place_of_the_published_one(pipe, tmp_path):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    assert pipe.scheduler.config.prediction_type == "epsilon"
    settings = {"num_inference_steps": 4, "output_type": "latent"}
    found = run(pipe, **settings).frames
    named = DAWNPipeline.from_pipe(pipe, scheduler=FlowMatchEulerDiscreteScheduler())
    assert torch.equal(run(named, **settings).frames, found)
    pipe.save_pretrained(tmp_path)
    loaded = run(DAWNPipeline.from_pretrained(tmp_path), **settings).frames
    torch.testing.assert_close(loaded, found, **BATCH_TOLERANCE)


def test_a_scheduler_for_flow_matching_may_be_given_while_loading(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DAWNPipeline.from_pretrained(tmp_path, scheduler=FlowMatchEulerDiscreteScheduler())
    assert loaded.scheduler.config.prediction_type == "epsilon"
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    settings = {"num_inference_steps": 4, "output_type": "latent"}
    torch.testing.assert_close(run(loaded, **settings).frames, run(pipe, **settings).frames, **BATCH_TOLERANCE)


def test_sigmas_of_flow_matching_are_taken(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append([round(sigma, 3) for sigma in pipe.scheduler.sigmas.tolist()])
        return tensors

    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    given = {"num_inference_steps": None, "sigmas": [1.0, 0.7, 0.3], "output_type": "latent"}
    run(pipe, **given, callback_on_step_end=callback)
    assert pipe.num_timesteps == 3
    assert seen == [[1.0, 0.7, 0.3, 0.0]] * 3


@pytest.fixture
def flow_pipe(pipe):
    return DAWNPipeline(**(pipe.components | {"scheduler": FlowMatchEulerDiscreteScheduler()}))


@pytest.mark.parametrize(("preset", "steps"), [("fast", 4), ("balanced", 10), ("quality", 20)])
def test_a_denoiser_of_flow_has_presets(flow_pipe, preset, steps):
    seen = []

    def look(pipeline, index, timestep, tensors):
        seen.append((type(pipeline.scheduler).__name__, pipeline.scheduler.config.prediction_type))
        return tensors

    run(flow_pipe, preset=preset, num_inference_steps=None, callback_on_step_end=look, output_type="latent")
    assert seen == [("UniPCMultistepScheduler", "flow_prediction")] * steps


def test_a_denoiser_of_flow_is_told_the_share_of_noise(flow_pipe, monkeypatch):
    times, forward = [], flow_pipe.unet.forward

    def look(*args, **kwargs):
        times.append(float(args[1]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(flow_pipe.unet, "forward", look)
    run(flow_pipe, num_inference_steps=None, sigmas=[1.0, 0.75, 0.25], output_type="latent")
    assert times == pytest.approx([1000, 750, 250])


def test_a_denoiser_of_flow_keeps_its_training_when_its_scheduler_is_replaced(flow_pipe):
    flow_pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    for solver in (UniPCMultistepScheduler, DPMSolverMultistepScheduler):
        flow_pipe.scheduler = solver.from_config(flow_pipe.scheduler.config)
        assert flow_pipe.scheduler.config.prediction_type == "flow_prediction"
        run(flow_pipe, output_type="latent")
    flow_pipe.scheduler = EulerDiscreteScheduler.from_config(flow_pipe.scheduler.config)
    with pytest.raises(ValueError, match="EulerDiscreteScheduler cannot sample DAWN: .*the denoiser predicts flow"):
        run(flow_pipe)


@pytest.mark.parametrize("given", [None, "unipc", EulerDiscreteScheduler, {"prediction_type": "sample"}])
def test_what_is_no_scheduler_is_refused_where_it_is_set(pipe, given):
    before = pipe.scheduler
    with pytest.raises(ValueError, match="`scheduler` is .*, must be a scheduler of diffusers, such as UniPC"):
        pipe.scheduler = given
    assert pipe.scheduler is before
    with pytest.raises(ValueError, match="`scheduler` is .*, must be a scheduler of diffusers"):
        DAWNPipeline(**pipe.components | {"scheduler": given})


def test_unsuitable_scheduler_is_refused_by_name(pipe):
    pipe.scheduler = UnCLIPScheduler()
    with pytest.raises(ValueError, match="UnCLIPScheduler cannot sample DAWN"):
        run(pipe)
