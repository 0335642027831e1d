import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.geometry.flow import coordinate_grid, gaussian_heatmap, region_moments
from training.objectives.random_transform import RandomTransform

IDENTITY = {"sigma_affine": 0.0, "sigma_spline": 0.0}


def random_points(batch: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_transform_without_noise_is_the_identity():
    transform = RandomTransform.draw([0, 1], **IDENTITY)
    points, image = random_points(2, 7), torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(transform.warp_points(points), points)
    torch.testing.assert_close(transform.jacobian(points), torch.eye(2).expand(2, 7, 2, 2))
    torch.testing.assert_close(transform.warp_image(image), image, atol=1e-5, rtol=0)  # positions round to 1e-7


@given(seed=st.integers(0, 2**62), sigma_affine=st.floats(0, 0.3), sigma_spline=st.floats(0, 0.05))
def test_jacobian_equals_finite_differences(seed, sigma_affine, sigma_spline):
    transform = RandomTransform.draw([seed], sigma_affine, sigma_spline)
    # exact arithmetic, so that only the step's own error is left
    transform = RandomTransform(*(part.double() for part in vars(transform).values()))
    points, step = random_points(1, 20, seed % 1000).double(), 1e-3
    columns = []
    for direction in torch.eye(2).double():
        difference = transform.warp_points(points + step * direction) - transform.warp_points(
            points - step * direction
        )
        columns.append(difference.double() / (2 * step))
    torch.testing.assert_close(
        transform.jacobian(points).double(), torch.stack(columns, dim=-1), atol=2e-3, rtol=0
    )  # float32 points over a step of 1e-3


def test_jacobian_at_a_control_point_is_finite_and_so_is_its_gradient():
    transform = RandomTransform.draw([3])
    points = transform.control_points[None].clone().requires_grad_()
    (transform.jacobian(points).square().sum() + transform.warp_points(points).square().sum()).backward()
    assert points.grad.isfinite().all()


def test_jacobian_equals_automatic_differentiation():
    transform, points = RandomTransform.draw([5, 6]), random_points(2, 8)
    expected = torch.func.jacrev(lambda p: transform.warp_points(p).sum(dim=(0, 1)))(points)  # (2, B, K, 2)
    torch.testing.assert_close(transform.jacobian(points), expected.permute(1, 2, 0, 3), atol=1e-5, rtol=1e-5)


def test_what_lies_at_a_point_of_the_warped_image_lay_where_the_transform_maps_it():
    transform = RandomTransform.draw([1, 2, 3], sigma_affine=0.1, sigma_spline=0.02)
    there = torch.tensor([[[0.2, -0.3]], [[0.0, 0.1]], [[-0.3, 0.2]]])
    covar = (1e-3 * torch.eye(2)).expand(3, 1, 2, 2)
    image = gaussian_heatmap(transform.warp_points(there), covar, 128, 128)
    warped = transform.warp_image(image)
    found, _ = region_moments(warped / warped.sum(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(found, there, atol=2e-3, rtol=0)  # curvature shifts the centre of a wide bump


def test_jacobian_tells_how_a_small_shape_is_deformed():
    transform = RandomTransform.draw([4], sigma_affine=0.2, sigma_spline=0.0)
    there, jacobian = torch.zeros(1, 1, 2), transform.jacobian(torch.zeros(1, 1, 2))
    covar = torch.tensor([[[[4e-3, 1e-3], [1e-3, 2e-3]]]])
    image = gaussian_heatmap(transform.warp_points(there), jacobian @ covar @ jacobian.mT, 256, 256)
    warped = transform.warp_image(image)
    _, found = region_moments(warped / warped.sum())
    torch.testing.assert_close(found, covar, atol=5e-5, rtol=0)  # sampling blurs by a fraction of a pixel, 6e-5


def test_image_beyond_the_border_is_mirrored_and_stays_within_its_values():
    transform = RandomTransform.draw([0], sigma_affine=0.3)
    warped = transform.warp_image(torch.full((1, 3, 16, 16), 0.4))
    torch.testing.assert_close(warped, torch.full((1, 3, 16, 16), 0.4))


def test_a_sample_depends_on_its_own_seed_only():
    both, second = RandomTransform.draw([7, 8]), RandomTransform.draw([8])
    assert torch.equal(both.affine[1:], second.affine) and torch.equal(both.spline_weights[1:], second.spline_weights)
    assert not torch.equal(both.affine[0], both.affine[1])


def test_seeds_generators_and_tensors_draw_the_same():
    drawn = [
        RandomTransform.draw(seeds)
        for seeds in ([7, 8], torch.tensor([7, 8]), [torch.Generator().manual_seed(seed) for seed in (7, 8)])
    ]
    assert all(torch.equal(drawn[0].affine, other.affine) for other in drawn[1:])


def test_noise_has_the_given_spread():
    transform = RandomTransform.draw(range(400))
    assert (transform.affine - torch.eye(2, 3)).std() == pytest.approx(0.05, rel=0.05)
    assert transform.spline_weights.std() == pytest.approx(0.005, rel=0.05)
    assert transform.spline_weights.shape == (400, 25, 2)
    assert torch.equal(transform.control_points, coordinate_grid(5, 5).reshape(-1, 2))


def test_same_points_serve_all_samples():
    transform, points = RandomTransform.draw([1, 2]), random_points(1, 5)
    torch.testing.assert_close(transform.warp_points(points), transform.warp_points(points.expand(2, -1, -1)))
    torch.testing.assert_close(transform.jacobian(points), transform.jacobian(points.expand(2, -1, -1)))


def test_without_control_points_the_transform_is_affine():
    transform, points = RandomTransform.draw([1], num_points=0), random_points(1, 5)
    expected = points @ transform.affine[:, :, :2].mT + transform.affine[:, None, :, 2]
    torch.testing.assert_close(transform.warp_points(points), expected)
    torch.testing.assert_close(transform.jacobian(points), transform.affine[:, None, :, :2].expand(-1, 5, -1, -1))


def test_autocast_changes_nothing():
    transform, points = RandomTransform.draw([1, 2]), random_points(2, 5)
    expected = transform.warp_points(points), transform.jacobian(points)
    with torch.autocast("cpu", torch.bfloat16):
        found = transform.warp_points(points), transform.jacobian(points)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_image_keeps_its_dtype():
    assert RandomTransform.draw([1]).warp_image(torch.rand(1, 3, 8, 8).bfloat16()).dtype == torch.bfloat16


def test_draw_refuses_no_seeds_and_negative_numbers():
    with pytest.raises(ValueError, match="`seeds` is empty"):
        RandomTransform.draw([])
    for name in ("sigma_affine", "sigma_spline", "num_points"):
        with pytest.raises(ValueError, match=f"`{name}` .*must not be negative"):
            RandomTransform.draw([0], **{name: -1})


def test_points_and_images_of_wrong_shape_are_refused():
    transform = RandomTransform.draw([1, 2])
    for call in (transform.warp_points, transform.jacobian):
        with pytest.raises(ValueError, match=r"`points` is \(3, 5, 2\), must be \(2 or 1, K, 2\)"):
            call(torch.rand(3, 5, 2))
    with pytest.raises(ValueError, match=r"`image` is \(3, 1, 4, 4\), must be \(2, C, H, W\)"):
        transform.warp_image(torch.rand(3, 1, 4, 4))
