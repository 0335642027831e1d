"""Refuse NaN and infinity, which would give a black video, and say where they came from."""

from collections.abc import Mapping

import torch


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
