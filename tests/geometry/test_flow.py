import math

import pytest
import torch

from diffusers_dawn.geometry.flow import (
    affine_from_covariance,
    antialiased_downsample,
    cell_centres,
    coordinate_grid,
    face_box_mask,
    gaussian_heatmap,
    inverse_2x2,
    motion_between,
    region_moments,
    resize_flow,
    warp,
    warp_frames,
    within_centres,
)


def random_covariances(count: int, seed: int = 0) -> torch.Tensor:
    root = torch.randn(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 0.3
    return root @ root.mT + 1e-3 * torch.eye(2)


def test_positions_within_the_outermost_centres_repeat_the_border():
    random = torch.Generator().manual_seed(0)
    image, far = torch.rand(2, 3, 6, 9, generator=random), 6 * torch.rand(2, 4, 6, 9, 2, generator=random) - 3
    repeated = warp_frames(image, far, border="repeated")
    assert not torch.allclose(warp_frames(image, far), repeated, atol=0.1)
    # positions are rounded: a few of the last binary digits
    torch.testing.assert_close(warp_frames(image, within_centres(far, 6, 9)), repeated, atol=1e-5, rtol=0)


def test_grid_includes_its_endpoints_with_x_first():
    grid = coordinate_grid(3, 5)
    assert grid.shape == (3, 5, 2)
    assert grid[0, 0].tolist() == [-1, -1] and grid[0, -1].tolist() == [1, -1] and grid[-1, 0].tolist() == [-1, 1]


@pytest.mark.parametrize("size", [(4, 4), (6, 10), (17, 9)])
def test_warp_by_identity_flow_returns_image(size):
    image = torch.rand(2, 3, *size)
    torch.testing.assert_close(warp(image, cell_centres(*size).expand(2, -1, -1, -1)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift_px", [(1, 0), (0, 2), (-3, 1)])
def test_warp_by_translation_moves_pixels_and_fills_with_zero(shift_px):
    image = torch.rand(1, 2, 8, 12)
    offset = torch.tensor([2 * shift_px[0] / 12, 2 * shift_px[1] / 8])
    warped = warp(image, (cell_centres(8, 12) + offset)[None])
    rolled = image.roll((-shift_px[1], -shift_px[0]), dims=(2, 3))
    rows, columns = torch.arange(8) + shift_px[1], torch.arange(12) + shift_px[0]
    inside = ((rows >= 0) & (rows < 8))[:, None] & ((columns >= 0) & (columns < 12))
    torch.testing.assert_close(warped, rolled * inside, atol=1e-5, rtol=0)  # positions round to 1e-6


def test_warp_is_linear_in_the_image_and_bounded_by_it():
    first, second, flow = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 2) * 3 - 1.5
    mixed = warp(0.3 * first + 0.7 * second, flow)
    torch.testing.assert_close(mixed, 0.3 * warp(first, flow) + 0.7 * warp(second, flow), atol=1e-6, rtol=0)
    assert warp(first, flow).min() >= 0 and warp(first, flow).max() <= first.max() + 1e-6


def test_warp_frames_equals_warping_each_frame():
    for batch in (1, 3):
        image, flow = torch.rand(batch, 4, 8, 6), torch.rand(batch, 5, 4, 3, 2) * 2 - 1
        frames = warp_frames(image, flow)
        assert frames.shape == (batch, 5, 4, 8, 6)
        for frame in range(5):
            torch.testing.assert_close(frames[:, frame], warp(image, flow[:, frame]), atol=1e-6, rtol=0)


def test_warp_keeps_half_precision_but_samples_at_exact_positions():
    image = torch.rand(1, 1, 1, 512).to(torch.bfloat16)
    warped = warp(image, cell_centres(1, 512)[None])  # bfloat16 positions would be off by up to a whole pixel
    assert warped.dtype == torch.bfloat16
    torch.testing.assert_close(warped, image, atol=4e-3, rtol=0)  # one bfloat16 step below 1


def test_warp_lets_gradients_into_image_and_flow():
    image, flow = torch.rand(1, 2, 6, 6, requires_grad=True), (cell_centres(3, 3)[None] * 0.9).requires_grad_()
    warp(image, flow).square().sum().backward()
    assert image.grad.abs().sum() > 0 and flow.grad.abs().sum() > 0


def test_resized_flow_keeps_its_values():
    flow = torch.tensor([0.25, -0.5]).expand(2, 4, 4, 2)
    torch.testing.assert_close(resize_flow(flow, 8, 12), torch.tensor([0.25, -0.5]).expand(2, 8, 12, 2))


def test_a_picture_that_stands_still_stays_to_its_edge_where_the_border_is_repeated():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    still = cell_centres(8, 8)[None]
    torch.testing.assert_close(warp_frames(image, still[:, None], border="repeated")[:, 0], image, rtol=0, atol=1e-5)
    # as published, the outermost pixels repeat those beside them
    assert (warp(image, still) - image)[..., :2].abs().max() > 0.1


def test_downsampling_keeps_a_constant_and_suppresses_stripes():
    constant = antialiased_downsample(torch.full((1, 3, 64, 64), 0.5), 4)
    assert constant.shape == (1, 3, 16, 16)
    torch.testing.assert_close(constant[..., 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.5))
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert antialiased_downsample(stripes, 4)[..., 2:-2, 2:-2].std() < 1e-3
    assert antialiased_downsample(stripes, 1) is stripes


def test_moments_of_a_gaussian_are_its_centre_and_covariance():
    shift, covar = torch.tensor([[[0.2, -0.1]]]), torch.tensor([[[[0.02, 0.005], [0.005, 0.01]]]])
    heatmap = gaussian_heatmap(shift, covar, 64, 64)
    found_shift, found_covar = region_moments(heatmap / heatmap.sum())
    torch.testing.assert_close(found_shift, shift, atol=1e-4, rtol=0)  # cut off at the border
    torch.testing.assert_close(found_covar, covar, atol=1e-4, rtol=0)


def test_heatmap_of_a_point_is_finite_with_finite_gradients():
    shift, covar = torch.tensor([[[0.2, -0.1]]], requires_grad=True), torch.zeros(1, 1, 2, 2, requires_grad=True)
    heatmap = gaussian_heatmap(shift, covar, 8, 8)
    heatmap.sum().backward()
    assert heatmap.isfinite().all() and shift.grad.isfinite().all() and covar.grad.isfinite().all()


def test_inverse_times_matrix_is_identity():
    matrix = random_covariances(50)
    torch.testing.assert_close(inverse_2x2(matrix) @ matrix, torch.eye(2).expand(50, 2, 2), atol=1e-4, rtol=0)


def test_affine_of_covariance_squares_to_it_with_orthogonal_columns():
    covar = random_covariances(200)
    affine = affine_from_covariance(covar)
    torch.testing.assert_close(affine @ affine.mT, covar, atol=1e-6, rtol=1e-5)
    assert (affine[..., 0] * affine[..., 1]).sum(-1).abs().max() < 1e-6
    assert (affine[..., 0].norm(dim=-1) >= affine[..., 1].norm(dim=-1)).all()


def test_motion_between_equals_that_of_a_singular_value_decomposition():
    source, driving = random_covariances(500, seed=1), random_covariances(500, seed=2)

    def by_decomposition(covar):
        left, values, _ = torch.linalg.svd(covar.double())
        return left @ torch.diag_embed(values.sqrt())

    product = by_decomposition(source) @ by_decomposition(driving).inverse()
    expected = product * product[:, :1, :1].sign()
    found = motion_between(affine_from_covariance(source), affine_from_covariance(driving))
    # relative: the smaller axis may be 30 times shorter than the longer
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("covar", [[[0.1, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_affine_has_finite_gradients_for_round_flat_and_point_regions(covar):
    covar = torch.tensor(covar, requires_grad=True)
    affine = affine_from_covariance(covar)
    affine.sum().backward()
    assert affine.isfinite().all() and covar.grad.isfinite().all()


def test_affine_gradient_is_that_of_finite_differences():
    covar = random_covariances(1)[0]
    gradient = torch.func.grad(lambda c: affine_from_covariance(c)[0].sum())(covar)
    step = 1e-3
    for i, j in ((0, 0), (1, 1), (0, 1)):
        shifted = torch.zeros(2, 2)
        shifted[i, j] = step
        difference = (
            affine_from_covariance(covar + shifted)[0].sum() - affine_from_covariance(covar - shifted)[0].sum()
        )
        assert math.isclose(gradient[i, j], difference / (2 * step), rel_tol=0.05, abs_tol=0.02)  # float32 differences


def test_face_mask_scales_boxes_and_includes_the_pixel_after():
    mask = face_box_mask(torch.tensor([[2.0, 5, 8, 11]]), torch.tensor([[16.0, 16]]), 8, 8)
    assert mask.shape == (1, 1, 8, 8)
    assert mask[0, 0].nonzero().amin(0).tolist() == [4, 1] and mask[0, 0].nonzero().amax(0).tolist() == [6, 3]
    assert mask.sum() == 9


def test_face_mask_of_a_box_beyond_the_image_is_cut():
    mask = face_box_mask(torch.tensor([[-5.0, 100, -5, 100], [40, 50, 0, 8]]), torch.tensor([[16.0, 16]] * 2), 8, 8)
    assert mask[0].all() and not mask[1].any()


def test_warp_refuses_flow_of_wrong_shape():
    with pytest.raises(ValueError, match="`flow`"):
        warp(torch.rand(1, 3, 8, 8), torch.rand(1, 2, 8, 8, 2))
    with pytest.raises(ValueError, match="`flow`"):
        warp_frames(torch.rand(2, 3, 8, 8), torch.rand(1, 2, 8, 8, 2))
    with pytest.raises(ValueError, match="`features`"):
        warp_frames(torch.rand(3, 8, 8), torch.rand(3, 2, 8, 8, 2))


def test_face_mask_refuses_wrong_shapes():
    with pytest.raises(ValueError, match="`boxes`"):
        face_box_mask(torch.rand(1, 6), torch.rand(1, 2), 8, 8)
    with pytest.raises(ValueError, match="`image_sizes`"):
        face_box_mask(torch.rand(2, 4), torch.rand(1, 2), 8, 8)
