import numpy as np
import pytest
import torch

from diffusers_dawn.pipeline.finite_numbers import check_finite
from pipeline_calls import face, picture


def talk(pipe, **arguments):
    samples = np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32)
    return pipe(picture(), samples, 16_000, face(), num_inference_steps=1, output_type="np", **arguments)


@pytest.mark.parametrize(
    ("part", "inner", "what"),
    [
        ("audio_encoder", "encoder", "speech features"),
        ("pbnet", "tracks.pose.decoder", "PBNet's motion"),
        ("unet", "occlusion_head", "the motion"),
        ("lfg", "encoder", "the motion"),
        ("lfg", "decoder", "a frame"),
    ],
)
def test_weights_that_are_not_finite_are_named_instead_of_a_black_video(pipe, part, inner, what):
    weight = list(getattr(pipe, part).get_submodule(inner).parameters())[-1]
    kept = weight.detach().clone()
    message = f"^{what} holds numbers that are not finite; so do the weights of `{part}`"
    with torch.no_grad():
        weight.fill_(float("nan"))
        try:
            with pytest.raises(ValueError, match=message):
                talk(pipe)
        finally:
            weight.copy_(kept)


def test_with_finite_weights_what_came_in_is_named():
    layer = torch.nn.Linear(1, 1).half()
    check_finite(torch.ones(2), "the motion", {"unet": layer}, "`pose`")
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="the weights are finite, so `pose` is too large for float16"):
            check_finite(torch.tensor([1.0, value]), "the motion", {"unet": layer}, "`pose`")


@pytest.mark.parametrize("latents", [np.zeros((1, 3, 5, 8, 8)), "noise", torch.zeros(3)])
def test_latents_that_are_no_tensor_of_the_clip_are_refused(pipe, latents):
    with pytest.raises(ValueError, match="^`latents` is .*, must be a tensor "):
        talk(pipe, latents=latents)
