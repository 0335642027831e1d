"""The layer table: a module imports only from lower layers, and heavy packages only where they belong."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "diffusers_dawn"

LAYERS = [
    {"records", "flow_geometry", "frame_windows", "stage_timer", "scheduling_dawn_ddim", "conditions",
     "call_lock", "checkpoint_folder", "pipeline_adapters", "float32_products", "models.attention", "models.blocks_2d",
     "models.clip_layers", "models.shared_latents", "conversion.renaming",
     "metrics", "module_source", "portable_folder", "allocator", "frame_label", "model_card",
     "media_sources"},
    {"pictures", "recordings", "videos", "face_crop", "face_pose", "scheduler_training", "denoising",
     "memory_budget", "frame_output",
     "models.condition_attention", "models.clip_attention", "models.blocks_track", "models.image_coding",
     "models.region_motion",
     "portable_code"},
    {"audio_features", "face_analysis", "video_writer", "portrait", "pipeline_output", "motion_latents",
     "saved_pipeline", "scheduler_choice", "models.blocks_3d", "models.lfg", "models.pbnet",
     "hub_export"},
    {"face_track", "clip_inputs", "memory_estimate", "noise_path", "sampler_presets",
     "models.unet_levels", "conversion.lfg", "conversion.pbnet",
     "conversion.a2v_fdm"},
    {"render_request", "models.a2v_fdm"},
    {"pipeline_memory", "pipeline_stages"},
    {"pipeline_dawn"},
    {"random_checkpoint", "conversion.published", "cli_options", "cli_messages"},
    {"cli_animate"},
    {"cli"},
]  # fmt: skip
# package -> the only modules that may import it
HEAVY = {
    "mediapipe": {"face_analysis"},
    "gradio": set(),
    "librosa": {"recordings"},
    "av": {"media_sources", "recordings", "videos", "video_writer"},
    "transformers": {"audio_features", "pipeline_dawn", "random_checkpoint", "conversion.published", "cli_messages"},
}
MODULES = sorted(
    str(path.relative_to(SOURCE).with_suffix("")).replace("/", ".")
    for path in SOURCE.rglob("*.py")
    if path.name != "__init__.py"
)


def imports_of(module: str) -> set[str]:
    """Names of imported modules, those of this package without its name; also imports inside functions."""
    tree = ast.parse((SOURCE / Path(*module.split(".")).with_suffix(".py")).read_text(encoding="utf-8"))
    package = ["diffusers_dawn", *module.split(".")[:-1]]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            found.add(".".join(part for part in (base, node.module) if part))
    return {name.removeprefix("diffusers_dawn.") for name in found}


def layer_of(module: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if module in layer)


def test_every_module_has_a_layer():
    assert set(MODULES) == set().union(*LAYERS)


def test_contributors_read_the_same_table():
    text = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert [(int(row), set(re.findall(r"`([^`]+)`", modules))) for row, modules in rows] == list(enumerate(LAYERS))


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_lower_layers(module):
    own = [name for name in imports_of(module) if name in MODULES]
    assert [name for name in own if layer_of(name) >= layer_of(module)] == []


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_package_is_imported_only_in_its_rooms(package):
    users = {module for module in MODULES if any(name.split(".")[0] == package for name in imports_of(module))}
    assert users <= HEAVY[package]


def test_pipeline_does_not_know_the_models():
    rooms = ("pipeline_dawn", "pipeline_memory", "pipeline_stages")
    assert not [name for room in rooms for name in imports_of(room) if name.startswith("models.")]


def test_nothing_in_the_package_imports_training():
    assert not [module for module in MODULES if any(name.startswith("training") for name in imports_of(module))]
