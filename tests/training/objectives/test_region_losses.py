import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_regions import make_regions

from diffusers_dawn.geometry.flow import affine_from_covariance, inverse_2x2
from diffusers_dawn.models.region_motion import Regions
from training.objectives.random_transform import RandomTransform
from training.objectives.region_losses import (
    closed_eye_loss,
    equivariance_losses,
    landmark_flow_loss,
    landmark_loss,
    open_mouth_loss,
    polygon_mask,
)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def driving_regions_of(transformed: Regions, transform: RandomTransform) -> Regions:
    """Regions of the driving image, if those of the transformed one moved exactly."""
    affine = transform.jacobian(transformed.shift) @ transformed.affine
    return Regions(transform.warp_points(transformed.shift), affine @ affine.mT, affine, transformed.heatmap)


@given(seed=st.integers(0, 2**31), signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=2))
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


def test_polygon_mask_is_the_area_between_its_edges():
    square = torch.tensor([[[1.5, 2.5], [4.5, 2.5], [4.5, 5.5], [1.5, 5.5]]])
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[3:6, 2:5] = True
    assert torch.equal(polygon_mask(square, 8, 9)[0], expected)
    assert torch.equal(polygon_mask(square.flip(1), 8, 9)[0], expected), "the direction does not matter"
    assert not polygon_mask(square[:, :1].expand(1, 4, 2), 8, 9).any(), "a point has no inside"


def test_polygon_mask_agrees_with_a_ring_of_distances():
    angles = torch.linspace(0, 2 * math.pi, 41)[:-1]
    ring = torch.stack((20 + 11 * angles.cos(), 15 + 11 * angles.sin()), dim=-1)[None]
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    distance = torch.hypot(columns - 20.0, rows - 15.0)
    mask = polygon_mask(ring, 32, 40)[0]
    assert mask[distance < 10.9].all() and not mask[distance > 11.0].any()


def mouth_px(opening: float) -> torch.Tensor:
    """Landmarks of a mouth, 24 px wide, around (32, 40), whose inner lips are a box, 16 px wide."""
    x = torch.tensor([24.0, 28, 32, 36, 40, 36, 32, 28])
    y = 40 + opening / 2 * torch.tensor([0.0, -1, -1, -1, 0, 1, 1, 1])
    outer = torch.tensor([[20.0, 32], [43, 47]]).repeat(6, 1)
    return torch.cat((outer, torch.stack((x, y), dim=-1)))[None]


def test_just_what_lies_between_open_lips_should_be_hidden():
    visible, hidden = torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    hidden[..., 9:11, 6:10] = 0
    losses = [open_mouth_loss(occlusion, mouth_px(8), (64, 64)) for occlusion in (visible, hidden, 1 - hidden)]
    assert losses[1] < losses[0] / 2 and losses[0] < losses[2] / 2
    occlusion = torch.full((1, 1, 16, 16), 0.5, requires_grad=True)
    open_mouth_loss(occlusion, mouth_px(8), (64, 64)).backward()
    gradient = occlusion.grad[0, 0]
    assert gradient[10, 8] > 0 > gradient[8, 5] and gradient[2, 2] == 0


def test_closed_lips_hide_nothing():
    assert open_mouth_loss(torch.ones(1, 1, 16, 16), mouth_px(0), (64, 64)) == 0


def test_mouths_that_do_not_fit_the_occlusion_are_refused():
    with pytest.raises(ValueError, match=r"`mouth_px` is \(1, 20, 2\), must be \(2, 20, 2\)"):
        open_mouth_loss(torch.ones(2, 1, 16, 16), mouth_px(4), (64, 64))


def eyes_px(source: float, driving: float) -> torch.Tensor:
    """Boxes of two eyes, 16 px wide and as high as told, around rows 24; the right one stays open."""
    heights = torch.tensor([[source, 6.0], [driving, 6.0]])
    ends = torch.tensor([[8.0, 24.0], [40.0, 56.0]]).expand(2, 2, 2)
    return torch.cat((ends, torch.stack((24 - heights / 2, 24 + heights / 2), dim=-1)), dim=-1)[None]


@pytest.mark.parametrize(("source", "driving"), [(6.0, 0.5), (0.5, 6.0), (6.0, 2.0)])
def test_just_an_eye_that_opens_or_closes_should_be_hidden(source, driving):
    visible = torch.ones(1, 1, 16, 16)
    left, right = (visible.clone() for _ in range(2))
    # whole cells of the left eye's box, as high as an open eye's: 8 to 24 and 21 to 27 px, cells of 4 px
    left[..., 6, 2:6], right[..., 6, 10:14] = 0, 0
    losses = [closed_eye_loss(occlusion, eyes_px(source, driving), (64, 64)) for occlusion in (visible, left, right)]
    assert losses[1] < losses[0] < losses[2]
    occlusion = torch.full((1, 1, 16, 16), 0.9, requires_grad=True)
    closed_eye_loss(occlusion, eyes_px(source, driving), (64, 64)).backward()
    gradient = occlusion.grad[0, 0]
    # hidden: the eye; visible: around it and the other one; free: the rest
    assert gradient[6, 3] > 0 > gradient[4, 3] and gradient[6, 12] < 0 == gradient[12, 3]


@pytest.mark.parametrize("opening", [0.0, 0.5, 6.0])
def test_eyes_that_stay_as_they_are_hide_nothing(opening):
    assert closed_eye_loss(torch.ones(1, 1, 16, 16), eyes_px(opening, opening), (64, 64)) == 0


def test_eyes_that_do_not_fit_the_occlusion_are_refused():
    with pytest.raises(ValueError, match=r"`eyes_px` is \(1, 2, 2, 4\), must be \(2, 2, 2, 4\)"):
        closed_eye_loss(torch.ones(2, 1, 16, 16), eyes_px(6.0, 6.0), (64, 64))
