"""The folders of the sources in their order, and the maps of them in README, CONTRIBUTING and docs.

`python tests/rooms.py` writes the maps, and a test compares them. The first line of a folder's docstring describes it.
"""

import ast
import functools
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "diffusers_dawn"
TRAINING = ROOT / "training"
COMMANDS = "commands"  # the modules that lie in training/ itself

# Lowest first: a module imports from its own room and from rooms before it.
PACKAGE_ROOMS = (
    "ranges",
    "records",
    "machine",
    "geometry",
    "media",
    "models",
    "sampling",
    "face",
    "speech",
    "motion",
    "sharing",
    "memory",
    "pipeline",
    "modular",
    "conversion",
    "graphs",
    "cli",
    "studio",
)
# The one room where the order of modules counts, too.
MODELS = (
    "own_code",
    "hooked_methods",
    "size_limits",
    "attention",
    "blocks_2d",
    "video_layers",
    "shared_latents",
    "condition_attention",
    "mouth_reader",
    "condition_inputs",
    "video_attention",
    "blocks_track",
    "image_coding",
    "region_motion",
    "blocks_3d",
    "unet_levels",
    "track_inputs",
    "pbnet",
    "lfg",
    "native_features",
    "a2v_fdm",
)
TRAINING_ROOMS = ("objectives", "data", "synthetic", "evaluation", "engine", COMMANDS)
WIDTH = 110


@functools.cache
def modules_of(folder: Path) -> list[str]:
    """Name the modules below a folder, dotted from there, without `__main__`, its own and its rooms' `__init__`."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths if path.name not in ("__init__", "__main__"))


def room_of(module: str, rooms: tuple[str, ...]) -> str:
    """Say in which room a module lies: its folder, or, where it lies in none, itself or the commands."""
    first = module.split(".")[0]
    return COMMANDS if COMMANDS in rooms and "." not in module else first


def map_of(folder: Path, rooms: tuple[str, ...], with_modules: bool = True) -> str:
    """Write a tree: each room, what it is for, and its modules."""
    lines = [f"{folder.relative_to(ROOT).as_posix()}/"]
    for room in rooms:
        modules = [name for name in modules_of(folder) if room_of(name, rooms) == room]
        leaves = [name.removeprefix(f"{room}.").replace(".", "/") for name in modules]
        if folder == PACKAGE and room == "models":
            leaves = list(MODELS)
        if room == COMMANDS:
            leaves = [leaf for leaf in leaves if not leaf.startswith("_")]
            lines += textwrap.wrap(", ".join(f"{leaf}.py" for leaf in leaves), WIDTH, **_indented("  "))
            continue
        is_file = modules == [room]
        purpose = _first_line(folder / (f"{room}.py" if is_file else f"{room}/__init__.py"))
        lines.append(f"  {room + ('.py' if is_file else '/'):<14}{purpose}")
        if with_modules and not is_file:
            lines += textwrap.wrap(", ".join(leaves), WIDTH, **_indented(" " * 16))
    return "\n".join(["```", *lines, "```"])


def order() -> str:
    """Write the order of rooms as a table."""
    rows = {"`src/diffusers_dawn`": PACKAGE_ROOMS, "its `models`": MODELS, "`training`": TRAINING_ROOMS}
    lines = [f"| {where} | {', '.join(f'`{room}`' for room in rooms)} |" for where, rooms in rows.items()]
    return "\n".join(["| where | lowest first |", "|---|---|", *lines])


def maps() -> dict[Path, str]:
    """Write what stands between `<!-- rooms -->` and `<!-- end of rooms -->` of each file."""
    return {
        ROOT / "README.md": map_of(PACKAGE, PACKAGE_ROOMS, with_modules=False),
        ROOT / "docs" / "architecture.md": map_of(PACKAGE, PACKAGE_ROOMS),
        ROOT / "training" / "README.md": map_of(TRAINING, TRAINING_ROOMS),
        ROOT / "CONTRIBUTING.md": order(),
    }


def with_map(text: str, written: str) -> str:
    """Put a map between its marks."""
    marked = re.compile(r"(?<=<!-- rooms -->\n).*?(?=\n<!-- end of rooms -->)", flags=re.DOTALL)
    if len(marked.findall(text)) != 1:
        raise ValueError("`text` must have `<!-- rooms -->` and `<!-- end of rooms -->` once, on lines of their own")
    return marked.sub(lambda _: written, text)


def _indented(by: str) -> dict[str, str]:
    return {"initial_indent": by, "subsequent_indent": by}


def _first_line(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


if __name__ == "__main__":
    for file, written in maps().items():
        file.write_text(with_map(file.read_text(encoding="utf-8"), written), encoding="utf-8")
