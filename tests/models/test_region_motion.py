import pytest
import torch

from diffusers_dawn.geometry.flow import affine_from_covariance, coordinate_grid
from diffusers_dawn.models.region_motion import (
    BackgroundPredictor,
    FlowPredictor,
    RegionPredictor,
    Regions,
    candidate_motions,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def regions_at(shift: torch.Tensor, covar: torch.Tensor) -> Regions:
    return Regions(shift, covar, affine_from_covariance(covar), torch.empty(0))


def test_untrained_background_does_not_move():
    background = BackgroundPredictor((4, 8))(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))
    torch.testing.assert_close(background, torch.eye(3).expand(2, 3, 3))


def test_heatmaps_sum_to_one_and_shifts_stay_inside():
    regions = RegionPredictor(3, (4, 8), stride=4, temperature=0.1)(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(regions.heatmap.sum((2, 3)), torch.ones(2, 3))
    assert regions.shift.shape == (2, 3, 2) and regions.shift.abs().max() <= 1
    torch.testing.assert_close(regions.covar, regions.covar.mT)


def test_equal_regions_do_not_move():
    regions = regions_at(torch.rand(2, 3, 2) - 0.5, torch.tensor([[0.03, 0.01], [0.01, 0.02]]).expand(2, 3, 2, 2))
    motions = candidate_motions(regions, regions, torch.eye(3).expand(2, 3, 3), 4, 6)
    assert motions.shape == (2, 4, 4, 6, 2)
    torch.testing.assert_close(motions, coordinate_grid(4, 6).expand_as(motions), atol=1e-5, rtol=0)


def test_regions_translate_and_grow_around_their_centres():
    covar = torch.tensor([[0.04, 0.0], [0.0, 0.01]])[None, None]
    source = regions_at(torch.tensor([[[0.5, 0.0]]]), 4 * covar)
    driving = regions_at(torch.tensor([[[0.0, 0.2]]]), covar)
    motions = candidate_motions(source, driving, torch.eye(3)[None], 5, 5)
    expected = 2 * (coordinate_grid(5, 5) - torch.tensor([0.0, 0.2])) + torch.tensor([0.5, 0.0])
    torch.testing.assert_close(motions[0, 1], expected, atol=1e-5, rtol=0)


def test_background_motion_is_affine_in_the_grid():
    background = torch.tensor([[[0.9, 0.1, 0.2], [0.0, 1.1, -0.3], [0, 0, 1]]])
    regions = regions_at(torch.zeros(1, 1, 2), 0.1 * torch.eye(2)[None, None])
    grid = coordinate_grid(3, 3)
    homogeneous = torch.cat([grid, torch.ones(3, 3, 1)], dim=-1)
    expected = (homogeneous @ background[0].T)[..., :2]
    torch.testing.assert_close(candidate_motions(regions, regions, background, 3, 3)[0, 0], expected)


def test_flow_lies_within_the_candidate_motions():
    predictor = FlowPredictor(2, (4, 8), stride=4)
    covar = torch.tensor([[0.03, 0.01], [0.01, 0.02]]).expand(1, 2, 2, 2)
    source, driving = (regions_at(torch.rand(1, 2, 2) - 0.5, covar) for _ in range(2))
    background = torch.eye(3)[None]
    flow, occlusion = predictor(torch.rand(1, 3, 32, 32), source, driving, background)
    motions = candidate_motions(source, driving, background, 8, 8)
    assert flow.shape == (1, 8, 8, 2) and occlusion.shape == (1, 1, 8, 8)
    assert (flow >= motions.amin(1) - 1e-5).all() and (flow <= motions.amax(1) + 1e-5).all()
    assert occlusion.min() >= 0 and occlusion.max() <= 1
