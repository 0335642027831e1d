import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.mouth import mouth_opening
from training.evaluation.metrics import (
    best_lag,
    blink_rate,
    gradient_energy,
    pearson_correlation,
    psnr,
    ssim,
)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def blinking(
    num_frames: int, closed: list[tuple[int, int]], openness: float = 0.3, shut: float = 0.05
) -> torch.Tensor:
    """Eyes that are shut in the given ranges of frames."""
    blink = torch.full((num_frames, 2), openness)
    for start, stop in closed:
        blink[start:stop] = shut
    return blink


def test_psnr_of_a_known_error():
    image = rand(2, 5, 3, 8, 8) * 0.5
    torch.testing.assert_close(psnr(image + 0.1, image), torch.full((2, 5), 20.0), atol=1e-3, rtol=0)
    assert psnr(image, image).isposinf().all()


def test_psnr_in_a_box_sees_only_what_the_box_touches():
    image = torch.zeros(1, 3, 16, 16)
    wrong = image.clone()
    wrong[..., 4:8, 2:10] = 0.1
    assert psnr(wrong, image, torch.tensor([2.0, 10, 4, 8])).item() == pytest.approx(20, abs=1e-4)
    assert psnr(wrong, image, (2.3, 9.5, 4.9, 7.1)).item() == pytest.approx(20, abs=1e-4)
    assert psnr(wrong, image, torch.tensor([10, 16, 0, 16])).isposinf().all()


def test_every_frame_may_have_its_own_box():
    image = torch.zeros(2, 3, 16, 16)
    wrong = image.clone()
    wrong[0, :, :8], wrong[1, :, 8:] = 0.1, 0.1
    boxes = torch.tensor([[0, 16, 0, 8], [0, 16, 0, 8]])
    found = psnr(wrong, image, boxes)
    assert found[0].item() == pytest.approx(20, abs=1e-4) and found[1].isposinf()


def test_ssim_of_identical_frames_is_one():
    image = rand(2, 3, 3, 16, 20)
    torch.testing.assert_close(ssim(image, image), torch.ones(2, 3))


def test_ssim_of_one_window_is_the_formula():
    first, second = rand(1, 11, 11).double(), rand(1, 11, 11, seed=1).double()
    offsets = torch.arange(-5, 6)
    window = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2)).double()
    window /= window.sum()
    mean1, mean2 = (window * first).sum(), (window * second).sum()
    variance1, variance2 = (window * (first - mean1) ** 2).sum(), (window * (second - mean2) ** 2).sum()
    covariance = (window * (first - mean1) * (second - mean2)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    expected /= (mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2)
    assert ssim(first, second).item() == pytest.approx(expected.item(), abs=1e-5)


def test_ssim_falls_with_noise_and_forgives_brightness():
    image = rand(1, 3, 32, 32) * 0.5 + 0.2
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    little, much = ssim(image + 0.02 * noise, image), ssim(image + 0.2 * noise, image)
    assert 1 > little > much and ssim(image + 0.1, image) > much


def test_ssim_in_a_box_sees_only_windows_centred_there():
    image, wrong = rand(1, 3, 40, 40), rand(1, 3, 40, 40)
    wrong[..., 30:, :] = 0
    assert ssim(wrong, image, torch.tensor([0, 40, 0, 20])).item() == pytest.approx(1)
    assert ssim(wrong, image, torch.tensor([0, 40, 28, 40])) < 0.9


def test_gradient_energy_of_stripes_is_known_and_blur_lowers_it():
    stripes = (torch.arange(8) % 2).float().expand(2, 3, 8, 8)
    torch.testing.assert_close(gradient_energy(0.5 * stripes), torch.full((2,), 0.25))
    image = rand(1, 3, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(image, 3, stride=1)
    assert gradient_energy(blurred) < 0.3 * gradient_energy(image)
    assert gradient_energy(torch.full((3, 4, 4), 0.7)) == 0


@given(scale=st.floats(0.01, 100), offset=st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_correlation_does_not_depend_on_scale_and_offset(scale, offset):
    track = rand(50).double()
    assert pearson_correlation(track, scale * track + offset).item() == pytest.approx(1, abs=1e-6)
    assert pearson_correlation(track, -scale * track + offset).item() == pytest.approx(-1, abs=1e-6)


def test_correlation_is_that_of_numpy_for_each_track():
    first, second = rand(3, 40), rand(3, 40, seed=1)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_correlation(first.numpy(), second.numpy()), expected, atol=1e-6)


def test_correlation_with_a_constant_is_undefined():
    assert pearson_correlation(torch.full((40,), 0.1), rand(40)).isnan()


@pytest.mark.parametrize("lag", [-5, -1, 0, 3])
def test_lag_is_found_and_positive_where_the_second_comes_later(lag):
    track = rand(80)
    first, second = track[10:60], track[10 - lag : 60 - lag]
    found, correlation = best_lag(first, second, 8)
    assert found == lag and correlation == pytest.approx(1)


def test_of_equal_lags_the_nearest_to_zero_is_taken():
    periodic = torch.sin(torch.arange(60) * 2 * math.pi / 5)
    assert best_lag(periodic, periodic, 12)[0] == 0
    lag, correlation = best_lag(torch.full((20,), 0.3), rand(20), 4)
    assert lag == 0 and math.isnan(correlation)


def test_mouth_opening_is_the_inner_gap_over_the_height_of_the_face():
    mouth = torch.full((2, 20, 2), 50.0)
    mouth[1, 14], mouth[1, 18] = torch.tensor([47.0, 46.0]), torch.tensor([53.0, 54.0])
    opening = mouth_opening(mouth.numpy(), np.array([[10, 90, 0, 100], [10, 90, 20, 70]]))
    torch.testing.assert_close(opening, torch.tensor([0.0, 10 / 50]))


def test_hand_made_blinks_are_counted():
    assert blink_rate(blinking(250, [(20, 24), (100, 105), (200, 203)]), 25) == pytest.approx(0.3)
    assert blink_rate(blinking(250, []), 25) == 0


def test_trembling_around_the_threshold_is_one_blink():
    blink = blinking(100, [(40, 50)])
    blink[42], blink[45] = 0.16, 0.2  # above half of the usual 0.3, below 0.7 of it
    assert blink_rate(blink, 25) == pytest.approx(0.25)


def test_half_closed_eyes_and_small_dips_are_no_blink():
    assert blink_rate(blinking(100, [(30, 40)], shut=0.18), 25) == 0


def test_eyes_closed_at_the_start_blink_only_after_they_were_open():
    assert blink_rate(blinking(100, [(0, 10)]), 25) == 0
    assert blink_rate(blinking(100, [(0, 10), (50, 54)]), 25) == pytest.approx(0.25)


def test_one_eye_alone_does_not_blink():
    blink = blinking(100, [])
    blink[40:44, 0] = 0.05
    assert blink_rate(blink, 25) == 0


def test_blink_rate_counts_per_second():
    closed = [(index * 50 + 10, index * 50 + 16) for index in range(4)]
    assert blink_rate(blinking(200, closed), 50) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_and_boxes_that_do_not_fit_are_refused(metric):
    image = rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match="`prediction` is .* and `target`"):
        metric(image, image[:1])
    with pytest.raises(ValueError, match="`prediction` is"):
        metric(image[0, 0], image[0, 0])
    with pytest.raises(ValueError, match=r"`box_px` is \(3, 4\), must be \(4,\) or \(2, 4\)"):
        metric(image, image, torch.zeros(3, 4))
    for box in ((20, 30, 0, 16), (4, 4, 4, 4)):
        with pytest.raises(ValueError, match="`box_px` .* holds no pixel"):
            metric(image, image, torch.tensor(box))


def test_frames_smaller_than_a_window_are_refused():
    with pytest.raises(ValueError, match="must have at least 11 rows and columns"):
        ssim(rand(3, 10, 20), rand(3, 10, 20))
    with pytest.raises(ValueError, match="`images` is"):
        gradient_energy(rand(3, 1, 20))


def test_tracks_that_do_not_fit_are_refused():
    for first, second in ((rand(5), rand(6)), (rand(1), rand(1))):
        for metric in (pearson_correlation, lambda a, b: best_lag(a, b, 0)):
            with pytest.raises(ValueError, match="`first` is .* and `second`"):
                metric(first, second)
    with pytest.raises(ValueError, match=r"`first` is \(2, 5\), must be \(F,\)"):
        best_lag(rand(2, 5), rand(2, 5), 1)
    for max_lag in (-1, 4):
        with pytest.raises(ValueError, match=f"`max_lag` is {max_lag}, must be within 0 and 3"):
            best_lag(rand(5), rand(5), max_lag)


def test_landmarks_boxes_and_blinks_that_do_not_fit_are_refused():
    mouth, boxes = torch.zeros(2, 20, 2), torch.tensor([[0.0, 9, 0, 9]]).expand(2, -1)
    with pytest.raises(ValueError, match="`mouth_px` is"):
        mouth_opening(mouth[:, :12], boxes)
    with pytest.raises(ValueError, match="`face_box_px` is"):
        mouth_opening(mouth, boxes[:1])
    with pytest.raises(ValueError, match="`face_box_px` has a height of 0 px"):
        mouth_opening(mouth, torch.zeros(2, 4))
    for blink in (torch.zeros(5), torch.zeros(0, 2), torch.zeros(5, 3)):
        with pytest.raises(ValueError, match="`blink` is"):
            blink_rate(blink, 25)
    with pytest.raises(ValueError, match="`fps` is 0"):
        blink_rate(torch.zeros(5, 2), 0)
