import pytest
import torch

from diffusers_dawn.memory_estimate import WORKSPACE_BYTES, denoising_bytes, weight_bytes
from diffusers_dawn.random_checkpoint import random_pipeline


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline("tiny")


def test_weights_are_counted_in_their_precision(pipe):
    linear = torch.nn.Linear(10, 5)
    assert weight_bytes([linear]) == 55 * 4
    assert weight_bytes([linear, linear.to(torch.bfloat16)]) == 2 * 55 * 2


def test_denoising_grows_with_frames_and_size_and_shrinks_with_precision(pipe):
    one, two = (denoising_bytes(pipe.unet, frames, 16, 16) - WORKSPACE_BYTES for frames in (100, 200))
    assert two == 2 * one
    assert denoising_bytes(pipe.unet, 100, 32, 32) > denoising_bytes(pipe.unet, 100, 16, 16)
    half = random_pipeline("tiny").unet.to(torch.bfloat16)
    assert denoising_bytes(half, 100, 16, 16) - WORKSPACE_BYTES == one // 2


def test_pipeline_adds_the_weights_of_its_parts(pipe):
    parts = [pipe.unet, pipe.lfg, pipe.pbnet, pipe.audio_encoder]
    expected = weight_bytes(parts) + denoising_bytes(pipe.unet, 50, 16, 16)
    assert pipe.estimate_memory(50) == expected
    assert pipe.estimate_memory(50, 128, 128) > expected
