"""Let offloading hooks work for methods other than `forward`: they then move the weights for these, too."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Method = TypeVar("Method", bound=Callable[..., Any])


def hooked_like_forward(method: Method) -> Method:
    """Run the hooks of a module around a method as they run around its `forward`.

    Those of accelerate and of diffusers replace `forward` by one that they wrap; other methods they do not see. Models
    that are only moved as a whole do with diffusers' `apply_forward_hook`. Within `forward`, where hooks have run,
    such a method must not be called.

    Args:
        method: Method of a module.

    Returns:
        The method, which lets hooks move its inputs and the weights, and afterwards its output.
    """

    @functools.wraps(method)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        registry, hook = getattr(self, "_diffusers_hook", None), getattr(self, "_hf_hook", None)
        # the one that was added last is the outermost
        hooks = [*([] if registry is None else reversed(registry.hooks.values())), *([] if hook is None else [hook])]
        for hook in hooks:
            args, kwargs = hook.pre_forward(self, *args, **kwargs)
        output = method(self, *args, **kwargs)
        for hook in reversed(hooks):
            output = hook.post_forward(self, output)
        return output

    return run
