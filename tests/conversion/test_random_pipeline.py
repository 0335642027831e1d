import pytest
import torch

from diffusers_dawn.conversion.random_pipeline import random_pipeline


def test_same_seed_same_weights_and_another_seed_others():
    first, again, other = (random_pipeline("tiny", seed).unet.conv_in.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seed_of_the_caller_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_pipeline("tiny")
    assert torch.equal(torch.rand(3), expected)


def test_parts_of_training_can_be_left_out():
    pipe = random_pipeline("tiny", full=False)
    assert not pipe.lfg.config.with_motion_estimator
    assert not pipe.pbnet.config.with_encoder


def test_unknown_size_is_an_error():
    with pytest.raises(ValueError, match="`size` is 'huge', must be one of tiny, 128, 256"):
        random_pipeline("huge")
