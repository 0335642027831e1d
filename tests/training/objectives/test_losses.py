import math

import pytest
import torch
from made_regions import make_regions

from diffusers_dawn.models.region_motion import Regions
from training.objectives import losses, motion_losses
from training.objectives.random_transform import RandomTransform
from training.objectives.region_losses import equivariance_losses


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_maps(image: torch.Tensor) -> list[torch.Tensor]:
    return [image, image[:, :1, ::2, ::2].square()]


def prefix_mask(lengths: list[int], num_frames: int) -> torch.Tensor:
    return torch.arange(num_frames) < torch.tensor(lengths)[:, None]


def all_losses(batch: slice, filling: float | None = None) -> dict[str, torch.Tensor]:
    """Every loss on the same four samples; frames beyond their clip's end hold `filling`, if it is given."""
    first, second = rand(4, 3, 16, 16, seed=1)[batch], rand(4, 3, 16, 16, seed=2)[batch]
    tracks, others = randn(4, 9, 6, seed=3)[batch], randn(4, 9, 6, seed=4)[batch]
    mask = prefix_mask([9, 5, 2, 7], 9)[batch]
    if filling is not None:
        tracks, others = (track.masked_fill(~mask[..., None], filling) for track in (tracks, others))
    transform = RandomTransform.draw(range(4)[batch])
    driving, transformed = (Regions(*(part[batch] for part in make_regions(4, 3, seed))) for seed in (5, 7))
    motion = [randn(4, 3, 5, 8, 8, seed=seed)[batch] for seed in range(9, 13)]
    mouth = (rand(4, 1, 5, 8, 8, seed=13) > 0.7).float()[batch]
    shift, affine = equivariance_losses(driving, transformed, transform)
    return {
        "perceptual": losses.perceptual_pyramid_loss(first, second, two_maps),
        "pixel": losses.pixel_gradient_loss(first, second),
        "weighted pixel": losses.pixel_gradient_loss(first, second, weight_map=rand(4, 1, 16, 16, seed=8)[batch]),
        "shift": shift,
        "affine": affine,
        "mse": losses.masked_mse(tracks, others, mask),
        "kl": losses.kl_divergence(tracks, others, mask),
        "smoothness": losses.smoothness_loss(tracks, mask),
        "discriminator": losses.discriminator_loss(tracks[..., 0], others[..., 0], mask),
        "generator": losses.generator_adversarial_loss(tracks[..., 0], mask),
    } | motion_losses.denoising_losses(*motion, {"mouth": mouth}, rand(4, seed=14)[batch])


def test_half_batches_average_to_the_whole():
    whole, halves = all_losses(slice(4)), (all_losses(slice(2)), all_losses(slice(2, 4)))
    for name, loss in whole.items():
        assert loss.ndim == 0 and loss > 0, name
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, loss, msg=name)


@pytest.mark.parametrize("filling", [0.0, 1e3, float("inf"), float("nan")])
def test_padded_frames_do_not_change_any_loss(filling):
    expected, found = all_losses(slice(4)), all_losses(slice(4), filling)
    for name in ("mse", "kl", "smoothness", "discriminator", "generator"):
        torch.testing.assert_close(found[name], expected[name], msg=name)


def test_padded_frames_get_no_gradient_whatever_they_hold():
    mask = prefix_mask([4, 2], 4)
    first, second = (randn(2, 4, 3, seed=seed).masked_fill(~mask[..., None], float("inf")) for seed in (0, 1))
    first.requires_grad_(), second.requires_grad_()
    loss = losses.masked_mse(first, second, mask) + losses.kl_divergence(first, second, mask)
    loss = loss + losses.smoothness_loss(first, mask) + losses.discriminator_loss(first[..., 0], second[..., 0], mask)
    loss.backward()
    for grad in (first.grad, second.grad):
        assert grad[mask].abs().min() > 0 and (grad[~mask] == 0).all()


def test_half_precision_is_computed_in_float32():
    first, second = rand(2, 3, 16, 16).bfloat16(), rand(2, 3, 16, 16, seed=1).bfloat16()
    for loss in (losses.pixel_gradient_loss, lambda a, b: losses.perceptual_pyramid_loss(a, b, two_maps)):
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(first, second)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, loss(first.float(), second.float()))
    regions, transform = make_regions(2, 3), RandomTransform.draw([0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        found = equivariance_losses(regions, regions, transform)
    assert found == equivariance_losses(regions, regions, transform)


# images


def test_equal_images_have_no_loss():
    image = rand(2, 3, 16, 16)
    assert losses.perceptual_pyramid_loss(image, image, two_maps) == 0
    assert losses.pixel_gradient_loss(image, image) == 0


def test_perceptual_loss_is_the_weighted_sum_over_maps_and_scales():
    first, second = rand(2, 3, 8, 8), rand(2, 3, 8, 8, seed=1)
    found = losses.perceptual_pyramid_loss(first, second, two_maps, scales=(1,), weights=(2, 3))
    expected = 2 * (first - second).abs().mean() + 3 * (two_maps(first)[1] - two_maps(second)[1]).abs().mean()
    torch.testing.assert_close(found, expected)
    smaller = losses.perceptual_pyramid_loss(first, second, two_maps, scales=(0.5,), weights=(2, 3))
    both = losses.perceptual_pyramid_loss(first, second, two_maps, scales=(1, 0.5), weights=(2, 3))
    torch.testing.assert_close(both, found + smaller)


def test_perceptual_loss_has_gradients_for_the_prediction_only():
    first, second = rand(1, 3, 8, 8).requires_grad_(), rand(1, 3, 8, 8, seed=1).requires_grad_()
    losses.perceptual_pyramid_loss(first, second, two_maps).backward()
    assert first.grad.abs().sum() > 0 and second.grad is None


def test_pixel_loss_of_a_shifted_ramp_is_known():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 10
    # 0.1 off, and steps of 0.1 instead of 0.2 to the right
    assert losses.pixel_gradient_loss(ramp + 0.1, ramp, scales=(1,)).item() == pytest.approx(0.1)
    expected = ramp.mean().item() + 0.1
    assert losses.pixel_gradient_loss(2 * ramp, ramp, scales=(1,)).item() == pytest.approx(expected)


def test_constant_weight_map_equals_none():
    first, second = rand(2, 3, 18, 13), rand(2, 3, 18, 13, seed=1)
    weighted = losses.pixel_gradient_loss(first, second, weight_map=torch.full((2, 1, 18, 13), 7.0))
    torch.testing.assert_close(weighted, losses.pixel_gradient_loss(first, second))


def test_weight_map_says_where_errors_count():
    target = rand(1, 3, 16, 16)
    prediction, weight = target.clone(), torch.zeros(1, 1, 16, 16)
    prediction[..., :4] += 0.5
    weight[..., 8:] = 1
    assert losses.pixel_gradient_loss(prediction, target, scales=(1,), weight_map=weight) == 0
    weight[..., :4] = 1
    assert losses.pixel_gradient_loss(prediction, target, scales=(1,), weight_map=weight).item() > 0.1


def test_image_losses_refuse_what_does_not_fit():
    image = rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"must both be \(B, C, H, W\)"):
        losses.pixel_gradient_loss(image, rand(1, 3, 8, 9))
    with pytest.raises(ValueError, match=r"must both be \(B, 3, H, W\)"):
        losses.perceptual_pyramid_loss(image[0], image[0], two_maps)
    with pytest.raises(ValueError, match=r"`weight_map` is \(1, 3, 8, 8\), must be \(1, 1, 8, 8\)"):
        losses.pixel_gradient_loss(image, image, weight_map=image)
    with pytest.raises(ValueError, match="`weights` has 3 values, must have 2"):
        losses.perceptual_pyramid_loss(image, image, two_maps, weights=(1, 1, 1))
    for scale in (0.3, 2, 0, -1):
        with pytest.raises(ValueError, match=f"`scales` has {scale}, must be 1 over a whole number"):
            losses.pixel_gradient_loss(image, image, scales=(scale,))


# tracks


def test_perfect_tracks_have_no_loss():
    track = randn(2, 5, 6)
    assert losses.masked_mse(track, track) == 0
    assert losses.smoothness_loss(track[:, :1].expand(-1, 5, -1)) == 0


def test_mse_without_padding_is_the_mean():
    first, second = randn(2, 5, 6), randn(2, 5, 6, seed=1)
    torch.testing.assert_close(losses.masked_mse(first, second), (first - second).square().mean())


def test_kl_of_the_standard_normal_is_zero_and_else_that_of_torch():
    zero = torch.zeros(1, 4, 8)
    assert losses.kl_divergence(zero, zero) == 0
    mu, logvar = randn(3, 4, 8), randn(3, 4, 8, seed=1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(losses.kl_divergence(mu, logvar), expected.mean())


def test_smoothness_is_the_mean_squared_step_between_frames_that_both_count():
    track = torch.tensor([0.0, 1, 3, 100]).view(1, 4, 1)
    assert losses.smoothness_loss(track, prefix_mask([3], 4)).item() == pytest.approx((1 + 4) / 2)
    assert losses.smoothness_loss(track, prefix_mask([1], 4)).item() == 0


def test_ramp_is_continuous_rises_and_ends_at_one():
    weights = [losses.annealed_weight(epoch) for epoch in range(0, 100_000, 500)]
    assert weights[:21] == [0.0] * 21 and weights[-1] == 1 and losses.annealed_weight(8e4) == 1
    assert losses.annealed_weight(45_000) == 0.5
    steps = [b - a for a, b in zip(weights, weights[1:], strict=False)]
    assert min(steps) >= 0 and max(steps) <= 500 / 7e4 + 1e-9


def test_ramp_of_no_length_is_a_step():
    assert [losses.annealed_weight(epoch, start=2, ramp=0) for epoch in (1, 2, 3)] == [0, 0, 1]
    assert losses.annealed_weight(0, start=0, ramp=10) == 0


def test_negative_ramp_is_refused():
    with pytest.raises(ValueError, match="`ramp` is -1"):
        losses.annealed_weight(3, ramp=-1)


def test_undecided_discriminator_has_the_loss_of_a_coin():
    undecided = torch.zeros(2, 5)
    assert losses.discriminator_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert losses.generator_adversarial_loss(undecided).item() == pytest.approx(math.log(2))


def test_discriminator_and_generator_want_opposite_verdicts_on_generated_tracks():
    real, fake = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
    losses.discriminator_loss(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()
    other = torch.zeros(1, 3, requires_grad=True)
    losses.generator_adversarial_loss(other).backward()
    assert (other.grad < 0).all()


def test_certain_verdicts_stay_finite():
    certain = torch.full((1, 3), 1e4)
    assert losses.discriminator_loss(certain, -certain) == 0
    assert losses.discriminator_loss(-certain, certain).item() == pytest.approx(2e4)


def test_track_losses_refuse_what_does_not_fit():
    track, mask = randn(2, 5, 6), torch.ones(2, 5)
    for loss in (losses.masked_mse, losses.kl_divergence):
        with pytest.raises(ValueError, match="must both be"):
            loss(track, track[:1])
        with pytest.raises(ValueError, match=r"the mask is torch.float32 \(2, 5\), must be torch.bool \(2, 5\)"):
            loss(track, track, mask)
    for sequence in (track[:, :1], track[0]):
        with pytest.raises(ValueError, match="`sequence` is .* F at least 2"):
            losses.smoothness_loss(sequence)
    with pytest.raises(ValueError, match="the mask is"):
        losses.smoothness_loss(track, mask[:, 1:].bool())
    with pytest.raises(ValueError, match="must both be"):
        losses.discriminator_loss(track[..., 0], track[:, 1:, 0])
    with pytest.raises(ValueError, match="the mask is"):
        losses.generator_adversarial_loss(track[..., 0], mask[:, 1:].bool())


# motion


def test_perfect_denoising_has_no_loss():
    target, clean = randn(2, 3, 4, 8, 8), randn(2, 3, 4, 8, 8, seed=1)
    terms = motion_losses.denoising_losses(target, target, clean, clean, {"mouth": torch.ones(2, 1, 4, 8, 8)})
    assert terms.keys() == {"denoising", "flow", "occlusion", "flow_gradient", "part_motion", "mouth"}
    assert not any(terms.values())


def test_denoising_terms_are_means_over_their_own_part():
    prediction, target, guess, clean = (randn(2, 3, 4, 8, 8, seed=seed) for seed in range(4))
    mouth, eyes = torch.zeros(2, 2, 1, 4, 8, 8)
    mouth[..., 2:4, 3:5] = 1
    eyes[..., 1, :] = 1
    terms = motion_losses.denoising_losses(prediction, target, guess, clean, {"mouth": mouth, "eyes": eyes})
    error = (prediction - target).square()
    torch.testing.assert_close(terms["denoising"], error.mean())
    torch.testing.assert_close(terms["mouth"], error[..., 2:4, 3:5].mean())
    torch.testing.assert_close(terms["eyes"], error[..., 1, :].mean())
    torch.testing.assert_close(terms["flow"], (guess - clean)[:, :2].square().mean())
    occlusion = ((guess[:, 2] + 1) / 2 - (clean[:, 2] + 1) / 2).square().mean()
    torch.testing.assert_close(terms["occlusion"], occlusion)


def test_flow_gradient_sees_a_jump_but_no_shift_and_counts_it_twice_inside_a_mask():
    flow, nowhere = randn(2, 2, 3, 8, 8), {"mouth": torch.zeros(2, 1, 3, 8, 8)}
    assert motion_losses.flow_gradient_loss(flow + 0.5, flow, nowhere) < 1e-12
    jump = flow.clone()
    jump[..., 4:, :] += 0.5  # one row of steps of seven, the same in both channels and all columns
    torch.testing.assert_close(motion_losses.flow_gradient_loss(jump, flow, nowhere), torch.tensor(0.25 / 7))
    mouth = {"mouth": torch.zeros(2, 1, 3, 8, 8)}
    mouth["mouth"][..., 3, 2:6] = 1
    torch.testing.assert_close(motion_losses.flow_gradient_loss(jump, flow, mouth), torch.tensor(0.25 / 7 + 0.25))


def test_part_motion_sees_a_stretch_of_a_part_but_nothing_outside_of_it_and_no_noise_that_averages_out():
    flow, mask = randn(2, 2, 3, 16, 16), torch.zeros(2, 1, 3, 16, 16)
    mask[..., 4:8, 6:10] = 1
    inside = mask.expand_as(flow) > 0
    assert motion_losses.part_motion_loss(torch.where(inside, flow, flow + 9.0), flow, {"mouth": mask}) < 1e-10
    # rows 4 to 7, -1.5 to 1.5 cells from the middle: their standard deviation is 1.25 ** 0.5
    opened = flow.clone()
    opened[:, 1] += 0.2 * (torch.arange(16.0)[:, None] - 5.5)
    torch.testing.assert_close(
        motion_losses.part_motion_loss(opened, flow, {"mouth": mask}), torch.tensor(0.04 * 1.25), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        motion_losses.part_motion_loss(flow + 0.3, flow, {"mouth": mask, "eyes": mask}), torch.tensor(4 * 0.09)
    )
    chequered = flow + 0.5 * (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    assert motion_losses.part_motion_loss(chequered, flow, {"mouth": mask}) < 0.01


def test_part_motion_of_a_single_cell_or_of_no_part_is_finite():
    flow, cell, nothing = randn(1, 2, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8)
    cell[..., 3, 3] = 1
    prediction = (flow + 1).requires_grad_()
    loss = motion_losses.part_motion_loss(prediction, flow, {"mouth": cell, "eyes": nothing})
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(2.0))
    assert prediction.grad.isfinite().all()


def test_what_stands_still_is_compared_by_its_absolute_error_alone():
    flow, stands_still = torch.zeros(2, 2, 3, 8, 8), torch.zeros(2, 1, 3, 8, 8, dtype=torch.bool)
    stands_still[..., 4:, :] = True
    prediction = torch.where(stands_still, 0.25, 9.0).expand_as(flow).clone().requires_grad_()
    loss = motion_losses.still_loss(prediction, flow, stands_still)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(0.25))
    # it pulls alike however little there is left
    assert len(prediction.grad.unique()) == 2
    assert motion_losses.still_loss(prediction, flow, torch.zeros_like(stands_still)) == 0


def test_sample_weights_scale_what_compares_with_the_target():
    prediction, target, guess, clean = (randn(2, 3, 4, 8, 8, seed=seed) for seed in range(4))
    mask = {"mouth": torch.ones(2, 1, 4, 8, 8)}
    plain = motion_losses.denoising_losses(prediction, target, guess, clean, mask)
    weighted = motion_losses.denoising_losses(prediction, target, guess, clean, mask, torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(weighted["denoising"], 1.5 * (prediction - target)[0].square().mean())
    torch.testing.assert_close(weighted["mouth"], weighted["denoising"])
    assert weighted["flow"] == plain["flow"] and weighted["occlusion"] == plain["occlusion"]


def test_denoising_losses_refuse_what_does_not_fit():
    motion, mouth = randn(2, 3, 4, 8, 8), torch.ones(2, 1, 4, 8, 8)
    mask = {"mouth": mouth}
    with pytest.raises(ValueError, match=r"must both be \(B, 3, F, h, w\)"):
        motion_losses.denoising_losses(motion, motion[:1], motion, motion, mask)
    with pytest.raises(ValueError, match=r"must both be \(B, 3, F, h, w\)"):
        motion_losses.denoising_losses(motion, motion, motion, motion[:, :, 1:], mask)
    with pytest.raises(ValueError, match=r"`masks` has \(2, 4, 8, 8\) for 'eyes', must be \(2, 1, 4, 8, 8\)"):
        motion_losses.denoising_losses(motion, motion, motion, motion, mask | {"eyes": mouth[:, 0]})
    with pytest.raises(ValueError, match=r"`sample_weights` is \(2, 1\), must be \(2,\)"):
        motion_losses.denoising_losses(motion, motion, motion, motion, mask, torch.ones(2, 1))


def test_total_is_the_weighted_sum_of_exactly_the_named_terms():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert losses.weighted_total(terms, {"b": 0.5, "a": 10}).item() == 21.5
    for weights in ({"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {}):
        with pytest.raises(ValueError, match="`weights` is for .*, must be for exactly the terms a, b"):
            losses.weighted_total(terms, weights)
    with pytest.raises(ValueError, match="exactly the terms nothing"):
        losses.weighted_total({}, {})
