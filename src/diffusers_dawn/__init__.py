"""DAWN (ICLR 2025) for diffusers: talking-head video from one portrait and one speech recording."""

import importlib
from pathlib import Path

__version__ = "0.1.0"

# public name -> module; each is imported at first use, so that importing the package costs nothing
_PUBLIC_NAMES = {
    "A2VFlowDiffusionModel": "models.a2v_fdm",
    "LatentFlowGenerator": "models.lfg",
    "PoseBlinkNet": "models.pbnet",
    "DAWNDDIMScheduler": "sampling.scheduling_dawn_ddim",
    "DAWNPipeline": "pipeline.pipeline_dawn",
    "DAWNPipelineOutput": "pipeline.output",
    "FaceState": "records",
    "Portrait": "records",
    "SquareCrop": "records",
    "Waveform": "records",
}

__all__ = ["__version__", "demo_checkpoint", *sorted(_PUBLIC_NAMES)]


def demo_checkpoint() -> str:
    """Say where the trained pipeline lies that comes with this package, see `model_cards/dawn-demo.md`.

    Returns:
        Folder for `DAWNPipeline.from_pretrained`: 128 px, trained on drawn talking heads.
    """
    return str(Path(__file__).parent / "checkpoints" / "dawn-demo")


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
