import numpy as np
import pytest

from training.pack_morphable_head import main, pack

SQUARE = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "f 1/1 2/2 3/3 4/4", "f 1/1 2/2 3/3"]


@pytest.fixture
def face_model(tmp_path):
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    moved = ["v 0 0 2", *SQUARE[1:]]
    for name in ("generic_neutral_mesh", *(f"identity{number:03d}" for number in range(100))):
        (folder / f"{name}.obj").write_text("\n".join(SQUARE))
    (folder / "jawOpen.obj").write_text("\n".join(moved))
    return folder


def test_polygons_become_triangles_and_meshes_displacements(face_model, tmp_path):
    pack(face_model, tmp_path / "head.npz")
    with np.load(tmp_path / "head.npz") as head:
        np.testing.assert_array_equal(head["triangles"], [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
        np.testing.assert_array_equal(head["polygon"], [0, 0, 1])
        assert head["expression_names"].tolist() == ["jawOpen"] and not head["identity"].any()
        np.testing.assert_array_equal(head["expression"][0], [[0, 0, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_a_mesh_of_another_size_leaves_nothing(face_model, tmp_path, capsys):
    (face_model / "jawOpen.obj").write_text("v 0 0 0")
    assert main(["--face_model", str(face_model), "--output", str(tmp_path / "head.npz")]) == 2
    assert "jawOpen.obj has 1 vertices, must have 4" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["FaceXModel"]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no generic_neutral_mesh.obj"):
        pack(tmp_path, tmp_path / "head.npz")
