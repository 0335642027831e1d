import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_regions import make_regions

from diffusers_dawn.flow_geometry import affine_from_covariance, inverse_2x2
from diffusers_dawn.models.region_motion import Regions
from training.random_transform import RandomTransform
from training.region_losses import equivariance_losses, landmark_flow_loss, landmark_loss


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def driving_regions_of(transformed: Regions, transform: RandomTransform) -> Regions:
    """Regions of the driving image, if those of the transformed one moved exactly."""
    affine = transform.jacobian(transformed.shift) @ transformed.affine
    return Regions(transform.warp_points(transformed.shift), affine @ affine.mT, affine, transformed.heatmap)


@given(seed=st.integers(0, 2**31), signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=2))
@settings(max_examples=30, deadline=None)
def test_regions_moved_by_the_transform_have_no_loss_whatever_the_sign_of_their_axes(seed, signs):
    transformed, transform = make_regions(2, 4, seed % 1000), RandomTransform.draw([seed, seed + 1])
    driving = driving_regions_of(transformed, transform)
    driving = driving._replace(affine=signs[0] * driving.affine)
    transformed = transformed._replace(affine=signs[1] * transformed.affine)
    shift, affine = equivariance_losses(driving, transformed, transform)
    assert shift < 1e-6 and affine < 1e-4  # inverses of axes that differ 30-fold


def test_regions_that_turn_and_grow_with_the_image_have_no_loss():
    angle, scale = 0.3, 1.2
    turn = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    affine_map = torch.cat([turn, torch.tensor([[0.1], [-0.05]])], dim=1)[None]
    transform = RandomTransform(affine_map, torch.zeros(1, 1, 2), torch.zeros(1, 2))
    transformed = make_regions(1, 6)
    covar = turn @ transformed.covar @ turn.T
    shift = transformed.shift @ turn.T + affine_map[0, :, 2]
    driving = Regions(shift, covar, affine_from_covariance(covar), transformed.heatmap)
    shift_loss, affine_loss = equivariance_losses(driving, transformed, transform)
    assert shift_loss < 1e-6 and affine_loss < 1e-4


def test_equivariance_losses_are_those_of_the_paper():
    driving, transformed, transform = make_regions(2, 3, 1), make_regions(2, 3, 5), RandomTransform.draw([3, 4])
    shift, affine = equivariance_losses(driving, transformed, transform)
    torch.testing.assert_close(shift, (driving.shift - transform.warp_points(transformed.shift)).abs().mean())
    product = inverse_2x2(driving.affine) @ transform.jacobian(transformed.shift) @ transformed.affine
    product = product * product[..., :1, :1].sign()
    torch.testing.assert_close(affine, (torch.eye(2) - product).abs().mean())


def test_equivariance_pulls_regions_to_where_the_transform_puts_them():
    transform = RandomTransform.draw([0], sigma_affine=0.2)
    transformed = make_regions(1, 3)
    driving = transformed._replace(shift=transformed.shift.clone().requires_grad_())
    shift, _ = equivariance_losses(driving, transformed, transform)
    shift.backward()
    towards = transform.warp_points(transformed.shift) - driving.shift.detach()
    assert (driving.shift.grad.sign() == -towards.sign()).all()


def test_equivariance_refuses_regions_and_transforms_that_do_not_fit():
    with pytest.raises(ValueError, match=r"`transformed` has shifts \(2, 3, 2\), must have \(2, 4, 2\)"):
        equivariance_losses(make_regions(2, 4), make_regions(2, 3), RandomTransform.draw([0, 1]))
    with pytest.raises(ValueError, match="`points` is"):
        equivariance_losses(make_regions(2, 4), make_regions(2, 4), RandomTransform.draw([0, 1, 2]))


def test_regions_on_their_landmarks_cost_nothing_and_others_do_not_count():
    regions = make_regions(2, 5)
    # the corners of the picture are -1 and 1
    landmarks_px = (regions.shift[:, :3] + 1) / 2 * torch.tensor([31.0, 15.0])
    assert landmark_loss(regions, landmarks_px, (16, 32)) < 1e-6
    moved = regions._replace(shift=regions.shift + torch.tensor([0.2, 0.0]))
    assert landmark_loss(moved, landmarks_px, (16, 32)).item() == pytest.approx(0.1, abs=1e-5)


def test_fewer_regions_than_landmarks_are_refused():
    with pytest.raises(ValueError, match="`regions` are 2, must be at least 3"):
        landmark_loss(make_regions(1, 2), torch.zeros(1, 3, 2), (8, 8))


def test_flow_that_leads_from_landmark_to_landmark_costs_nothing():
    grid = torch.stack(torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="xy"), dim=-1) / 4 - 1
    driving_px = torch.tensor([[[10.0, 12.0], [20.0, 5.0]]])
    # of 32 px: what the driving image shows at x, the source shows 4 px further right
    shifted = (grid + torch.tensor([4 * 2 / 32, 0.0]))[None]
    source_px = driving_px + torch.tensor([4.0, 0.0])
    assert landmark_flow_loss(shifted, source_px, driving_px, (32, 32)) < 1e-6
    assert landmark_flow_loss(grid[None], source_px, driving_px, (32, 32)).item() == pytest.approx(0.125)
    with pytest.raises(ValueError, match="must both be"):
        landmark_flow_loss(shifted, source_px[:, :1], driving_px, (32, 32))
