"""Weights of the conditions against their absence, together or apart (classifier-free guidance, arXiv 2207.12598)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from ..ranges import is_between
from .conditions import Conditions

MOST_GUIDANCE = 1000
CONDITION_NAMES = ("speech", "pose", "blink")
ALL = frozenset(CONDITION_NAMES)


class Guidance(NamedTuple):
    """Weight of each condition; 1 needs no further call of the denoiser.

    Equal weights w give null + w (all - null), one more call per step. Others give all + sum of (w - 1) (all - all but
    one) over the conditions whose weight is not 1, each of which is one more call.
    """

    speech: float = 1.0
    pose: float = 1.0
    blink: float = 1.0

    @property
    def left_out(self) -> tuple[frozenset[str], ...]:
        """Which conditions each further call does without."""
        if len(set(self)) == 1:
            return () if self.speech == 1 else (ALL,)
        return tuple(frozenset({name}) for name in CONDITION_NAMES if getattr(self, name) != 1)

    def combine(
        self, prediction: torch.Tensor, others: Sequence[torch.Tensor], left_out: Sequence[frozenset[str]]
    ) -> torch.Tensor:
        """Put predictions together.

        Args:
            prediction: That of all conditions.
            others: Those without some of them.
            left_out: Which.

        Returns:
            The guided prediction.

        Raises:
            ValueError: The conditions had one weight when the clip began, and have several now.
        """
        guided = prediction
        for other, names in zip(others, left_out, strict=True):
            weights = {getattr(self, name) for name in names}
            if len(weights) > 1:
                raise ValueError("the weights of a clip's conditions were equal; they cannot be set apart meanwhile")
            weight = weights.pop()
            if names == ALL:
                guided = other + weight * (prediction - other)
            else:
                guided = guided + (weight - 1) * (prediction - other)
        return guided


def guidance_of(scale: float | Mapping[str, float], name: str = "guidance_scale") -> Guidance:
    """Read the weights of the conditions.

    Args:
        scale: One weight for all, or weights by name: "speech", "pose", "blink"; those left out are 1. Or what goes in
            the place of weights, with the same `left_out` and `combine`, such as a guider of diffusers.
        name: Argument name for error messages.

    Returns:
        The weights.

    Raises:
        ValueError: One is no number in [0, 1000], or a name is another.
    """
    if hasattr(scale, "combine"):
        return scale
    if isinstance(scale, Mapping):
        unknown = [str(key) for key in scale if key not in CONDITION_NAMES]
        if unknown:
            raise ValueError(f"`{name}` has {unknown[0]!r}, may only have {', '.join(CONDITION_NAMES)}")
    weights = scale if isinstance(scale, Mapping) else dict.fromkeys(CONDITION_NAMES, scale)
    for weight in weights.values():
        if not is_between(weight, 0, MOST_GUIDANCE):
            raise ValueError(f"`{name}` is {scale!r}, must be a number in [0, {MOST_GUIDANCE}]")
    return Guidance(**{key: float(weight) for key, weight in weights.items()})


def without(conditions: Conditions, names: frozenset[str]) -> Conditions:
    """Replace some of the conditions by the null condition, which is zero."""
    return Conditions(
        *(
            torch.zeros_like(condition) if name in names else condition
            for name, condition in zip(CONDITION_NAMES, conditions, strict=True)
        )
    )
