"""Saved pipelines that load with this package and without it: the code lies beside the weights, and the index says so.

diffusers finds a component by a pair in `model_index.json`. Where the first of the two names a file in the component's
folder, that file is run, which users must allow by `trust_remote_code=True`; so folders load where this package is not
installed. Where it is, its own classes are used instead, and no code of the folder is run.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path

PACKAGE = "diffusers_dawn"
# where diffusers keeps the modules of repositories that it has run
REMOTE_CODE = "diffusers_modules"
# what diffusers itself imports components from; those of all others are named by their modules
LIBRARIES = ("diffusers", "transformers", "onnxruntime.training")
PIPELINE_FILE = "pipeline"


def portable_index(index_json: str, pipeline_class: type) -> str:
    """Let a pipeline's index name files beside the weights, instead of modules that other computers do not have.

    Args:
        index_json: Index as diffusers writes it.
        pipeline_class: Class of the pipeline.

    Returns:
        The index.
    """
    index = json.loads(index_json)
    for name, (module, class_name) in _components(index).items():
        if _is_shipped(module):
            index[name] = [_file_stem(module), class_name]
    if _is_shipped(pipeline_class.__module__):
        index["_class_name"] = [PIPELINE_FILE, pipeline_class.__name__]
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def write_code(index_json: str, pipeline_class: type, folder: str | Path) -> None:
    """Write the source files that a portable index names; warn of classes of others, whose code is not saved.

    Args:
        index_json: Index as diffusers writes it.
        pipeline_class: Class of the pipeline.
        folder: Folder of the saved pipeline.

    Raises:
        ValueError: The file that a class was loaded from holds other code by now.
    """
    classes = {
        Path(folder, name, f"{_file_stem(module)}.py"): (module, class_name)
        for name, (module, class_name) in _components(json.loads(index_json)).items()
    }
    classes[Path(folder, f"{PIPELINE_FILE}.py")] = pipeline_class.__module__, pipeline_class.__name__
    for path, (module, class_name) in classes.items():
        if _is_shipped(module):
            text = _source(module, class_name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif module in sys.modules and module not in LIBRARIES:
            warnings.warn(f"code of {module} is not saved: import it before loading {folder}", stacklevel=3)


def use_installed_classes(index: dict) -> None:
    """Let an index name the modules of this package for the classes that it has, so that no code of a folder is run.

    Code that was itself loaded from a folder has no package around it, and leaves the index as it is; a single file
    that users import, such as the one for diffusers' examples/community, holds the classes itself.

    Args:
        index: Index of a saved pipeline, changed in place.
    """
    package = sys.modules.get(PACKAGE if _is_installed() else __package__ or __name__)
    for name, (_, class_name) in _components(index).items():
        installed = getattr(package, class_name, None)
        if isinstance(installed, type):
            index[name] = [installed.__module__, class_name]


def _components(index: dict) -> dict[str, tuple[str, str]]:
    """Find the components of an index: module, or file, and class."""
    found = {}
    for name, value in index.items():
        is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)
        if is_pair and name != "_class_name":
            found[name] = tuple(value)
    return found


def _is_installed() -> bool:
    return __name__.split(".")[0] == PACKAGE


def _is_shipped(module: str) -> bool:
    return module.split(".")[0] in (PACKAGE, REMOTE_CODE)


def _file_stem(module: str) -> str:
    return module.rpartition(".")[2]


def _source(module: str, class_name: str) -> str:
    if module.split(".")[0] == PACKAGE:
        # by name: code that was loaded from a folder does without what writes it
        return importlib.import_module(f"{PACKAGE}.sharing.hub_export").repository_source(module)
    path = Path(sys.modules[module].__file__)
    text = path.read_text(encoding="utf-8")
    if f"class {class_name}(" not in text:
        # diffusers puts the code of all folders into one, and overwrites files of the same name
        raise ValueError(f"{class_name} was loaded from {path}, which holds other code by now: load it again")
    return text
