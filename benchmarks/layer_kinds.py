"""What each kind of layer costs in one call: seconds, or arithmetic."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

KIND_OF_FUNCTION = {
    torch.conv2d: "convolutions",
    torch.conv3d: "convolutions",
    torch.conv_transpose2d: "convolutions",
    torch.conv_transpose3d: "convolutions",
    functional.linear: "convolutions",  # by itself it is a 1x1 convolution; those inside attentions count as attention
    functional.batch_norm: "norms",
    functional.grid_sample: "warping",
}
KIND_OF_CLASS = {
    "TemporalAttention": "temporal attention",
    "SpatialAttention": "spatial attention",
    "SpatialLinearAttention": "spatial attention",
    "ConditionMixer": "cross-attention",
    "VideoGroupNorm": "norms",
    "PlainTemporalAttention": "temporal attention",
    "PlainSpatialAttention": "spatial attention",
    "PlainCrossAttention": "cross-attention",
    "PlainGroupNorm": "norms",
}
KINDS_OF_DENOISING = ("convolutions", "temporal attention", "spatial attention", "cross-attention", "norms")
KINDS_OF_DECODING = ("convolutions", "warping", "norms")


class KindMeter(TorchFunctionMode):
    """Add up what each kind of layer takes; the outermost kind counts.

    Args:
        network: Module whose layers are watched while the mode is active.
        read: Tells how much of it, seconds or operations, was taken so far.
    """

    def __init__(self, network: nn.Module, read: Callable[[], float]) -> None:
        super().__init__()
        self.taken: Counter[str] = Counter()
        self._read = read
        self._open: list[tuple[str, float]] = []
        self._handles = []
        for module in network.modules():
            if kind := KIND_OF_CLASS.get(type(module).__name__):
                self._handles.append(module.register_forward_pre_hook(lambda *_, kind=kind: self._enter(kind)))
                self._handles.append(module.register_forward_hook(lambda *_: self._leave()))

    def __exit__(self, *exception: object) -> None:
        """Stop watching."""
        super().__exit__(*exception)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        """Call a torch function, measured if it is a layer by itself."""
        kind = KIND_OF_FUNCTION.get(function)
        if kind is None or self._open:
            return function(*args, **(kwargs or {}))
        self._enter(kind)
        result = function(*args, **(kwargs or {}))
        self._leave()
        return result

    def _enter(self, kind: str) -> None:
        self._open.append((kind, 0.0 if self._open else self._read()))

    def _leave(self) -> None:
        kind, before = self._open.pop()
        if not self._open:
            self.taken[kind] += self._read() - before


def by_kind(
    network: nn.Module, function: Callable[[], object], kinds: Sequence[str], read: Callable[[], float]
) -> list[float]:
    """Measure one call with every layer watched; returns what each kind takes, what all others take, and the sum."""
    before = read()
    with KindMeter(network, read) as meter:
        function()
    total = read() - before
    taken = [float(meter.taken[kind]) for kind in kinds]
    return [*taken, total - sum(taken), total]


def arithmetic_by_kind(network: nn.Module, function: Callable[[], object], kinds: Sequence[str]) -> list[float]:
    """Count the operations of matrix products and convolutions in one call, a multiply-add as two [GFLOP]."""
    with FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops}) as counter:
        counts = by_kind(network, function, kinds, counter.get_total_flops)
    return [count / 1e9 for count in counts]


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    # torch counts it on GPUs only
    return sdpa_flop_count(query, key, value)
