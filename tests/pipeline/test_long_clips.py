"""Clips that are denoised in windows, and frames that are drawn while they are read: the tiny pipeline as a whole."""

import numpy as np
import pytest
import torch

from diffusers_dawn.media.video_writer import VideoWriter
from diffusers_dawn.sampling.prediction import NOISE_PREDICTIONS
from diffusers_dawn.sampling.scheduler_choice import SCHEDULERS, make_scheduler
from pipeline_calls import BATCH_TOLERANCE, picture, run, seeded, speech

WINDOWS = {"window_frames": 12, "window_overlap": 4}
# two windows
NUM_FRAMES = 20


def motion(pipe, **arguments):
    return run(pipe, **{"audio": speech(NUM_FRAMES), "output_type": "latent"} | arguments).frames


@pytest.fixture(scope="module")
def one_pass(tiny_pipe):
    tiny_pipe.scheduler = make_scheduler("dawn", tiny_pipe.scheduler.config)
    return motion(tiny_pipe)


@pytest.fixture(scope="module")
def windows(tiny_pipe):
    tiny_pipe.scheduler = make_scheduler("dawn", tiny_pipe.scheduler.config)
    return motion(tiny_pipe, **WINDOWS)


def rms(difference: torch.Tensor) -> float:
    return difference.square().mean().sqrt().item()


def test_window_as_long_as_the_clip_gives_exactly_one_pass(pipe, one_pass):
    assert torch.equal(one_pass, motion(pipe, window_frames=NUM_FRAMES, window_overlap=4))
    assert torch.equal(one_pass, motion(pipe, window_frames=1000))


def test_windows_differ_from_one_pass_less_than_two_seeds_do(pipe, one_pass, windows):
    other_seed = motion(pipe, generator=seeded(1))
    assert 0 < rms(windows - one_pass) < 0.3 * rms(other_seed - one_pass)


def test_motion_where_windows_meet_is_that_of_elsewhere(pipe):
    latents = motion(pipe, audio=speech(60), num_inference_steps=5, **WINDOWS)
    steps = latents.diff(dim=2).abs().mean((0, 1, 3, 4))
    # windows of 12 start every 8 frames; their overlaps have their middles 2 frames after that
    meeting = torch.tensor([first + 1 for first in range(8, 48, 8)])
    assert steps[meeting].mean() < 1.1 * steps.mean()


def test_same_seed_gives_the_same_windows_and_guidance_changes_them(pipe, windows):
    assert torch.equal(motion(pipe, **WINDOWS), windows)
    guided, again = (motion(pipe, guidance_scale=1.5, **WINDOWS) for _ in range(2))
    assert torch.equal(guided, again) and not torch.equal(guided, windows)


def test_batch_in_windows_gives_what_single_calls_give(pipe):
    images, sounds = [picture(1), picture(2)], [speech(NUM_FRAMES, seed=1), speech(NUM_FRAMES, seed=2)]
    together = motion(pipe, image=images, audio=sounds, generator=[seeded(1), seeded(2)], **WINDOWS)
    for index in range(2):
        alone = motion(pipe, image=images[index], audio=sounds[index], generator=seeded(index + 1), **WINDOWS)
        torch.testing.assert_close(together[index], alone[0], **BATCH_TOLERANCE)


def test_of_clips_of_different_length_only_the_long_one_goes_in_windows(pipe):
    sounds = [speech(10, seed=1), speech(NUM_FRAMES, seed=2)]
    together = motion(pipe, image=picture(1), audio=sounds, generator=[seeded(1), seeded(2)], **WINDOWS)
    assert torch.equal(together[0], motion(pipe, image=picture(1), audio=sounds[0], generator=seeded(1))[0])
    alone = motion(pipe, image=picture(1), audio=sounds[1], generator=seeded(2), **WINDOWS)
    assert torch.equal(together[1], alone[0])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_listed_scheduler_steps_over_all_windows_at_once(pipe, name):
    def render(**options) -> torch.Tensor:
        pipe.scheduler = make_scheduler(name, pipe.scheduler.config)
        return motion(pipe, num_inference_steps=4, **options)

    windows, one_pass, other_seed = render(**WINDOWS), render(), render(generator=seeded(1))
    assert torch.isfinite(windows).all()
    assert rms(windows - one_pass) < rms(other_seed - one_pass)


@pytest.mark.parametrize("prediction_type", NOISE_PREDICTIONS)
def test_windows_work_with_every_prediction_type(pipe, prediction_type):
    config = {**pipe.scheduler.config, "prediction_type": prediction_type}
    pipe.scheduler = make_scheduler("dawn", config)
    one_pass, windows, other_seed = motion(pipe), motion(pipe, **WINDOWS), motion(pipe, generator=seeded(1))
    pipe.scheduler = make_scheduler("dawn", {**config, "prediction_type": "epsilon"})
    assert rms(windows - one_pass) < rms(other_seed - one_pass)


def test_callback_sees_all_frames_once_per_step(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, tensors["latents"].shape[2]))
        return tensors

    motion(pipe, callback_on_step_end=callback, **WINDOWS)
    assert seen == [(0, NUM_FRAMES), (1, NUM_FRAMES)]


def test_windows_take_sizes_other_than_that_of_training(pipe):
    assert motion(pipe, height=96, width=96, **WINDOWS).shape == (1, 3, NUM_FRAMES, 24, 24)


def test_public_stages_in_windows_give_what_a_call_gives(pipe):
    from diffusers_dawn.geometry.frame_windows import plan_windows
    from diffusers_dawn.pipeline.clip_tensors import initial_states
    from pipeline_calls import RATE_HZ, face

    expected = motion(pipe, eta=0.0, **WINDOWS)
    portrait = pipe.prepare_portrait(picture(), face())
    features = pipe.encode_audio(speech(NUM_FRAMES), RATE_HZ)[None]
    generator = seeded()
    tracks = pipe.predict_motion(features, *initial_states([portrait], "cpu"), generator=generator)
    contexts = pipe.prepare_conditions([portrait], features, *tracks, windows=plan_windows(NUM_FRAMES, 12, 4))
    latents = pipe.prepare_latents(1, NUM_FRAMES, 64, 64, torch.device("cpu"), generator)
    pipe.scheduler.set_timesteps(2)
    assert torch.equal(pipe.denoise(latents, pipe.scheduler.timesteps, contexts, {"eta": 0.0}), expected)


def test_memory_decides_between_one_pass_and_windows(pipe):
    one_pass, windows = (pipe.estimate_memory(130, output_type="latent", window_frames=size) for size in (None, 100))
    given = {"audio": speech(130), "num_inference_steps": 1}
    assert torch.equal(motion(pipe, memory_budget=one_pass, **given), motion(pipe, window_frames=130, **given))
    assert torch.equal(motion(pipe, memory_budget=windows, **given), motion(pipe, window_frames=100, **given))


def test_clip_that_cannot_fit_is_refused_before_anything_is_computed(pipe):
    calls = []
    handle = pipe.audio_encoder.register_forward_hook(lambda *_: calls.append(1))
    budget = pipe.estimate_memory(150, output_type="latent", window_frames=100)
    with pytest.raises(
        ValueError, match=r"`num_frames` is 400, which needs .* even 100 frames .* enough for \d+ frames"
    ):
        motion(pipe, audio=speech(400), memory_budget=budget)
    handle.remove()
    assert not calls


def test_frames_that_a_call_returns_count_as_memory(pipe):
    stream, array = (
        pipe.estimate_memory(6000, output_type=output_type, window_frames=100) for output_type in ("stream", "np")
    )
    assert array > stream
    with pytest.raises(ValueError, match="`num_frames` is 6000"):
        run(pipe, audio=speech(6000), output_type="np", memory_budget=stream)


def test_stream_gives_the_frames_of_an_array(pipe):
    frames = run(pipe, audio=speech(13), output_type="np").frames[0]
    stream = run(pipe, audio=speech(13), output_type="stream").frames[0]
    pieces = list(stream)
    assert stream.num_frames == 13
    assert [piece.shape for piece in pieces] == [(8, 64, 64, 3), (5, 64, 64, 3)]
    assert np.array_equal(np.concatenate(pieces), (frames * 255).round().astype(np.uint8))


def test_stream_draws_nothing_before_it_is_read(pipe):
    drawn = []
    handle = pipe.lfg.decoder.register_forward_hook(lambda *_: drawn.append(1))
    stream = run(pipe, audio=speech(13), output_type="stream").frames[0]
    assert not drawn
    next(iter(stream))
    handle.remove()
    assert len(drawn) == 1


def test_stream_of_each_clip_of_a_batch_is_its_own(pipe):
    out = run(pipe, [picture(1), picture(2)], output_type="stream")
    arrays = run(pipe, [picture(1), picture(2)], output_type="np").frames
    for stream, frames in zip(out.frames, arrays, strict=True):
        found = np.concatenate(list(stream)).astype(float) / 255
        np.testing.assert_allclose(found, frames, atol=0.51 / 255 + BATCH_TOLERANCE["atol"])


def test_stream_goes_into_a_video(pipe, tmp_path):
    out = run(pipe, audio=speech(13), output_type="stream")
    with VideoWriter(tmp_path / "talk.mp4", waveform=out.waveform()) as writer:
        for frames in out.frames[0]:
            writer.write(frames)
    assert writer.num_frames == 13


def test_motion_of_many_frames_is_drawn_in_groups_as_at_once(pipe):
    out = run(pipe, audio=speech(60), output_type="latent")
    # 25 pieces of a group are 50 frames here
    frames = torch.cat(list(pipe.decode_motion(out.frames, out.portraits, chunk_size=2)), dim=1)
    torch.testing.assert_close(frames, run(pipe, audio=speech(60)).frames, atol=1e-5, rtol=0)
