"""LoRA adapters on a pipeline's denoiser (arXiv 2106.09685), with diffusers' method names."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE, LoraBaseMixin, _fetch_state_dict

# the component that takes adapters
LORA_PART = "unet"


class TakesAdapters(LoraBaseMixin):
    """Add LoRA adapters to a pipeline; put this before `DiffusionPipeline` among the bases."""

    _lora_loadable_modules = [LORA_PART]

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: Any,
        adapter_name: str | None = None,
        hotswap: bool = False,
        low_cpu_mem_usage: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load a LoRA adapter onto the denoiser; needs peft.

        Args:
            pretrained_model_name_or_path_or_dict: Folder, or id on the Hub, with `pytorch_lora_weights.safetensors`,
                as `training/train_a2v.py --lora_rank` writes it; such a file; or its tensors by name.
            adapter_name: Its name, for `set_adapters`, `delete_adapters` and the like.
            hotswap: Whether its weights take the place of those of the adapter of that name.
            low_cpu_mem_usage: Whether it is made without weights of its own first.
            **kwargs: As for `lora_state_dict`.

        Raises:
            ValueError: peft is not installed, or the adapter does not suit the denoiser.
            OSError: There is no such file.
        """
        layers, metadata = self.lora_state_dict(
            pretrained_model_name_or_path_or_dict, return_lora_metadata=True, **kwargs
        )
        # saved by the denoiser itself, or by a pipeline
        modules = {name for name, _ in self.unet.named_modules()}
        by_itself = any(name.partition(".lora_")[0] in modules for name in layers)
        self.unet.load_lora_adapter(
            layers,
            prefix=None if by_itself else LORA_PART,
            adapter_name=adapter_name,
            hotswap=hotswap,
            low_cpu_mem_usage=low_cpu_mem_usage,
            metadata=metadata,
            _pipeline=self,
        )

    @classmethod
    def lora_state_dict(
        cls,
        pretrained_model_name_or_path_or_dict: Any,
        weight_name: str = LORA_WEIGHT_NAME_SAFE,
        return_lora_metadata: bool = False,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor] | tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
        """Read the tensors of an adapter; pickled ones are never read.

        Args:
            pretrained_model_name_or_path_or_dict: As for `load_lora_weights`.
            weight_name: Name of the safetensors file.
            return_lora_metadata: Whether to return the settings that are saved with them, too.
            **kwargs: Where on the Hub, and how: `subfolder`, `revision`, `cache_dir`, `force_download`, `proxies`,
                `local_files_only`, `token`.

        Returns:
            Tensors by name, and the settings where they are asked for, None where there are none.

        Raises:
            ValueError: `weight_name` is no safetensors file.
            OSError: There is no such file.
        """
        if not weight_name.endswith(".safetensors"):
            raise ValueError(
                f"`weight_name` is {weight_name!r}, must end in .safetensors: pickled weights are not read"
            )
        kwargs.pop("use_safetensors", None)
        names = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")
        unknown = sorted(kwargs.keys() - set(names))
        if unknown:
            raise ValueError(f"`{unknown[0]}` is not known, may be one of {', '.join(names)}")
        layers, metadata = _fetch_state_dict(
            pretrained_model_name_or_path_or_dict,
            weight_name=weight_name,
            use_safetensors=True,
            user_agent={"file_type": "attn_procs_weights", "framework": "pytorch"},
            allow_pickle=False,
            **dict.fromkeys(names) | kwargs,
        )
        return (layers, metadata) if return_lora_metadata else layers

    def fuse_lora(self, components: Sequence[str] = (LORA_PART,), *args: Any, **kwargs: Any) -> None:
        """Add active adapters to the weights, see `LoraBaseMixin.fuse_lora`.

        Args:
            components: Only the denoiser, "unet", takes adapters.
            *args: As in diffusers.
            **kwargs: As in diffusers.
        """
        super().fuse_lora(list(components), *args, **kwargs)

    def unfuse_lora(self, components: Sequence[str] = (LORA_PART,), **kwargs: Any) -> None:
        """Remove fused adapters from the weights, see `LoraBaseMixin.unfuse_lora`.

        Args:
            components: Only the denoiser, "unet", takes adapters.
            **kwargs: As in diffusers.
        """
        super().unfuse_lora(list(components), **kwargs)

    @classmethod
    def save_lora_weights(
        cls,
        save_directory: str | os.PathLike,
        unet_lora_layers: Mapping[str, torch.Tensor],
        is_main_process: bool = True,
        weight_name: str = LORA_WEIGHT_NAME_SAFE,
        save_function: Callable | None = None,
        safe_serialization: bool = True,
        unet_lora_adapter_metadata: dict[str, Any] | None = None,
    ) -> None:
        """Save an adapter of the denoiser as `load_lora_weights` reads it.

        Args:
            save_directory: Folder.
            unet_lora_layers: Its tensors, such as `peft.utils.get_peft_model_state_dict(pipe.unet)`.
            is_main_process: Whether this process saves.
            weight_name: Name of the safetensors file.
            save_function: Called with tensors and path instead of safetensors' own.
            safe_serialization: Only True.
            unet_lora_adapter_metadata: Settings that go with it, such as `pipe.unet.peft_config["default"].to_dict()`.

        Raises:
            ValueError: There are no tensors, the folder is a file, or pickled weights are asked for.
        """
        if not unet_lora_layers:
            raise ValueError("`unet_lora_layers` is empty, must hold the adapter's tensors")
        if os.path.isfile(save_directory):
            raise ValueError(f"`save_directory` {save_directory} is a file, must be a folder")
        if not safe_serialization:
            raise ValueError("`safe_serialization` is False, must be True: pickled weights would never be read")
        if is_main_process:
            layers = {name: tensor.detach().cpu().contiguous() for name, tensor in unet_lora_layers.items()}
            cls._save_lora_weights(
                str(save_directory),
                {LORA_PART: layers},
                {LORA_PART: unet_lora_adapter_metadata},
                weight_name=weight_name,
                save_function=save_function,
            )
