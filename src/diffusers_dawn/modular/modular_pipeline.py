"""The modular pipeline with this package's own classes, saved so that it loads without the package."""

import json
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, ModularPipeline, ModularPipelineBlocks

from ..models.own_code import is_shipped, source_of
from ..sharing.portable_folder import use_installed_classes
from .blocks import BLOCKS_MODULE, PUBLISHED_SCHEDULER, DAWNBlocks


class DAWNModularPipeline(ModularPipeline):
    """Animate portraits with speech by blocks, each of which can be replaced (DAWN, arXiv 2410.13726).

    Args:
        blocks: The blocks; None: those of DAWN.
        pretrained_model_name_or_path: Folder, or id on the Hub, of a saved `DAWNPipeline` or modular pipeline, whose
            components `load_components` loads.
        **kwargs: As in diffusers, such as `components_manager`.
    """

    def __init__(
        self,
        blocks: ModularPipelineBlocks | None = None,
        pretrained_model_name_or_path: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(DAWNBlocks() if blocks is None else blocks, pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "DAWNModularPipeline":
        """Find a saved pipeline, modular or not, for DAWN's blocks of this package; no code of its folder is run.

        Args:
            pretrained_model_name_or_path: Folder, or id on the Hub.
            **kwargs: As in diffusers, such as `components_manager` or `revision`.

        Returns:
            The pipeline, whose components `load_components` loads.
        """
        kwargs.pop("trust_remote_code", None)
        return cls(None, str(pretrained_model_name_or_path), **kwargs)

    @classmethod
    def from_pipe(
        cls, pipeline: DiffusionPipeline, blocks: ModularPipelineBlocks | None = None
    ) -> "DAWNModularPipeline":
        """Make a modular pipeline of the components of a `DAWNPipeline`.

        Args:
            pipeline: The other pipeline.
            blocks: The blocks; None: those of DAWN.

        Returns:
            The pipeline; its components are the same.
        """
        made = cls(blocks)
        given = {name: part for name, part in pipeline.components.items() if part is not None}
        made.update_components(**{name: part for name, part in given.items() if name in made.components})
        return made

    @classmethod
    def _load_pipeline_config(cls, place: Any, **kwargs: Any) -> tuple[dict | None, dict | None]:
        modular, standard = super()._load_pipeline_config(place, **kwargs)
        if standard is not None:
            use_installed_classes(standard)
        for name, value in (modular or {}).items():
            if isinstance(value, list) and len(value) == 3:
                index = {name: value[:2]}
                use_installed_classes(index)
                if index[name] != value[:2]:
                    value[2]["type_hint"] = index[name]
        return modular, standard

    def save_pretrained(self, save_directory: Any, *args: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save components and blocks with their code, see `ModularPipeline.save_pretrained`.

        Args:
            save_directory: Folder.
            *args: As in diffusers.
            push_to_hub: Whether to upload it too.
            **kwargs: As in diffusers.
        """
        folder, blocks = str(save_directory), self.blocks
        module = type(blocks).__module__
        if is_shipped(module):
            blocks.save_pretrained(folder)
            Path(folder, "blocks.py").write_text(source_of(module, type(blocks).__name__), encoding="utf-8")
        super().save_pretrained(folder, *args, push_to_hub=push_to_hub, **{"overwrite_modular_index": True} | kwargs)

    def to_json_string(self) -> str:
        """Write `modular_model_index.json` so that diffusers finds all classes without this package."""
        index = json.loads(super().to_json_string()) | {"_class_name": ModularPipeline.__name__}
        for value in index.values():
            if isinstance(value, list) and len(value) == 3 and is_shipped(value[2]["type_hint"][0] or ""):
                is_scheduler = value[2]["type_hint"][1] == PUBLISHED_SCHEDULER.__name__
                # networks are found by `AutoModel`, in the code beside them
                value[2]["type_hint"] = [BLOCKS_MODULE, PUBLISHED_SCHEDULER.__name__] if is_scheduler else [None, None]
        return json.dumps(index, indent=2, sort_keys=True) + "\n"
