"""Networks that carry their code, so that each loads alone, and where this package is not installed."""

import importlib
import sys
from pathlib import Path
from typing import Any

PACKAGE = "diffusers_dawn"
# where diffusers keeps the modules of repositories that it has run
REMOTE_CODE = "diffusers_modules"


class CarriesCode:
    """The part of a network that saves its code beside its config; put this before `ModelMixin` among the bases.

    The config names the file as `auto_map`, which diffusers' `AutoModel` looks for (see
    `ConfigMixin.register_for_auto_class`).
    """

    _auto_class = "AutoModel"

    @classmethod
    def extract_init_dict(cls, config_dict: dict, **kwargs: Any) -> tuple[dict, dict, dict]:
        """Sort a config, see `ConfigMixin.extract_init_dict`; `auto_map` is for `AutoModel`, which has read it by now.

        Args:
            config_dict: The config.
            **kwargs: As in diffusers.

        Returns:
            As in diffusers.
        """
        return super().extract_init_dict(
            {name: value for name, value in config_dict.items() if name != "auto_map"}, **kwargs
        )

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save the config, and the code that it names.

        Args:
            save_directory: Folder.
            push_to_hub: Whether to upload it too.
            **kwargs: As in diffusers.
        """
        module = type(self).__module__
        if is_shipped(module):
            text = source_of(module, type(self).__name__)
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            Path(save_directory, f"{file_stem(module)}.py").write_text(text, encoding="utf-8")
        super().save_config(save_directory, push_to_hub, **kwargs)


def is_shipped(module: str) -> bool:
    """Tell whether a module is of this package, or of code that was loaded from a repository.

    Args:
        module: Full name.

    Returns:
        Whether its source goes along with what is saved.
    """
    return module.split(".")[0] in (PACKAGE, REMOTE_CODE)


def file_stem(module: str) -> str:
    """Name the file of a module that goes along with what is saved, without `.py`.

    Args:
        module: Full name.

    Returns:
        The last part of the name.
    """
    return module.rpartition(".")[2]


def source_of(module: str, class_name: str) -> str:
    """Find the source of a class that goes along with what is saved.

    Args:
        module: Full name of its module, see `is_shipped`.
        class_name: Its name.

    Returns:
        Source that imports nothing of this package.

    Raises:
        ValueError: The file that the class was loaded from holds other code by now.
    """
    if module.split(".")[0] == PACKAGE:
        # by name: code that was loaded from a folder does without what writes it
        return importlib.import_module(f"{PACKAGE}.sharing.hub_export").repository_source(module)
    path = Path(sys.modules[module].__file__)
    text = path.read_text(encoding="utf-8")
    if f"class {class_name}(" not in text:
        # diffusers puts the code of all folders into one, and overwrites files of the same name
        raise ValueError(f"{class_name} was loaded from {path}, whose code has changed since: load it again")
    return text
