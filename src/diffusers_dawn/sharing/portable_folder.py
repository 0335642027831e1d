"""Saved pipelines that load with and without this package: the code lies beside the weights, and the index names it.

diffusers finds a component by a pair in `model_index.json`. Where the first of the two names a file in the component's
folder, that file is run, which users must allow by `trust_remote_code=True`; so folders load where this package is not
installed. Where it is, its own classes are used instead, and no code of the folder is run.
"""

import json
import sys
import warnings
from pathlib import Path

from ..models.own_code import PACKAGE, file_stem, is_shipped, source_of

# what diffusers itself imports components from; those of all others are named by their modules
LIBRARIES = ("diffusers", "transformers", "onnxruntime.training")
PIPELINE_FILE = "pipeline"
# with the pipeline's own code; without, for a repository whose pipeline's code is taken from another
WHOLE, WEIGHTS = LAYOUTS = ("whole", "weights")


def check_layout(layout: str) -> None:
    """Refuse what is no layout of a saved pipeline.

    Args:
        layout: Anything.

    Raises:
        ValueError: It is not one of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` is {layout!r}, must be one of {', '.join(LAYOUTS)}")


def portable_index(index_json: str, pipeline_class: type, layout: str = WHOLE) -> str:
    """Make a pipeline's index name files beside the weights instead of modules that may not be installed.

    Args:
        index_json: Index as diffusers writes it.
        pipeline_class: Class of the pipeline.
        layout: One of `LAYOUTS`. diffusers runs the pipeline's code that an index names, whatever `custom_pipeline`
            says; so an index for other code must name none.

    Returns:
        The index.
    """
    index = json.loads(index_json)
    for name, (module, class_name) in _components(index).items():
        if is_shipped(module):
            index[name] = [file_stem(module), class_name]
    if layout == WHOLE and is_shipped(pipeline_class.__module__):
        index["_class_name"] = [PIPELINE_FILE, pipeline_class.__name__]
    return json.dumps(index, indent=2, sort_keys=True) + "\n"


def write_code(index_json: str, pipeline_class: type, folder: str | Path, layout: str = WHOLE) -> None:
    """Write the source files that a portable index names; warn about foreign classes, whose code is not saved.

    Args:
        index_json: Index as diffusers writes it.
        pipeline_class: Class of the pipeline.
        folder: Folder of the saved pipeline.
        layout: One of `LAYOUTS`.

    Raises:
        ValueError: The file that a class was loaded from holds other code by now.
    """
    classes = {
        Path(folder, name, f"{file_stem(module)}.py"): (module, class_name)
        for name, (module, class_name) in _components(json.loads(index_json)).items()
    }
    if layout == WHOLE:
        classes[Path(folder, f"{PIPELINE_FILE}.py")] = pipeline_class.__module__, pipeline_class.__name__
    for path, (module, class_name) in classes.items():
        if is_shipped(module):
            text = source_of(module, class_name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif module in sys.modules and module not in LIBRARIES:
            warnings.warn(f"the code of {module} is not saved: import it before you load {folder}", stacklevel=3)


def use_installed_classes(index: dict) -> None:
    """Replace an index's classes by this package's own where it has them, so that no code of a folder is run.

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
