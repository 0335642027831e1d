"""Products by oneDNN: exact wherever they are allowed, and allowed only inside."""

import platform
import threading

import pytest
import torch
from torch import nn

from diffusers_dawn.machine import float32_products
from diffusers_dawn.machine.float32_products import (
    exact_in_onednn,
    fast_products,
    with_fast_products,
    without_fast_products,
)
from pipeline_calls import run

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
@pytest.mark.parametrize("chosen", ["ieee", "tf32"])
def test_choice_of_the_user_stays(settings, exact, chosen):
    settings.fp32_precision = chosen
    with fast_products():
        assert settings.fp32_precision == chosen
    assert settings.fp32_precision == chosen


@needs_setting
def test_choice_that_is_made_inside_stays(settings, exact):
    with fast_products():
        settings.fp32_precision = "ieee"
    assert settings.fp32_precision == "ieee"


@needs_setting
def test_fast_products_pause_inside_and_nothing_changes_outside(settings, exact):
    with fast_products():
        with without_fast_products():
            assert settings.fp32_precision == "none"
        assert settings.fp32_precision == "bf16"
    with without_fast_products():
        assert settings.fp32_precision == "none"
    assert settings.fp32_precision == "none"


@needs_setting
def test_choice_that_is_made_while_fast_products_pause_stays(settings, exact):
    with fast_products():
        with without_fast_products():
            settings.fp32_precision = "ieee"
        assert settings.fp32_precision == "ieee"
    assert settings.fp32_precision == "ieee"


@pytest.fixture
def new_trial(monkeypatch):
    monkeypatch.setattr(float32_products, "_exact", None)


@needs_setting
def test_nothing_changes_where_digits_are_lost(settings, new_trial, monkeypatch):
    monkeypatch.setattr(float32_products, "_keeps_digits", lambda *_: False)
    with fast_products():
        assert settings.fp32_precision == "none"
    assert settings.fp32_precision == "none"


@needs_setting
def test_trial_waits_until_nobody_has_chosen(settings, new_trial, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(float32_products, "_keeps_digits", lambda *_: settings.fp32_precision == "bf16")
    settings.fp32_precision = "ieee"
    assert not exact_in_onednn()
    settings.fp32_precision = "none"
    assert exact_in_onednn() == (platform.machine() in {"x86_64", "AMD64"})


@needs_setting
def test_nothing_is_tried_where_bfloat16_has_matrix_units(new_trial, monkeypatch):
    def lose_digits(*_):
        raise AssertionError("tried")

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    monkeypatch.setattr(float32_products, "_keeps_digits", lose_digits)
    assert not exact_in_onednn()


def test_lost_digits_are_noticed(monkeypatch):
    assert float32_products._keeps_digits(40, 32, 120)
    exactly = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: exactly(a.bfloat16(), b.bfloat16()).float())
    assert not float32_products._keeps_digits(40, 32, 120)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_trial_is_in_float32_whatever_is_the_default(monkeypatch, default):
    seen = []
    exactly = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: seen.append((a.dtype, b.dtype)) or exactly(a, b))
    torch.set_default_dtype(default)
    try:
        assert float32_products._keeps_digits(40, 32, 120)
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == [(torch.float32, torch.float32)]


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


def precision_inside(settings, network) -> str:
    return with_fast_products(lambda network: settings.fp32_precision)(network)


@needs_setting
@pytest.mark.parametrize(("grad_enabled", "precision"), [(False, "bf16"), (True, "none")])
def test_wrapped_function_runs_inside_unless_gradients_are_recorded(settings, exact, grad_enabled, precision):
    with torch.set_grad_enabled(grad_enabled):
        assert precision_inside(settings, nn.Linear(1, 1)) == precision


@needs_setting
@torch.no_grad()
def test_networks_that_are_elsewhere_or_compiled_run_outside(settings, exact):
    compiled = nn.Sequential(nn.Linear(1, 1))
    compiled[0].compile()
    wrapped = nn.Sequential(torch.compile(nn.Linear(1, 1)))
    for network in (compiled, wrapped, nn.Linear(1, 1, device="meta"), nn.Identity()):
        assert precision_inside(settings, network) == "none"


@needs_setting
@torch.no_grad()
@pytest.mark.parametrize("part", ["denoiser", "pbnet", "audio encoder"])
def test_networks_of_the_pipeline_run_inside(pipe, settings, exact, part):
    watched = {"denoiser": pipe.unet, "pbnet": pipe.pbnet, "audio encoder": pipe.audio_encoder}[part]
    seen = []
    handles = [
        module.register_forward_pre_hook(lambda *_: seen.append(settings.fp32_precision))
        for module in watched.modules()
        if isinstance(module, nn.Linear)
    ]
    run(pipe)
    for handle in handles:
        handle.remove()
    assert set(seen) == {"bf16"}
    assert settings.fp32_precision == "none"
