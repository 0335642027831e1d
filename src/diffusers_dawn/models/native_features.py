"""What diffusers offers for any model, fitted to the denoiser: caches, adapters, fused projections, compilation."""

import re
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.hooks import FasterCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..ranges import is_between, is_whole_number

# names of the modules that caches leave out, as patterns
ATTENTIONS = r".*(spatial|temporal)_attention\w*"
BLOCKS = r"(.*levels\.\d+|middle)\.block\d"
LARGEST_WEIGHT = torch.finfo(torch.float32).max
# of settings of caches that count steps, the least
LEAST_OF_CACHE = {
    "cache_interval": 1,
    "max_order": 0,
    "disable_cache_before_step": 0,
    "spatial_attention_block_skip_range": 1,
    "temporal_attention_block_skip_range": 1,
}


class NativeFeatures(ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin, CacheMixin):
    """The part of `A2VFlowDiffusionModel` that adapts diffusers' own methods to its layers."""

    _supports_gradient_checkpointing = True

    def enable_cache(self, config: Any) -> None:
        """Keep what the attentions found for later steps, see `CacheMixin.enable_cache`.

        Args:
            config: `PyramidAttentionBroadcastConfig` or `TaylorSeerCacheConfig`, which mean the attentions of this
                network in space and time where they name no others. TaylorSeer's lite mode predicts both results of
                the network, and leaves out its blocks and attentions.

        Raises:
            ValueError: It is of another kind, which asks for transformer blocks, a setting is out of its range, a
                pattern names no module, or a cache is enabled already.
        """
        self._check_cache(config)
        if isinstance(config, PyramidAttentionBroadcastConfig):
            own = {"spatial_attention_block_identifiers": ("spatial_attention",)}
            own["temporal_attention_block_identifiers"] = ("temporal_attention",)
            usual = PyramidAttentionBroadcastConfig()
            config = replace(config, **{k: v for k, v in own.items() if getattr(config, k) == getattr(usual, k)})
        elif isinstance(config, TaylorSeerCacheConfig):
            if config.use_lite_mode:
                config = replace(
                    config,
                    use_lite_mode=False,
                    cache_identifiers=["(flow|occlusion)_head"],
                    skip_predict_identifiers=[BLOCKS, ATTENTIONS],
                )
            elif not (config.cache_identifiers or config.skip_predict_identifiers):
                config = replace(config, cache_identifiers=[ATTENTIONS])
        else:
            reason = "others ask for transformer blocks"
            if isinstance(config, FasterCacheConfig):
                reason = "FasterCache wants both conditions of guidance in one batch, here they are calls of their own"
            raise ValueError(
                f"`config` is a {type(config).__name__}, must be a PyramidAttentionBroadcastConfig or a "
                f"TaylorSeerCacheConfig: {reason}; see also the pipeline's `enable_step_cache`"
            )
        super().enable_cache(config)

    def _check_cache(self, config: Any) -> None:
        for name, least in LEAST_OF_CACHE.items():
            value = getattr(config, name, None)
            if value is not None and not (is_whole_number(value) and value >= least):
                raise ValueError(f"`config.{name}` is {value!r}, must be a whole number from {least} on")
        modules = [name for name, _ in self.named_modules()]
        for name in ("cache_identifiers", "skip_predict_identifiers"):
            for pattern in getattr(config, name, None) or ():
                try:
                    is_known = any(re.fullmatch(pattern, module) for module in modules)
                except (TypeError, re.error):
                    is_known = False
                if not is_known:
                    raise ValueError(f"`config.{name}` has {pattern!r}, must be patterns of names of modules")

    def set_adapters(self, adapter_names: list[str] | str, weights: Any = None) -> None:
        """Choose active adapters and their weights, see `PeftAdapterMixin.set_adapters`.

        Args:
            adapter_names: One adapter or several.
            weights: One number for all, or one each; None: 1.

        Raises:
            ValueError: There is no such adapter, or a weight is no finite number: weights by blocks know only the
                names of diffusers' own networks.
        """
        known = sorted(getattr(self, "peft_config", {}))
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        if not isinstance(names, list | tuple) or any(name not in known for name in names):
            there_are = ", ".join(known) or "there is none"
            raise ValueError(f"`adapter_names` is {adapter_names!r}, must be names of adapters: {there_are}")
        for weight in weights if isinstance(weights, list | tuple) else [weights]:
            if weight is not None and not is_between(weight, -LARGEST_WEIGHT, LARGEST_WEIGHT):
                raise ValueError(
                    f"`adapter_weights` has {weight!r}, must be one finite number per adapter: weights by blocks know"
                    " only the blocks of diffusers' own networks"
                )
        super().set_adapters(adapter_names, weights)

    @wraps(ModelMixin.save_pretrained, assigned=())  # pipelines look at its signature for what it takes
    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save config and weights, see `ModelMixin.save_pretrained`; projections are saved as if not fused.

        Args:
            *args: As in diffusers.
            **kwargs: As in diffusers.
        """
        fused = self.temporal_attention_in.fused_projections
        self.unfuse_qkv_projections()
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            if fused:
                self.fuse_qkv_projections()

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Compile every level, see `ModelMixin.compile_repeated_blocks`; `dynamic` is true unless it is given.

        With one graph per level for clips of any length, a network of four resolutions, each level of another width,
        keeps below the number of graphs (8) at which torch gives up.
        """
        super().compile_repeated_blocks(*args, **{"dynamic": True} | kwargs)

    def _run(self, level: nn.Module, *inputs: object) -> object:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(level, *inputs)
        return level(*inputs)
