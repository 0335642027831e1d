"""Products by oneDNN: exact wherever they are allowed, and allowed only inside."""

import threading

import pytest
import torch

from diffusers_dawn import float32_products
from diffusers_dawn.float32_products import exact_in_onednn, fast_products, with_fast_products
from diffusers_dawn.random_checkpoint import random_pipeline

needs_setting = pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="torch before 2.9 has no such setting"
)


@pytest.fixture
def settings():
    yield torch.backends.mkldnn.matmul
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(float32_products, "exact_in_onednn", lambda: True)


@pytest.mark.parametrize("shape", [(3, 7, 5), (200, 64, 768), (33, 1024, 40)])
def test_products_inside_keep_the_digits_of_float32(shape):
    generator = torch.Generator().manual_seed(0)
    rows, inner, columns = shape
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    with fast_products():
        product = a @ b
    expected = a.double() @ b.double()
    # bfloat16 would be off by 2**-9 of terms of order 1, float32 by 2**-24 of sums of order sqrt(inner)
    torch.testing.assert_close(product.double(), expected, atol=1e-5 * inner**0.5, rtol=0)


@needs_setting
def test_setting_is_changed_inside_and_as_before_outside(settings, exact):
    with fast_products():
        assert settings.fp32_precision == "bf16"
        with fast_products():
            pass
        assert settings.fp32_precision == "bf16"
    assert settings.fp32_precision == "none"


@needs_setting
def test_setting_is_as_before_after_an_error(settings, exact):
    with pytest.raises(RuntimeError, match="stop"), fast_products():
        raise RuntimeError("stop")
    assert settings.fp32_precision == "none"


@needs_setting
def test_choice_of_the_user_stays(settings, exact):
    settings.fp32_precision = "tf32"
    with fast_products():
        assert settings.fp32_precision == "tf32"
    assert settings.fp32_precision == "tf32"


@needs_setting
def test_nothing_changes_where_digits_are_lost(settings, monkeypatch):
    monkeypatch.setattr(float32_products, "_keeps_digits", lambda *_: False)
    exact_in_onednn.cache_clear()
    try:
        with fast_products():
            assert settings.fp32_precision == "none"
    finally:
        exact_in_onednn.cache_clear()


def test_lost_digits_are_noticed(monkeypatch):
    assert float32_products._keeps_digits(40, 32, 120)
    rounded = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: rounded(a.bfloat16(), b.bfloat16()).float())
    assert not float32_products._keeps_digits(40, 32, 120)


@needs_setting
def test_last_thread_that_leaves_takes_the_setting_back(settings, exact):
    entered, may_leave = threading.Event(), threading.Event()

    def stay():
        with fast_products():
            entered.set()
            may_leave.wait(10)

    other = threading.Thread(target=stay)
    with fast_products():
        other.start()
        assert entered.wait(10)
    assert settings.fp32_precision == "bf16"
    may_leave.set()
    other.join()
    assert settings.fp32_precision == "none"


@needs_setting
@pytest.mark.parametrize(("grad_enabled", "precision"), [(False, "bf16"), (True, "none")])
def test_wrapped_function_runs_inside_unless_gradients_are_recorded(settings, exact, grad_enabled, precision):
    with torch.set_grad_enabled(grad_enabled):
        assert with_fast_products(lambda: settings.fp32_precision)() == precision


@needs_setting
@torch.no_grad()
def test_denoiser_runs_inside(settings, exact):
    denoiser, seen = random_pipeline("tiny").unet.eval(), []
    denoiser.temporal_attention_in.register_forward_pre_hook(lambda *_: seen.append(settings.fp32_precision))
    denoiser(
        torch.zeros(1, 3, 2, 16, 16),
        5,
        torch.zeros(1, 32, 16, 16),
        torch.ones(1, 1, 64, 64),
        torch.zeros(1, 2, 32),
        torch.zeros(1, 2, 6),
        torch.zeros(1, 2, 2),
    )
    assert seen == ["bf16"]
    assert settings.fp32_precision == "none"
