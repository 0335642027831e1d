"""Save pipelines with their code, and load them completely or not at all."""

import copy
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME
from huggingface_hub import file_exists

from ..sampling.scheduler_training import tell_training, trained_prediction, training_config
from .checkpoint_folder import check_complete
from .model_card import CARD_FILE, card_of_folder, card_of_repository, write_card
from .portable_folder import WHOLE, check_layout, portable_index, use_installed_classes, write_code
from .saved_configs import check_saved_numbers


class SavedWithCode:
    """Extend diffusers' saving and loading; put this before `DiffusionPipeline` among the bases.

    It is no `DiffusionPipeline` itself: of a file with several of these, diffusers would not know which one to load.

    Attributes:
        model_card: Markdown that is saved and uploaded as its `README.md`; loaded from there. None: diffusers' own.
    """

    model_card: str | None = None
    _layout = WHOLE

    def __copy__(self) -> "SavedWithCode":
        """Copy the pipeline; its parts are the same."""
        return self._copied(dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SavedWithCode":
        """Copy the pipeline with its parts."""
        return self._copied(lambda attributes: copy.deepcopy(attributes, memo), memo)

    def __reduce__(self) -> Any:
        """Refuse pickling, which torch does not support for models with weight norm."""
        raise TypeError(
            f"{type(self).__name__} cannot be pickled: save it by `save_pretrained`, load it in the other process;"
            " `from_pipe` makes further pipelines of the same weights in this one"
        )

    def _copied(self, copy_attributes: Callable[[dict], dict], memo: dict[int, Any] | None = None) -> "SavedWithCode":
        made = type(self).__new__(type(self))
        if memo is not None:
            memo[id(self)] = made
        vars(made).update(copy_attributes(vars(self)))
        return made

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
        return portable_index(super().to_json_string(), type(self), self._layout)

    def save_pretrained(self, save_directory: Any, *args: Any, layout: str | None = None, **kwargs: Any) -> None:
        """Save the pipeline, see `DiffusionPipeline.save_pretrained`.

        Args:
            save_directory: Folder.
            *args: As in diffusers.
            layout: "whole", with the pipeline's code, also where none is given; or "weights", without it, to be loaded
                by `DiffusionPipeline.from_pretrained(..., custom_pipeline=...)`. Networks have their code in both.
            **kwargs: As in diffusers.

        Raises:
            ValueError: `layout` is another.
        """
        if layout is None:  # also when uploading saves a copy that has one
            super().save_pretrained(save_directory, *args, **kwargs)
        else:
            self._laid_out(layout).save_pretrained(save_directory, *args, **kwargs)

    def push_to_hub(self, repo_id: str, *args: Any, layout: str | None = None, **kwargs: Any) -> str:
        """Upload the pipeline, see `DiffusionPipeline.push_to_hub`.

        Args:
            repo_id: Id of the repository.
            *args: As in diffusers.
            layout: As for `save_pretrained`.
            **kwargs: As in diffusers.

        Returns:
            Address of the upload.

        Raises:
            ValueError: `layout` is another.
        """
        if layout is None:
            return super().push_to_hub(repo_id, *args, **kwargs)
        return self._laid_out(layout).push_to_hub(repo_id, *args, **kwargs)

    def _laid_out(self, layout: str) -> "SavedWithCode":
        check_layout(layout)
        made = copy.copy(self)
        made._layout = layout
        return made

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save `model_index.json`, the code it names, so that the folder loads without this package, and the card.

        Args:
            save_directory: Folder of the saved pipeline.
            push_to_hub: Whether to upload it too.
            **kwargs: As in diffusers.
        """
        write_code(super().to_json_string(), type(self), save_directory, self._layout)
        super().save_config(save_directory, push_to_hub, **kwargs)
        if (card := self._card_to_save()) is not None:
            write_card(card, save_directory, self.config.get("_name_or_path"))

    def _upload_folder(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        # by now diffusers has put there the card of the repository, or one that it made up
        card = self._card_to_save()
        if card is not None and not file_exists(repo_id, CARD_FILE, token=kwargs.get("token")):
            write_card(card, working_dir, self.config.get("_name_or_path"))
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
            ValueError: A component's weights lack tensors, a config asks for absurd sizes, or `dtype` names no
                floating type of torch.
        """
        for name in kwargs.keys() & {"dtype", "torch_dtype"}:
            kwargs[name] = _floating_dtype(kwargs[name], name)
        if "torch_dtype" not in kwargs:
            # by themselves, transformers would load in the precision that was saved, and diffusers in float32
            kwargs.setdefault("dtype", torch.float32)
        folder = pretrained_model_name_or_path
        if os.path.isdir(folder):
            card = card_of_folder(folder)
        else:
            folder = cls.download(str(folder), **kwargs)
            card = card_of_repository(str(pretrained_model_name_or_path), kwargs)
        check_saved_numbers(folder)
        saved = Path(folder, "scheduler", SCHEDULER_CONFIG_NAME)
        if "scheduler" in kwargs and saved.is_file():
            config = json.loads(saved.read_text(encoding="utf-8"))
            config["prediction_type"] = trained_prediction(config)
            tell_training(kwargs["scheduler"], config)
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


def _floating_dtype(dtype: Any, name: str) -> Any:
    """Find the type that a text such as "bfloat16" names, also in a dict of them; "auto" stays."""
    if isinstance(dtype, dict):
        return {part: _floating_dtype(of_part, name) for part, of_part in dtype.items()}
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) and dtype != "auto" else dtype
    is_floating = isinstance(found, torch.dtype) and found.is_floating_point
    if not (is_floating or found is None and dtype is None or found == "auto"):
        raise ValueError(
            f"`{name}` is {dtype!r}, must be a floating-point dtype of torch such as torch.bfloat16, or its name"
        )
    return found
