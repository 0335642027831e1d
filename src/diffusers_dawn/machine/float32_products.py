"""Use oneDNN for float32 products on CPUs where it is bit-exact.

On x86 torch multiplies float32 matrices with MKL, which on processors that are not Intel's does without AVX-512, and
convolves with oneDNN, which uses it: twice as fast. torch hands products to oneDNN, too, once it may compute them in
bfloat16. Processors that have no matrix units for bfloat16 compute them in float32 all the same, and only there
`fast_products` says so; whether they do is tried, not guessed.
"""

import functools
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound=torch.nn.Module)

# (rows, channels in, channels out) of the products that are tried
TRIED_SHAPES = ((40, 32, 120), (512, 256, 64), (4096, 64, 768))
# how torch says that nobody has chosen how products in float32 are computed, and that bfloat16 is allowed inside
NOT_CHOSEN, ALLOWED = "none", "bf16"

_lock = threading.Lock()
_exact: bool | None = None  # not tried yet
_num_inside = 0
_changed = False


@contextmanager
def fast_products() -> Iterator[None]:
    """Let oneDNN compute float32 matrix products on the CPU, if it does so exactly and nobody chose otherwise.

    The setting is torch's, of the whole process; threads that multiply meanwhile get exact products as well. The
    last that leaves takes it back. `torch.get_float32_matmul_precision`, which compilers ask, fails meanwhile.
    """
    global _num_inside, _changed
    if not exact_in_onednn():
        yield
        return
    with _lock:
        if _num_inside == 0:
            _changed = _allow()
        _num_inside += 1
    try:
        yield
    finally:
        with _lock:
            _num_inside -= 1
            if _num_inside == 0 and _changed:
                _take_back()
                _changed = False


@contextmanager
def without_fast_products() -> Iterator[None]:
    """Leave products to MKL for a while, inside `fast_products`: for many small ones oneDNN's set-up takes longer.

    Both are exact, so what other threads compute meanwhile is, too.
    """
    with _lock:
        paused = _changed
        if paused:
            _take_back()
    try:
        yield
    finally:
        with _lock:
            if paused and _changed:
                _allow()


def with_fast_products(function: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[N, P], R]:
    """Run a function of a network inside `fast_products`, where that helps and hurts nobody.

    That is: on a CPU; not while gradients are recorded, whose products come later; not in compiled code, nor with
    parts that are compiled, because compilers ask for torch's setting.
    """

    @functools.wraps(function)
    def run(network: N, *args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not _runs_eagerly_on_cpu(network):
            return function(network, *args, **kwargs)
        with fast_products():
            return function(network, *args, **kwargs)

    return run


def exact_in_onednn() -> bool:
    """Try whether oneDNN, allowed to compute products in bfloat16, keeps all digits of float32 on this processor.

    It is tried once, when nobody has chosen how products are computed; until then the answer is no.
    """
    global _exact
    with _lock:
        if _exact is None:
            _exact = _try_onednn()
        return bool(_exact)


def _try_onednn() -> bool | None:
    # None: not now
    has_setting = hasattr(torch.backends.mkldnn, "matmul")  # since torch 2.9
    if not has_setting or not torch.backends.mkldnn.is_available() or platform.machine() not in {"x86_64", "AMD64"}:
        return False
    # those with matrix units for bfloat16 would use them; nobody's products are rounded for a trial
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return False
    if not _allow():
        return None
    try:
        with torch.autocast("cpu", enabled=False):
            return all(_keeps_digits(*shape) for shape in TRIED_SHAPES)
    finally:
        _take_back()


def _allow() -> bool:
    settings = torch.backends.mkldnn.matmul
    if settings.fp32_precision != NOT_CHOSEN:
        return False
    settings.fp32_precision = ALLOWED
    return True


def _take_back() -> None:
    settings = torch.backends.mkldnn.matmul
    if settings.fp32_precision == ALLOWED:  # else someone has chosen meanwhile
        settings.fp32_precision = NOT_CHOSEN


def _runs_eagerly_on_cpu(network: torch.nn.Module) -> bool:
    parameter = next(network.parameters(), None)
    if parameter is None or parameter.device.type != "cpu":
        return False
    # compiled by `compile`, or wrapped by `torch.compile`
    return not any(module._compiled_call_impl or "_orig_mod" in module._modules for module in network.modules())


def _keeps_digits(num_rows: int, channels_in: int, channels_out: int) -> bool:
    # all 24 binary digits, where bfloat16 has eight and TF32 eleven; times one, and plus zeros, they are exact
    odd = torch.arange(num_rows * channels_in, device="cpu").view(num_rows, channels_in) % 2048 * 2 + 1
    values = 1 + odd.to(torch.float32) * 2.0**-23
    column = torch.arange(channels_out, device="cpu") % channels_in
    ones = torch.eye(channels_in, device="cpu", dtype=torch.float32)[:, column]
    products = (values @ ones, *torch.bmm(values.expand(2, -1, -1), ones.expand(2, -1, -1)))
    return all(torch.equal(product, values[:, column]) for product in products)
