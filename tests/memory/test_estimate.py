import re
import sys
from pathlib import Path

import pytest
import torch
from diffusers import PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig

from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.memory.estimate import (
    CHUNK_COPIES,
    WORKSPACE_BYTES,
    ClipSize,
    denoising_bytes,
    kept_attention_bytes,
    output_bytes,
    stage_bytes,
    weight_bytes,
)
from diffusers_dawn.models.video_layers import CHUNK_TOKENS_CPU
from diffusers_dawn.sampling.scheduler_choice import make_scheduler
from pipeline_calls import run, speech
from warm_processes import begin, exit_codes

CPU = torch.device("cpu")


def stages(pipe, num_frames: int, window_frames: int | None = None, **changes) -> dict[str, int]:
    size = ClipSize(num_frames, 64, 64, window_frames or num_frames)._replace(**changes)
    return stage_bytes(pipe.unet, pipe.lfg, pipe.audio_encoder, size, CPU)


def test_weights_are_counted_in_their_precision():
    linear = torch.nn.Linear(10, 5)
    assert weight_bytes([linear]) == 55 * 4
    assert weight_bytes([linear], torch.float64) == 55 * 8
    assert weight_bytes([linear, linear.to(torch.bfloat16)]) == 2 * 55 * 2
    norm = torch.nn.BatchNorm1d(3)  # four floats per channel and a 64-bit count
    assert weight_bytes([norm]) == 12 * 4 + 8 and weight_bytes([norm], torch.float16) == 12 * 2 + 8


def test_denoising_grows_with_frames_size_and_the_null_condition_and_shrinks_with_precision(pipe):
    # a chunk of a CPU's size, heads * head_dim wide
    fixed = WORKSPACE_BYTES + CHUNK_COPIES * CHUNK_TOKENS_CPU * 32 * 4
    one, two = (denoising_bytes(pipe.unet, frames, 16, 16) - fixed for frames in (100, 200))
    assert two == pytest.approx(2 * one)
    assert denoising_bytes(pipe.unet, 100, 32, 32) > denoising_bytes(pipe.unet, 100, 16, 16)
    assert denoising_bytes(pipe.unet, 100, 16, 16, num_guiding=1) > denoising_bytes(pipe.unet, 100, 16, 16)
    half = random_pipeline("tiny").unet.to(torch.bfloat16)
    assert denoising_bytes(half, 100, 16, 16) < denoising_bytes(pipe.unet, 100, 16, 16)


def kept_by_hooks(unet: torch.nn.Module) -> int:
    """Sum the tensors that the hooks of diffusers' caches hold now [bytes]."""
    kept, stack = {}, [getattr(module, "_diffusers_hook", None) for module in unet.modules()]
    while stack:
        part = stack.pop()
        if isinstance(part, torch.Tensor):
            kept[part.data_ptr()] = part.nbytes
        elif isinstance(part, dict | list | tuple):
            stack += part.values() if isinstance(part, dict) else part
        elif not isinstance(part, torch.nn.Module) and hasattr(part, "__dict__"):
            stack += [value for name, value in vars(part).items() if not name.startswith(("_module", "fn_ref"))]
    return sum(kept.values())


CACHES = {
    "broadcast": (PyramidAttentionBroadcastConfig(2, current_timestep_callback=lambda: 500), {}),
    "taylor": (TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1), {}),
    # 8 frames of 6 are kept, twice
    "guided windows": (
        TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1, taylor_factors_dtype=torch.float32),
        {"guidance_scale": 1.5, "window_frames": 4, "window_overlap": 2},
    ),
}


@pytest.mark.parametrize("name", CACHES)
def test_what_attentions_keep_under_a_cache_is_counted_to_the_byte(tiny_pipe, name):
    cache, arguments = CACHES[name]
    frames, kept = 16 if arguments else 6, []

    def look(pipe, step, timestep, tensors):
        kept.append(kept_by_hooks(pipe.unet))
        return tensors

    assert kept_attention_bytes(tiny_pipe.unet, frames, 16, 16) == 0
    plain = stages(tiny_pipe, 6)
    tiny_pipe.unet.enable_cache(cache)
    try:
        run(tiny_pipe, num_inference_steps=4, output_type="latent", callback_on_step_end=look, **arguments)
        assert max(kept) == kept_attention_bytes(tiny_pipe.unet, frames, 16, 16) > 0
        one_pass = kept_attention_bytes(tiny_pipe.unet, 6, 16, 16)
        assert stages(tiny_pipe, 6)["denoising"] == plain["denoising"] + one_pass
    finally:
        tiny_pipe.unet.disable_cache()


@pytest.mark.parametrize("guided", [False, True])
def test_contexts_are_counted_to_the_byte(pipe, guided):
    from torch.utils._pytree import tree_leaves

    config, frames = pipe.unet.config, 3
    inputs = (torch.zeros(1, frames, width) for width in (config.audio_dim, config.pose_dim, config.blink_dim))
    with torch.no_grad():
        context = pipe.unet.prepare_context(torch.zeros(1, 32, 16, 16), torch.zeros(1, 16, 16, 16), *inputs)
    per_frame = [tensor for tensor in tree_leaves(context.conditions) if tensor.shape[0] == frames]
    held = sum(tensor.nbytes for tensor in per_frame)
    without, once = (denoising_bytes(pipe.unet, frames, 16, 16, num_guiding) for num_guiding in (0, 1))
    assert once - without == held


def test_batch_counts_as_often_as_it_has_clips(pipe):
    one, two = (stages(pipe, 1000, batch_size=batch)["denoising"] for batch in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.2)  # the workspace is the same
    assert two > one


def test_with_windows_a_clip_grows_by_its_latents_and_features_only(pipe):
    short, long = (stages(pipe, frames, window_frames=100)["denoising"] for frames in (1000, 2000))
    features, latents = 32 * 4, 3 * 16 * 16 * 4
    assert long - short == 1000 * (features + 2 * latents)
    assert stages(pipe, 2000)["denoising"] > 3 * long


@pytest.mark.parametrize(("output_type", "channel_bytes"), [("pil", 1), ("np", 4), ("pt", 4), ("stream", 0)])
def test_frames_that_are_kept_are_counted(output_type, channel_bytes):
    size = ClipSize(10, 64, 64, 10, batch_size=2, output_type=output_type)
    assert output_bytes(size) == 2 * 10 * 3 * 64 * 64 * channel_bytes


def test_the_sampler_that_a_call_takes_is_counted(pipe):
    few, many = (stages(pipe, 20_000, 100, latent_copies=copies)["sampler's step"] for copies in (6, 12))
    latents = 20_000 * 3 * 16 * 16 * 4
    assert many - few == 6 * latents

    def estimate(**options) -> int:
        return pipe.estimate_memory(20_000, window_frames=100, output_type="stream", **options)

    # as in a call: the default preset's, a preset's, the pipeline's own with steps
    published, ddim = estimate(num_inference_steps=3), estimate()
    assert estimate(preset="quality") == published and estimate(preset="fast") == ddim
    assert ddim - published == 2 * latents
    pipe.scheduler = make_scheduler("unipc", pipe.scheduler.config)
    assert estimate() - published == 6 * latents


def test_a_call_is_let_through_by_just_what_is_estimated_for_it(pipe, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*_):
        raise Begun

    monkeypatch.setattr(pipe, "_render", begin)
    talk = {"window_frames": 100, "output_type": "stream", "num_inference_steps": None}
    needed = pipe.estimate_memory(9000, height=64, width=64, window_frames=100, output_type="stream")
    with pytest.raises(ValueError, match="`num_frames` is 9000, which needs"):
        run(pipe, audio=speech(9000), **talk, memory_budget=needed - 1)
    with pytest.raises(Begun):
        run(pipe, audio=speech(9000), **talk, memory_budget=needed)


def test_more_frames_drawn_at_once_take_more(pipe):
    few, many = (stages(pipe, 100, decode_chunk_size=chunk)["frames"] for chunk in (8, 80))
    assert many > few


def test_long_recordings_are_encoded_in_pieces(pipe):
    # beyond 20 s the recording itself and its features count: 4 copies of 640 samples, 2 of 32 values twice a frame
    minute, two = (stages(pipe, frames)["speech features"] for frames in (1500, 3000))
    assert two - minute == 1500 * (4 * 640 * 4 + 3 * 32 * 4)


def test_pipeline_adds_the_weights_of_its_parts(pipe):
    parts = [pipe.unet, pipe.lfg, pipe.pbnet, pipe.audio_encoder]
    expected = weight_bytes(parts) + max(stages(pipe, 50).values())
    assert pipe.estimate_memory(50) == expected
    assert pipe.estimate_memory(50, height=128, width=128) > expected


def test_another_precision_and_device_are_estimated_without_going_there(pipe):
    half = random_pipeline("tiny")
    half.to(torch.bfloat16)
    there = pipe.estimate_memory(50, dtype=torch.bfloat16)
    # rotary frequencies stay in float32
    assert there == pytest.approx(half.estimate_memory(50), abs=1000) and there < pipe.estimate_memory(50)
    # the chunks of a GPU are large; what the C library keeps on a CPU is not there
    assert pipe.estimate_memory(200, device="cuda") > pipe.estimate_memory(200, device="cpu")
    assert pipe.device.type == "cpu" and pipe.unet.dtype == torch.float32


@torch.no_grad()
def print_peak_of_a_call(words):
    """Print how far a call for so many frames raises this process's peak [bytes]."""
    unet = random_pipeline("tiny").unet

    def peak_after_call(num_frames: int) -> int:
        tracks = (torch.zeros(1, num_frames, width) for width in (32, 6, 2))
        context = unet.prepare_context(torch.zeros(1, 32, 16, 16), torch.zeros(1, 16, 16, 16), *tracks)
        unet(torch.zeros(1, 3, num_frames, 16, 16), 500, context=context)
        # unlike getrusage's, not inherited from the process that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    before = peak_after_call(2)
    print(peak_after_call(int(words[0])) - before)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_estimate_of_a_call_is_within_a_fifth_of_its_measured_peak(pipe, tmp_path):
    said = tmp_path / "peak.txt"
    assert exit_codes([begin(print_peak_of_a_call, [1200], said)]) == [0], said.read_text()
    measured = int(said.read_text().split()[-1])
    # the small call before it has made the workspace
    assert denoising_bytes(pipe.unet, 1200, 16, 16) - WORKSPACE_BYTES == pytest.approx(measured, rel=0.2)
