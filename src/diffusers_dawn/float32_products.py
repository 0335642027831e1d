"""Matrix products in float32 by the faster of torch's libraries, where that computes them to the last digit.

On x86 torch multiplies float32 matrices with MKL, which on processors that are not Intel's does without AVX-512, and
convolves with oneDNN, which uses it: twice as fast. torch hands products to oneDNN, too, once it may compute them in
bfloat16. Processors that have no matrix units for bfloat16 compute them in float32 all the same, and only there
`fast_products` says so; whether they do is tried, not guessed.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

# (rows, channels in, channels out) of the products that are tried
TRIED_SHAPES = ((1, 64, 64), (40, 32, 120), (512, 256, 64), (4096, 64, 768))
# how torch says that products in float32 are computed in float32
EXACT_PRECISIONS = ("none", "ieee")

_lock = threading.Lock()
_num_inside = 0
_precision_outside = "none"


@contextmanager
def fast_products() -> Iterator[None]:
    """Let oneDNN compute float32 matrix products on the CPU, if it does so exactly and nobody chose otherwise.

    The setting is torch's, of the whole process; threads that multiply meanwhile get exact products as well. The
    last that leaves takes it back. `torch.get_float32_matmul_precision` cannot be asked meanwhile.
    """
    global _num_inside, _precision_outside
    if not exact_in_onednn():
        yield
        return
    settings = torch.backends.mkldnn.matmul
    with _lock:
        if _num_inside == 0:
            _precision_outside = settings.fp32_precision
            if _precision_outside in EXACT_PRECISIONS:
                settings.fp32_precision = "bf16"
        _num_inside += 1
    try:
        yield
    finally:
        with _lock:
            _num_inside -= 1
            if _num_inside == 0:
                settings.fp32_precision = _precision_outside


def with_fast_products(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function inside `fast_products`, unless it is compiled, or records gradients, which are computed later."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return function(*args, **kwargs)
        with fast_products():
            return function(*args, **kwargs)

    return run


@functools.cache
def exact_in_onednn() -> bool:
    """Try whether oneDNN, told that it may compute products in bfloat16, keeps all digits of float32."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if settings is None or not torch.backends.mkldnn.is_available():
        return False
    with _lock:
        before = settings.fp32_precision
        settings.fp32_precision = "bf16"
        try:
            return all(_keeps_digits(*shape) for shape in TRIED_SHAPES)
        finally:
            settings.fp32_precision = before


def _keeps_digits(num_rows: int, channels_in: int, channels_out: int) -> bool:
    # twelve binary digits, where bfloat16 has seven and TF32 ten; times one, and plus zeros, they are exact
    odd = torch.arange(num_rows * channels_in, device="cpu").view(num_rows, channels_in) % 2048 * 2 + 1
    values = 1 + odd * 2.0**-12
    ones = torch.eye(channels_in, device="cpu")[:, torch.arange(channels_out, device="cpu") % channels_in]
    expected = values[:, torch.arange(channels_out, device="cpu") % channels_in]
    single = values @ ones
    batched = torch.bmm(values.expand(2, -1, -1), ones.expand(2, -1, -1))
    return torch.equal(single, expected) and all(torch.equal(product, expected) for product in batched)
