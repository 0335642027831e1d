import pytest
import torch

from training.evaluation.metrics.image_quality import gradient_energy, psnr, ssim


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


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
