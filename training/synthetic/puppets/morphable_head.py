"""A head whose identity and expression are weighted sums of shapes: geometry only, in the frame of ICT-FaceKit.

The file is an `.npz` with `neutral` (V, 3) [cm], `triangles` (T, 3), `polygon` (T,), the polygon of ICT-FaceKit's mesh
that each triangle was cut from, `identity` (I, V, 3) and `expression` (E, V, 3), displacements from `neutral`, and
`expression_names` (E,): ARKit's names with `_L` and `_R` for the sides. `pack_morphable_head.py` makes one from
ICT-FaceKit's repository (MIT licence). Frame: x to the image's right, y up, z towards the viewer.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# the parts of the mesh, and where the polygons of each end; what comes after them (tear fluid, lashes, shells around
# the eyes that only shading needs) is left out
PART_ENDS = {
    "face": 9230,
    "head": 11144,
    "mouth socket": 13226,
    "eye sockets": 14034,
    "gums": 17006,
    "teeth": 21496,
    "eyeballs": 24691,
}
FACE, HEAD, MOUTH_SOCKET, EYE_SOCKETS, GUMS, TEETH, EYEBALLS = range(len(PART_ENDS))
# what lies behind the lips: gums, with the tongue, and teeth in their socket
INNER_MOUTH = (MOUTH_SOCKET, GUMS, TEETH)
# ICT-FaceKit's vertices of the 68 landmarks of the Multi-PIE convention
LANDMARK_VERTICES = np.array([
    *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),
    *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
])
# the front of the face: how far forward, between which heights, and how far its normals may turn away
FRONT_DEPTH_CM, FRONT_HEIGHTS_CM, FRONT_FACING = 4.6, (-8.0, 9.5), 0.2
# vertices that a wide open jaw moves further than this belong to it [cm]
JAW_SHARE_CM = 0.5
CHIN, RIGHT_EYE, LEFT_EYE, LIPS, INNER_LIPS = 8, slice(36, 42), slice(42, 48), slice(48, 68), slice(60, 68)


@dataclass(frozen=True)
class MorphableHead:
    """The shapes of a head.

    Attributes:
        neutral_cm: Mean head, float32 (V, 3).
        triangles: Int32 vertex indices (T, 3), counter-clockwise seen from outside.
        part: Part of each triangle, int8 (T,), see `PART_ENDS`.
        identity_cm: Displacement per unit of each identity weight, float32 (I, V, 3).
        expression_cm: Displacement per unit of each expression weight, float32 (E, V, 3).
        expression_names: Names of the expressions (E,).
        is_followed: Whether what a triangle shows of a person lies where the triangle does, bool (T,): the front of
            the face and all within it. Ears, hair, the cheeks' sides and the neck are other on every person.
        follows_jaw: Whether a vertex moves with the jaw, bool (V,).
    """

    neutral_cm: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    identity_cm: np.ndarray
    expression_cm: np.ndarray
    expression_names: tuple[str, ...]
    is_followed: np.ndarray
    follows_jaw: np.ndarray

    @property
    def num_expressions(self) -> int:
        """Number E of expressions."""
        return len(self.expression_names)

    def shape(self, identity: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) [cm] of a person without expression, of the first identity weights (I',)."""
        return self.neutral_cm + np.tensordot(identity.astype(np.float32), self.identity_cm[: len(identity)], 1)

    def expression_shift(self, expression: np.ndarray) -> np.ndarray:
        """Displacement (V, 3) [cm] by expression weights (E,)."""
        return (expression.astype(np.float32) @ self.expression_cm.reshape(self.num_expressions, -1)).reshape(-1, 3)

    def vertices_of(self, part: int) -> np.ndarray:
        """Indices of the vertices of a part."""
        return np.unique(self.triangles[self.part == part])

    def expression(self, weights: Mapping[str, float]) -> np.ndarray:
        """Make a vector of expression weights.

        Args:
            weights: Weight by name; a name without `_L` or `_R` means both sides.

        Returns:
            Float32 array (E,).

        Raises:
            ValueError: There is no expression of that name.
        """
        vector = np.zeros(self.num_expressions, np.float32)
        for name, weight in weights.items():
            vector[self.expression_indices(name)] = weight
        return vector

    def expression_indices(self, *prefixes: str) -> list[int]:
        """Find the expressions whose names are, or begin with, one of some prefixes.

        Args:
            *prefixes: For example "mouth", or "eyeBlink" for both eyes.

        Returns:
            Their indices.

        Raises:
            ValueError: There is none.
        """
        indices = [index for index, name in enumerate(self.expression_names) if name.startswith(prefixes)]
        if not indices:
            raise ValueError(f"`prefixes` is {prefixes}, must begin one of {', '.join(self.expression_names)}")
        return indices


def load_morphable_head(path: str | Path) -> MorphableHead:
    """Read a morphable head.

    Args:
        path: The `.npz` file.

    Returns:
        The head, without vertices that no part uses.

    Raises:
        ValueError: It is no such file, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"`morphable_head` {path} cannot be read as an .npz file: {error}") from error
    wanted = {"neutral", "triangles", "polygon", "identity", "expression", "expression_names"}
    if missing := sorted(wanted - set(arrays)):
        raise ValueError(
            f"`morphable_head` {path} has no {', '.join(missing)}, must be as pack_morphable_head.py writes"
        )
    num_vertices = len(arrays["neutral"])
    shapes = {name: arrays[name].shape[1:] for name in ("identity", "expression")}
    if any(shape != (num_vertices, 3) for shape in shapes.values()) or arrays["triangles"].max() >= num_vertices:
        raise ValueError(
            f"`morphable_head` {path} holds shapes of another mesh than `neutral` ({num_vertices} vertices)"
        )
    ends = np.array(list(PART_ENDS.values()))
    part = np.searchsorted(ends, arrays["polygon"], side="right").astype(np.int8)
    is_kept = part < len(ends)
    used, triangles = np.unique(arrays["triangles"][is_kept], return_inverse=True)
    if not np.array_equal(used[: LANDMARK_VERTICES.max() + 1], np.arange(LANDMARK_VERTICES.max() + 1)):
        raise ValueError(f"`morphable_head` {path} is not ICT-FaceKit's mesh: its face lacks vertices")
    neutral_cm = arrays["neutral"][used].astype(np.float32)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    names = tuple(str(name) for name in arrays["expression_names"])
    expression_cm = np.ascontiguousarray(arrays["expression"][:, used], np.float32)
    return MorphableHead(
        neutral_cm=neutral_cm,
        triangles=triangles,
        part=part[is_kept],
        identity_cm=np.ascontiguousarray(arrays["identity"][:, used], np.float32),
        expression_cm=expression_cm,
        expression_names=names,
        is_followed=_is_front(neutral_cm, triangles) | ((part != FACE) & (part != HEAD))[is_kept],
        follows_jaw=np.abs(expression_cm[names.index("jawOpen"), :, 1]) > JAW_SHARE_CM,
    )


def _is_front(neutral_cm: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    corners = neutral_cm[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = normals[:, 2] / (np.linalg.norm(normals, axis=1) + 1e-9)
    lowest, highest = corners[..., 1].min(axis=1), corners[..., 1].max(axis=1)
    in_front = corners[..., 2].min(axis=1) > FRONT_DEPTH_CM
    return in_front & (facing > FRONT_FACING) & (lowest > FRONT_HEIGHTS_CM[0]) & (highest < FRONT_HEIGHTS_CM[1])
