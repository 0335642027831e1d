"""Pipelines that are saved with their code, and loaded whole or not at all."""

import copy
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE, LoraBaseMixin, _fetch_state_dict
from huggingface_hub import file_exists

from .checkpoint_folder import check_complete
from .model_card import CARD_FILE, card_of_folder, card_of_repository
from .portable_folder import portable_index, use_installed_classes, write_code
from .scheduler_training import tell_training, training_config

# the component that takes adapters
LORA_PART = "unet"


class SavedWithCode(LoraBaseMixin):
    """What a pipeline adds to the loading and saving of diffusers; goes before `DiffusionPipeline` among its bases.

    It is no `DiffusionPipeline` itself: of a file with several of these, diffusers would not know which one to load.

    Attributes:
        model_card: Markdown that is saved and uploaded as its `README.md`; loaded from there. None: diffusers' own.
    """

    model_card: str | None = None
    _lora_loadable_modules = [LORA_PART]

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load `model_index.json` so that classes of this package are its own, not those of the saved code."""
        loaded = super().load_config(*args, **kwargs)
        use_installed_classes(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict:
        index = super()._dict_from_json_file(json_file)
        if isinstance(index.get("_class_name"), list):  # file and class, which would be run instead of this class
            index["_class_name"] = index["_class_name"][1]
        return index

    def to_json_string(self) -> str:
        """Write `model_index.json` so that it names the code that `save_config` writes."""
        return portable_index(super().to_json_string(), type(self))

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save `model_index.json`, the code it names, so that the folder loads without this package, and the card.

        Args:
            save_directory: Folder of the saved pipeline.
            push_to_hub: Whether to upload it too.
            **kwargs: As in diffusers.
        """
        write_code(super().to_json_string(), type(self), save_directory)
        super().save_config(save_directory, push_to_hub, **kwargs)
        if (card := self._card_to_save()) is not None:
            Path(save_directory, CARD_FILE).write_text(card, encoding="utf-8")

    def _upload_folder(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        # by now diffusers has put there the card of the repository, or one that it made up
        card = self._card_to_save()
        if card is not None and not file_exists(repo_id, CARD_FILE, token=kwargs.get("token")):
            Path(working_dir, CARD_FILE).write_text(card, encoding="utf-8")
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)

    def _card_to_save(self) -> str | None:
        source = self.config.get("_name_or_path")
        if "model_card" in vars(self) or source is None:
            return self.model_card
        # loaded by `DiffusionPipeline.from_pretrained`, which reads no cards
        return card_of_folder(source) if os.path.isdir(source) else card_of_repository(str(source), {})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> DiffusionPipeline:
        """Load a saved pipeline, see `DiffusionPipeline.from_pretrained`; weights that lack a tensor are an error.

        Args:
            pretrained_model_name_or_path: Folder, or id on the Hub.
            **kwargs: As in diffusers; where no `dtype` is given, all parts are loaded in float32.

        Returns:
            The pipeline.

        Raises:
            ValueError: A component's weights lack tensors.
        """
        if "torch_dtype" not in kwargs:
            # by themselves, transformers would load in the precision that was saved, and diffusers in float32
            kwargs.setdefault("dtype", torch.float32)
        folder = pretrained_model_name_or_path
        if os.path.isdir(folder):
            card = card_of_folder(folder)
        else:
            folder = cls.download(str(folder), **kwargs)
            card = card_of_repository(str(pretrained_model_name_or_path), kwargs)
        pipe = super().from_pretrained(folder, **kwargs)
        pipe.register_to_config(_name_or_path=str(pretrained_model_name_or_path))
        pipe.model_card = card
        check_complete(folder, {name: part for name, part in pipe.components.items() if name not in kwargs})
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> DiffusionPipeline:
        """Make a pipeline of the components of another, see `DiffusionPipeline.from_pipe`.

        Args:
            pipeline: The other pipeline.
            **kwargs: As in diffusers.

        Returns:
            The pipeline, with the other's model card, and a scheduler of its own, which has the state of one call.
        """
        # passed by name, models may be of any class: diffusers takes only those that annotations name
        names = inspect.signature(cls.__init__).parameters
        parts = {name: part for name, part in pipeline.components.items() if name in names}
        parts["scheduler"] = copy.deepcopy(parts["scheduler"])
        if "scheduler" in kwargs:
            tell_training(kwargs["scheduler"], training_config(pipeline.scheduler))
        made = super().from_pipe(pipeline, **parts | kwargs)
        if "model_card" in vars(pipeline):  # else both find it where their parts were loaded from
            made.model_card = pipeline.model_card
        return made

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: Any,
        adapter_name: str | None = None,
        hotswap: bool = False,
        low_cpu_mem_usage: bool = False,
        **kwargs: Any,
    ) -> None:
        """Put an adapter of low rank onto the denoiser; needs peft.

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
        """Take fused adapters out of the weights again, see `LoraBaseMixin.unfuse_lora`.

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
