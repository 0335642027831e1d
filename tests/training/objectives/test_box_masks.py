import pytest
import torch

from training.objectives.box_masks import box_coverage, box_mask, eye_box_mask, mouth_box_mask, open_eye_boxes


def mouth_at(*corners: tuple[float, float]) -> torch.Tensor:
    """Landmarks (1, 1, 20, 2) at the given points."""
    return torch.tensor([corners[index % len(corners)] for index in range(20)])[None, None]


def test_mouth_box_encloses_the_landmarks_at_the_motions_resolution():
    mask = mouth_box_mask(mouth_at((40, 80), (72, 100)), (128, 128), 32, 32)
    assert mask.shape == (1, 1, 1, 32, 32) and mask.dtype == torch.float32
    cells = mask[0, 0, 0].nonzero()
    assert cells.amin(0).tolist() == [20, 10] and cells.amax(0).tolist() == [25, 18] and mask.sum() == 6 * 9


def test_mouth_box_follows_the_mouth_and_the_shape_of_the_image():
    mouths = torch.cat([mouth_at((0, 0), (7.9, 7.9)), mouth_at((120, 56), (127.9, 63.9))], dim=1)
    mask = mouth_box_mask(mouths, (64, 128), 16, 32)
    assert mask.shape == (1, 1, 2, 16, 32)
    assert mask[0, 0, 0, :2, :2].sum() == mask[0, 0, 0].sum() == 4
    assert mask[0, 0, 1, 14:, 30:].sum() == mask[0, 0, 1].sum() == 4


def test_boxes_of_closed_eyes_are_as_high_as_those_of_open_ones():
    eyes_px = torch.tensor([[[10.0, 30.0, 20.0, 20.5], [40.0, 60.0, 15.0, 25.0]]])
    closed, opened = open_eye_boxes(eyes_px)[0]
    assert closed.tolist() == pytest.approx([10, 30, 16.75, 23.75])
    assert opened.tolist() == [40, 60, 15, 25]


def test_eye_boxes_enclose_both_eyes_and_half_an_eye_beside_them_at_the_motions_resolution():
    eyes_px = torch.tensor([[[10.0, 30.0, 20.0, 20.5], [40.0, 60.0, 15.0, 25.0]]])
    mask = eye_box_mask(eyes_px[None], (64, 128), 16, 32)
    assert mask.shape == (1, 1, 1, 16, 32) and mask.dtype == torch.float32
    assert mask[0, 0, 0, 4:6, :18].all() and mask[0, 0, 0, 3:7, 7:18].all() and mask.sum() == 2 * 18 + 2 * 11


@pytest.mark.parametrize("point", [(50.3, 50.3), (-40, 30), (500, 500)])
def test_every_mouth_has_at_least_one_cell(point):
    assert mouth_box_mask(mouth_at(point), (128, 128), 32, 32).sum() == 1


def test_landmarks_that_are_no_mouths_are_refused():
    with pytest.raises(ValueError, match=r"`mouth_px` is \(1, 20, 2\), must be \(B, F, 20, 2\)"):
        mouth_box_mask(torch.zeros(1, 20, 2), (128, 128), 32, 32)


def test_box_mask_has_every_cell_that_the_box_touches():
    boxes = torch.tensor([[[1.2, 2.9, 0.0, 0.5], [-3.0, -1.0, 5.5, 9.0]]])
    mask = box_mask(boxes, 4, 5)
    assert mask.shape == (1, 2, 4, 5)
    assert mask[0, 0].nonzero().tolist() == [[0, 1], [0, 2]]
    assert mask[0, 1].nonzero().tolist() == [[3, 0]], "beyond the border is drawn at the border"


def test_coverage_is_the_boxes_area_cell_by_cell():
    boxes = torch.tensor([[1.25, 3.0, 0.5, 2.0], [-1.0, 0.5, 2.0, 9.0]])
    shares = box_coverage(boxes, 4, 5)
    assert shares.shape == (2, 4, 5)
    assert shares[0].tolist() == [[0, 0.375, 0.5, 0, 0], [0, 0.75, 1, 0, 0], [0] * 5, [0] * 5]
    assert shares[1].nonzero().tolist() == [[2, 0], [3, 0]] and shares[1].sum() == 1
