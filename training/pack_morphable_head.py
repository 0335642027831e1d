"""Pack ICT-FaceKit's head model into one file, for fitting puppets and filmed faces.

    python training/pack_morphable_head.py --face_model ICT-FaceKit/FaceXModel --output head.npz

Get it from its repository, github.com/ICT-VGL/ICT-FaceKit, the light version (MIT licence; keep its LICENSE with the
file).
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Sequence

import numpy as np

from diffusers_dawn.machine.output_places import check_place
from training.engine import commands

NEUTRAL, IDENTITY = "generic_neutral_mesh", "identity"
NUM_IDENTITIES = 100


def pack(face_model: Path, output: Path) -> None:
    """Write a morphable head, see `synthetic.puppets.morphable_head`.

    Args:
        face_model: ICT-FaceKit's folder FaceXModel of Wavefront files.
        output: The `.npz` file.

    Raises:
        ValueError: Files are missing, their meshes differ, or there is no place for `output`.
    """
    check_place(output, "output")
    meshes = {path.stem: path for path in sorted(face_model.glob("*.obj"))}
    identities = [f"{IDENTITY}{number:03d}" for number in range(NUM_IDENTITIES)]
    if missing := [name for name in (NEUTRAL, *identities) if name not in meshes]:
        raise ValueError(f"`face_model` {face_model} has no {missing[0]}.obj; it must be ICT-FaceKit's FaceXModel")
    neutral = _vertices(meshes[NEUTRAL])
    triangles, polygons = _triangles(meshes[NEUTRAL])
    expressions = [name for name in meshes if name not in (NEUTRAL, *identities)]
    arrays = {
        "neutral": neutral,
        "triangles": triangles,
        "polygon": polygons,
        "identity": _displacements([meshes[name] for name in identities], neutral),
        "expression": _displacements([meshes[name] for name in expressions], neutral),
        "expression_names": np.array(expressions),
    }
    partial = output.with_name(output.name + ".partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(output)


def _displacements(paths: Sequence[Path], neutral: np.ndarray) -> np.ndarray:
    moved = []
    for path in paths:
        vertices = _vertices(path)
        if vertices.shape != neutral.shape:
            raise ValueError(f"{path} has {len(vertices)} vertices, must have {len(neutral)} as the neutral mesh")
        # displacements are small: half precision keeps a hundredth of a millimetre
        moved.append((vertices - neutral).astype(np.float16))
    return np.stack(moved)


def _vertices(path: Path) -> np.ndarray:
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float32)


def _triangles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cut polygons into fans of triangles (T, 3); returns the polygon of each, too."""
    triangles, polygons = [], []
    faces = [line.split()[1:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("f ")]
    for number, face in enumerate(faces):
        corners = [int(corner.split("/")[0]) - 1 for corner in face]
        triangles += [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]
        polygons += [number] * (len(corners) - 2)
    return np.array(triangles, np.int32), np.array(polygons, np.int32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description="Pack ICT-FaceKit's head model into one file.")
    parser.add_argument("--face_model", type=Path, required=True, help="ICT-FaceKit's folder FaceXModel")
    parser.add_argument("--output", type=Path, required=True, metavar="HEAD.npz", help="file to write")
    options = parser.parse_args(arguments)
    return commands.run("pack_morphable_head", lambda: pack(options.face_model, options.output))


if __name__ == "__main__":
    commands.program(main)
