import numpy as np
import pytest

from training.synthetic.puppets.morphable_head import (
    EYEBALLS,
    LANDMARK_VERTICES,
    TEETH,
    load_morphable_head,
)


def test_a_name_without_side_means_both_sides(head):
    weights = head.expression({"eyeBlink": 0.5, "jawOpen": 1})
    named = {name: weight for name, weight in zip(head.expression_names, weights, strict=True) if weight}
    assert named == {"eyeBlink_L": 0.5, "eyeBlink_R": 0.5, "jawOpen": 1}


def test_unknown_expressions_are_refused(head):
    with pytest.raises(ValueError, match="`prefixes`"):
        head.expression({"wink": 1})


def test_jaw_takes_the_lower_teeth_along(head):
    shift_cm = head.expression_shift(head.expression({"jawOpen": 1}))
    teeth_y_cm = shift_cm[head.vertices_of(TEETH), 1]
    assert teeth_y_cm.max() > -0.1 and teeth_y_cm.min() < -1


def test_parts_lie_where_they_belong(head):
    eyes_cm = head.neutral_cm[head.vertices_of(EYEBALLS)]
    corners_cm = head.neutral_cm[LANDMARK_VERTICES[[36, 45]]]
    assert corners_cm[0, 0] < eyes_cm[:, 0].min() + 0.5 and eyes_cm[:, 0].max() - 0.5 < corners_cm[1, 0]


def test_files_that_are_no_head_are_refused(tmp_path):
    path = tmp_path / "head.npz"
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="`morphable_head` .* cannot be read"):
        load_morphable_head(path)
    np.savez(path, neutral=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="has no expression"):
        load_morphable_head(path)


def test_shapes_of_another_mesh_are_refused(tmp_path):
    path = tmp_path / "head.npz"
    shapes = {"identity": np.zeros((2, 3, 3)), "expression": np.zeros((1, 4, 3)), "expression_names": ["jawOpen"]}
    triangles = np.array([[0, 1, 2]])
    np.savez(path, neutral=np.zeros((3, 3)), triangles=triangles, polygon=np.zeros(1, int), **shapes)
    with pytest.raises(ValueError, match="another mesh than `neutral`"):
        load_morphable_head(path)


def test_another_topology_is_refused(tmp_path):
    path = tmp_path / "head.npz"
    shapes = {"identity": np.zeros((2, 3, 3)), "expression": np.zeros((1, 3, 3)), "expression_names": ["jawOpen"]}
    triangles = np.array([[0, 1, 2]])
    np.savez(path, neutral=np.zeros((3, 3)), triangles=triangles, polygon=np.zeros(1, int), **shapes)
    with pytest.raises(ValueError, match="not ICT-FaceKit's mesh"):
        load_morphable_head(path)
