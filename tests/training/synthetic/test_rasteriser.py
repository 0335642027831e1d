import numpy as np
import pytest

from training.synthetic.rasteriser import NOTHING, rasterise, smooth_normals

# two triangles of a square in reading order; seen from the front they run counter-clockwise, while y points down
SQUARE = np.array([[1, 1], [7, 1], [1, 7], [7, 7]], np.float32)
FRONT = np.array([[0, 2, 1], [1, 2, 3]], np.int32)


def draw(screen=SQUARE, depth_cm=(0, 0, 0, 0), triangles=FRONT, two_sided=False, coverage=(1, 1, 1, 1)):
    return rasterise(
        np.asarray(screen, np.float32),
        np.array(depth_cm, np.float32),
        triangles,
        np.full(len(triangles), two_sided),
        np.array(coverage, np.float32),
        8,
    )


def test_a_square_covers_its_samples_without_a_gap():
    shown = draw().triangle != NOTHING
    expected = np.zeros((8, 8), bool)
    expected[1:7, 1:7] = True
    np.testing.assert_array_equal(shown, expected)


def test_weights_give_back_the_place_of_each_sample():
    raster = draw()
    row, column = np.argwhere(raster.triangle == 1)[5]
    b, c = raster.weights[row, column]
    corners = SQUARE[FRONT[1]]
    place = (1 - b - c) * corners[0] + b * corners[1] + c * corners[2]
    np.testing.assert_allclose(place, (column + 0.5, row + 0.5), atol=1e-5)


def test_the_nearest_surface_shows_whatever_the_order():
    screen = np.concatenate([SQUARE, SQUARE])
    near_second = [0, 0, 0, 0, 1, 1, 1, 1]
    triangles = np.concatenate([FRONT, FRONT + 4]).astype(np.int32)
    for order in (triangles, triangles[::-1].copy()):
        raster = draw(screen, near_second, order, coverage=[1] * 8)
        assert set(np.unique(order[raster.triangle[1:7, 1:7]])) == {4, 5, 6, 7}
        assert (raster.depth_cm[1:7, 1:7] == 1).all()


@pytest.mark.parametrize(("two_sided", "share"), [(False, 0), (True, 36 / 64)])
def test_a_back_shows_only_if_both_sides_do(two_sided, share):
    raster = draw(triangles=FRONT[:, ::-1].copy(), two_sided=two_sided)
    assert (raster.triangle != NOTHING).mean() == share


def test_a_surface_is_cut_off_where_its_coverage_turns_negative():
    shown = draw(coverage=(-1, 1, -1, 1)).triangle != NOTHING
    assert shown[1:7, 4:7].all()
    assert not shown[:, :4].any()


def test_what_lies_outside_the_picture_is_left_out():
    raster = draw(screen=SQUARE + (100, -50))
    assert (raster.triangle == NOTHING).all()


def test_normals_of_a_front_face_point_to_the_viewer():
    vertices = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]], np.float32)
    normals = smooth_normals(vertices, FRONT)
    np.testing.assert_array_equal(normals[:, :2], 0)
    assert (normals[:, 2] > 0).all()
