"""DAWN (ICLR 2025) for diffusers: talking-head video from one portrait and one speech recording."""

import importlib
from pathlib import Path

__version__ = "0.2.0"

# public name -> module; each is imported at first use, so that importing the package costs nothing
_PUBLIC_NAMES = {
    "A2VFlowDiffusionModel": "models.a2v_fdm",
    "LatentFlowGenerator": "models.lfg",
    "PoseBlinkNet": "models.pbnet",
    "DAWNDDIMScheduler": "sampling.scheduling_dawn_ddim",
    "DAWNPipeline": "pipeline.pipeline_dawn",
    "DAWNBlocks": "modular.blocks",
    "DAWNModularPipeline": "modular.modular_pipeline",
    "DAWNPipelineOutput": "pipeline.output",
    "FaceState": "records",
    "JobRenderer": "cli.job_renderer",
    "MotionTrack": "motion.track",
    "Portrait": "records",
    "SquareCrop": "records",
    "StreamWindows": "pipeline.stream_windows",
    "Studio": "studio.jobs",
    "Waveform": "records",
    "FrameLabel": "media.frame_label",
    "Gesture": "motion.gestures",
    "Keyframe": "motion.keyframes",
    "VideoWriter": "media.video_writer",
    "export_onnx": "graphs.export",
    "fit_threads": "machine.threads",
    "initial_states": "pipeline.clip_tensors",
    "keep_freed_memory": "machine.allocator",
    "launch_page": "studio.page",
    "lay_over": "media.backgrounds",
    "load_track": "motion.track_files",
    "parse_script": "motion.script",
    "make_page": "studio.page",
    "paste_each": "face.crop",
    "read_background": "media.backgrounds",
    "read_image": "media.pictures",
    "read_motion": "motion.reading",
    "read_sound_layout": "media.recordings",
    "read_waveform": "media.recordings",
    "save_track": "motion.track_files",
    "serve_studio": "studio.server",
    "stream_video": "media.videos",
    "track_face": "face.track",
    "write_video": "media.video_writer",
}

__all__ = ["__version__", "demo_checkpoint", *sorted(_PUBLIC_NAMES)]


def demo_checkpoint() -> str:
    """Say where the trained pipeline lies that comes with this package, see `model_cards/dawn-open.md`.

    Returns:
        Folder for `DAWNPipeline.from_pretrained`: 256 px, for photographs, paintings and drawings.
    """
    return str(Path(__file__).parent / "checkpoints" / "dawn-open")


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
