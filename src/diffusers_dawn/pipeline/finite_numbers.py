"""Refuse tensors that hold no real numbers, and NaN and infinity, which would give a black video."""

from collections.abc import Mapping

import torch


def check_given(values: torch.Tensor, name: str, shape: tuple[int, ...] | None = None) -> None:
    """Refuse what is given in place of a tensor of finite numbers.

    Args:
        values: The tensor.
        name: Argument name for the message.
        shape: What its shape must be; None: any.

    Raises:
        ValueError: It is no tensor or of another shape, holds truth values or complex numbers, is sparse or has no
            values, or they are not finite.
    """
    if not torch.is_tensor(values) or shape not in (None, tuple(values.shape)):
        given = tuple(values.shape) if torch.is_tensor(values) else f"a {type(values).__name__}"
        raise ValueError(f"`{name}` is {given}, must be a tensor" + (f" {shape}" if shape else ""))
    is_dense = values.layout == torch.strided and values.device.type != "meta" and not values.is_quantized
    if not is_dense or values.is_complex() or values.dtype == torch.bool:
        kind = f"{values.dtype}, {values.layout}, on {values.device}".replace("torch.", "")
        raise ValueError(f"`{name}` is a tensor of {kind}, must be a dense one of real numbers")
    # what is finite is not defined for floats of eight bits
    if not torch.isfinite(values.float() if values.element_size() == 1 else values).all():
        raise ValueError(f"`{name}` holds values that are not finite")


def check_finite(values: torch.Tensor, what: str, parts: Mapping[str, torch.nn.Module], inputs: str) -> None:
    """Refuse a stage's result that is not finite.

    Args:
        values: What it made.
        what: Its name, for the message.
        parts: The networks that made it, by name.
        inputs: Names of what came in.

    Raises:
        ValueError: It holds NaN or infinity; the message says whether the weights do, or how large what came in is.
    """
    if torch.isfinite(values).all():
        return
    bad = [name for name, part in parts.items() if not _has_finite_weights(part)]
    if bad:
        reason = f"so do the weights of {' and '.join(f'`{name}`' for name in bad)}"
    else:
        dtypes = {str(next(part.parameters()).dtype).removeprefix("torch.") for part in parts.values()}
        reason = f"the weights are finite, so {inputs} is too large for {' and '.join(sorted(dtypes))}"
    raise ValueError(f"{what} holds numbers that are not finite; {reason}")


def _has_finite_weights(part: torch.nn.Module) -> bool:
    tensors = (tensor for tensor in part.state_dict().values() if tensor.is_floating_point())
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
