import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.geometry.flow import cell_centres
from diffusers_dawn.geometry.motion_latents import latents_from_motion, motion_from_latents
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel


def motion(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 4, 5, 2, generator=generator) * 2 - 1, torch.rand(2, 3, 1, 4, 5, generator=generator)


@given(seed=st.integers(0, 1000), flow_scale=st.none() | st.floats(0.1, 20))
def test_motion_survives_the_way_to_latents_and_back(seed, flow_scale):
    flow, occlusion = motion(seed)
    latents = latents_from_motion(flow, occlusion, flow_scale)
    assert latents.shape == (2, 3, 3, 4, 5)
    torch.testing.assert_close(motion_from_latents(latents, flow_scale), (flow, occlusion), rtol=0, atol=1e-5)


def test_without_a_scale_latents_hold_positions():
    flow, occlusion = motion(0)
    latents = latents_from_motion(flow, occlusion)
    torch.testing.assert_close(latents[1, :2, 2], flow[1, 2].permute(2, 0, 1))
    torch.testing.assert_close(latents[1, 2, 2], 2 * occlusion[1, 2, 0] - 1)


def test_with_a_scale_standing_still_is_zero_and_a_shift_is_scaled():
    still = cell_centres(4, 5).expand(1, 1, 4, 5, 2)
    latents = latents_from_motion(still + torch.tensor([0.1, -0.2]), torch.ones(1, 1, 1, 4, 5), flow_scale=4)
    torch.testing.assert_close(latents[0, :, 0, 1, 1], torch.tensor([0.4, -0.8, 1.0]))


def test_occlusion_beyond_its_range_is_bounded():
    occlusion = motion_from_latents(torch.full((1, 3, 1, 2, 2), 1.7))[1]
    assert occlusion.max() == 1


def test_half_precision_latents_give_float32_positions():
    assert all(part.dtype == torch.float32 for part in motion_from_latents(torch.zeros(1, 3, 1, 2, 2).half(), 4.0))


def test_denoiser_refuses_a_scale_that_is_not_positive():
    with pytest.raises(ValueError, match="`flow_scale` is 0, must be a number from 0.001 to 1000"):
        A2VFlowDiffusionModel(flow_scale=0)
