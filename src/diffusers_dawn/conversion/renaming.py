"""Strict translation of state-dict keys: every published key is renamed, or ignored by name, or an error."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn


def rename_keys(
    published: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str]], ignored: Sequence[str] = ()
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Rename every key by the first rule whose pattern matches the whole key.

    Args:
        published: State dict in the published key format.
        rules: Pairs of (regular expression, replacement as for `re.sub`), tried in order.
        ignored: Regular expressions of keys that are left out on purpose; tried before the rules.

    Returns:
        The renamed state dict, and the keys that were left out.

    Raises:
        ValueError: A key matches no rule, or two keys get the same name; the message names them.
    """
    renamed: dict[str, torch.Tensor] = {}
    left_out, unknown = [], []
    for key, tensor in published.items():
        if any(re.fullmatch(pattern, key) for pattern in ignored):
            left_out.append(key)
            continue
        for pattern, replacement in rules:
            match = re.fullmatch(pattern, key)
            if match:
                new_key = match.expand(replacement)
                if new_key in renamed:
                    raise ValueError(f"two published keys become `{new_key}`; the second is `{key}`")
                renamed[new_key] = tensor
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(f"{_listed(unknown)} of the checkpoint not known: is this the right file?")
    return renamed, left_out


def load_strictly(model: nn.Module, state_dict: Mapping[str, torch.Tensor], name: str) -> None:
    """Load a state dict into a model, or say by name what does not fit.

    Args:
        model: The model to fill.
        state_dict: Renamed tensors; non-persistent buffers are not among them.
        name: What the message calls the checkpoint.

    Raises:
        ValueError: Keys are missing or unexpected, or shapes differ.
    """
    expected = model.state_dict()
    problems = []
    missing = sorted(expected.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - expected.keys())
    if missing:
        problems.append(f"missing {_listed(missing)}")
    if unexpected:
        problems.append(f"unexpected {_listed(unexpected)}")
    for key in sorted(expected.keys() & state_dict.keys()):
        if expected[key].shape != state_dict[key].shape:
            problems.append(f"`{key}` is {tuple(state_dict[key].shape)}, must be {tuple(expected[key].shape)}")
    if problems:
        raise ValueError(f"the {name} checkpoint does not fit: " + "; ".join(problems))
    model.load_state_dict(state_dict, strict=True)


def shape_of(tensors: Mapping[str, torch.Tensor], key: str, name: str) -> tuple[int, ...]:
    """Look up the shape of a tensor that a size of the model is read from.

    Args:
        tensors: State dict.
        key: Key of the tensor.
        name: What the message calls the checkpoint.

    Returns:
        The shape.

    Raises:
        ValueError: There is no such tensor.
    """
    if key not in tensors:
        raise ValueError(f"the {name} checkpoint lacks `{key}`, from which a size is read")
    return tuple(tensors[key].shape)


def _listed(keys: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"`{key}`" for key in keys[:most])
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return f"{len(keys)} key(s) {shown}{more}"
