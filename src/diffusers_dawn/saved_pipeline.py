"""Pipelines that are saved with their code, and loaded whole or not at all."""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from huggingface_hub import file_exists

from .checkpoint_folder import check_complete
from .model_card import CARD_FILE, card_of_folder, card_of_repository
from .portable_folder import portable_index, use_installed_classes, write_code


class SavedWithCode:
    """What a pipeline adds to the loading and saving of diffusers; goes before `DiffusionPipeline` among its bases.

    It is no `DiffusionPipeline` itself: of a file with several of these, diffusers would not know which one to load.

    Attributes:
        model_card: Markdown that is saved and uploaded as its `README.md`; loaded from there. None: diffusers' own.
    """

    model_card: str | None = None

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
        if self.model_card is not None:
            Path(save_directory, CARD_FILE).write_text(self.model_card, encoding="utf-8")

    def _upload_folder(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        # by now diffusers has put there the card of the repository, or one that it made up
        if self.model_card is not None and not file_exists(repo_id, CARD_FILE, token=kwargs.get("token")):
            Path(working_dir, CARD_FILE).write_text(self.model_card, encoding="utf-8")
        return super()._upload_folder(working_dir, repo_id, *args, **kwargs)

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
            The pipeline, with the other's model card.
        """
        # passed by name, models may be of any class: diffusers takes only those that annotations name
        names = inspect.signature(cls.__init__).parameters
        parts = {name: part for name, part in pipeline.components.items() if name in names}
        made = super().from_pipe(pipeline, **parts | kwargs)
        made.model_card = getattr(pipeline, "model_card", None)
        return made

    def load_lora_weights(
        self, pretrained_model_name_or_path: Any, adapter_name: str | None = None, **kwargs: Any
    ) -> None:
        """Put an adapter of low rank onto the denoiser; needs peft.

        Args:
            pretrained_model_name_or_path: Folder, or id on the Hub, with `pytorch_lora_weights.safetensors`, as
                `training/train_a2v.py --lora_rank` writes it.
            adapter_name: Its name, for `unet.set_adapters`, `unet.disable_adapters` and the like.
            **kwargs: As for `unet.load_lora_adapter`, such as `weight_name`; pickled weights are never read.

        Raises:
            ValueError: peft is not installed, or the adapter does not suit the denoiser.
            OSError: There is no such file.
        """
        settings = {"prefix": None, "weight_name": LORA_WEIGHT_NAME_SAFE} | kwargs | {"use_safetensors": True}
        self.unet.load_lora_adapter(pretrained_model_name_or_path, adapter_name=adapter_name, **settings)

    def unload_lora_weights(self) -> None:
        """Take all adapters off the denoiser."""
        self.unet.unload_lora()
