import numpy as np
import pytest

from diffusers_dawn.pipeline.request import MachineSettings, RenderRequest


def check(**settings) -> None:
    RenderRequest(**{"height": 64, "width": 64} | settings).check(size_multiple=8, most_steps=999)


def test_defaults_are_allowed():
    check()


def test_numpys_numbers_are_allowed():
    check(height=np.int64(64), width=np.int32(64), num_inference_steps=np.int64(3), eta=np.float32(0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0, "width": 0}, "`height` is 0, must be a positive multiple of 8"),
        ({"width": 72}, "must be equal"),
        ({"height": 60, "width": 60}, "multiple of 8"),
        ({"num_inference_steps": 1000}, "`num_inference_steps` is 1000"),
        ({"guidance_scale": -1.0}, "`guidance_scale` is -1"),
        ({"eta": 1.5}, "`eta` is 1.5"),
        ({"output_type": "gif"}, "`output_type` is 'gif', must be one of .*stream"),
        ({"height": 64.0, "width": 64.0}, "`height` and `width` are 64.0 and 64.0"),
        ({"height": "64"}, "`height` and `width` are '64' and 64"),
        ({"num_inference_steps": True}, "`num_inference_steps` is True"),
        ({"num_inference_steps": 10.0}, "`num_inference_steps` is 10.0"),
        ({"guidance_scale": {"speech": -1}}, "`guidance_scale` is .'speech': -1., must be a number in"),
        ({"guidance_scale": {"voice": 2}}, "`guidance_scale` has 'voice', may only have speech, pose, blink"),
        ({"guidance_scale": "2"}, "`guidance_scale` is '2'"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
        ({"guidance_scale": 1e300}, r"`guidance_scale` is 1e\+300, must be a number in \[0, 1000\]"),
        ({"guidance_scale": float("inf")}, "`guidance_scale` is inf"),
        ({"eta": "1"}, "`eta` is '1', must be a number in"),
        ({"eta": None}, "`eta` is None"),
    ],
)
def test_bad_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        check(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache_interval": 0}, "`cache_interval` is 0"),
        ({"cache_interval": 1.5}, "`cache_interval` is 1.5"),
        ({"decode_chunk_size": 0}, "`decode_chunk_size` is 0"),
        ({"window_frames": 0}, "`window_frames` is 0"),
        ({"window_overlap": -1}, "`window_overlap` is -1"),
        ({"window_frames": 40}, "`window_overlap` is 40, must be less than a window's 40 frames"),
        ({"window_overlap": 200}, "`window_overlap` is 200"),
        ({"memory_budget": 0}, "`memory_budget` is 0"),
        ({"memory_budget": "8 GiB"}, "`memory_budget` is '8 GiB'"),
        ({"decode_chunk_size": 8.0}, "`decode_chunk_size` is 8.0"),
        ({"window_frames": 100.0}, "`window_frames` is 100.0, must be a whole number"),
        ({"window_overlap": "40"}, "`window_overlap` is '40', must be a whole number"),
    ],
)
def test_bad_setting_of_the_machine_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MachineSettings(**settings)


def test_size_of_a_clip_has_what_its_memory_depends_on():
    size = RenderRequest(64, 64, guidance_scale=1.5, output_type="np").clip_size(50, window_frames=200, batch_size=2)
    assert (size.num_frames, size.window_frames, size.batch_size, size.num_guiding) == (50, 50, 2, 1)
