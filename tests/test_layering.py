"""Rooms in their order: a module imports only from rooms before its own, and heavy packages only where they belong."""

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from rooms import MODELS, PACKAGE, PACKAGE_ROOMS, TRAINING, TRAINING_ROOMS, maps, modules_of, room_of, with_map

TREES = {"diffusers_dawn": (PACKAGE, PACKAGE_ROOMS), "training": (TRAINING, TRAINING_ROOMS)}
# package -> the only modules and rooms of `diffusers_dawn` that may import it
HEAVY = {
    "mediapipe": {"face.detector"},
    "librosa": {"media.recordings"},
    "gradio": {"studio.actions", "studio.controls", "studio.looks", "studio.page"},
    "av": {"media.damaged_files", "media.film_file", "media.recordings", "media.sources", "media.shown_colours",
           "media.videos"},
    "transformers": {"speech.features", "pipeline.pipeline_dawn", "modular.blocks", "conversion.random_pipeline",
                     "conversion.published", "cli.messages"},
}  # fmt: skip


@functools.cache
def imports_of(tree: str, module: str) -> set[str]:
    """Full names of imported modules, also of those imported inside functions."""
    path = TREES[tree][0] / Path(*module.split(".")).with_suffix(".py")
    package = [tree, *module.split(".")[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            # what is imported from a room is a module of it
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= {source} | {
                name for name in members if name.removeprefix(f"{tree}.") in modules_of(TREES[tree][0])
            }
    return found


def own_imports(tree: str) -> dict[str, set[str]]:
    modules = modules_of(TREES[tree][0])
    names = {module: {name.removeprefix(f"{tree}.") for name in imports_of(tree, module)} for module in modules}
    return {module: found.intersection(modules) for module, found in names.items()}


@pytest.mark.parametrize("tree", TREES)
def test_every_module_lies_in_a_listed_room(tree):
    folder, rooms = TREES[tree]
    assert {room_of(module, rooms) for module in modules_of(folder)} == set(rooms)
    if tree == "diffusers_dawn":
        assert sorted(f"models.{name}" for name in MODELS) == [
            m for m in modules_of(folder) if m.startswith("models.")
        ]


@pytest.mark.parametrize("tree", TREES)
def test_modules_import_only_from_their_room_and_those_before_it(tree):
    _, rooms = TREES[tree]
    places = {room: place for place, room in enumerate(rooms)}
    back = [
        (module, name)
        for module, found in own_imports(tree).items()
        for name in found
        if places[room_of(name, rooms)] > places[room_of(module, rooms)]
    ]
    assert back == []


def test_models_import_only_from_models_before_them():
    places = {f"models.{name}": place for place, name in enumerate(MODELS)}
    found = own_imports("diffusers_dawn")
    assert not [(m, n) for m in places for n in found[m] & places.keys() if places[n] >= places[m]]


@pytest.mark.parametrize("tree", TREES)
def test_no_modules_import_each_other_in_a_circle(tree):
    TopologicalSorter(own_imports(tree)).prepare()


@pytest.mark.parametrize("path", maps(), ids=lambda path: path.name)
def test_readers_see_the_rooms_as_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert with_map(text, maps()[path]) == text, "run `python tests/rooms.py`"


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_package_is_imported_only_in_its_modules(package):
    modules = modules_of(PACKAGE)
    users = {m for m in modules if any(name.split(".")[0] == package for name in imports_of("diffusers_dawn", m))}
    assert users == HEAVY[package]


def test_pipeline_does_not_know_the_models():
    found = own_imports("diffusers_dawn")
    assert not [m for m in found if m.startswith("pipeline.") and any(n.startswith("models.") for n in found[m])]


def test_nothing_in_the_package_imports_training():
    modules = modules_of(PACKAGE)
    assert not [m for m in modules if any(n.split(".")[0] == "training" for n in imports_of("diffusers_dawn", m))]
