import numpy as np
import pytest
import torch

from diffusers_dawn.models.mouth_reader import MOUTH_DEVIATIONS, MOUTH_MEANS
from training.data.mouth import mouth_opening, mouth_track


def test_mouth_opening_is_the_inner_gap_over_the_height_of_the_face():
    mouth = torch.full((2, 20, 2), 50.0)
    mouth[1, 14], mouth[1, 18] = torch.tensor([47.0, 46.0]), torch.tensor([53.0, 54.0])
    opening = mouth_opening(mouth.numpy(), np.array([[10, 90, 0, 100], [10, 90, 20, 70]]))
    torch.testing.assert_close(opening, torch.tensor([0.0, 10 / 50]))


def test_a_mouths_track_counts_width_from_the_clips_own_and_heights_of_the_clips_median():
    mouth = torch.full((3, 20, 2), 50.0)
    # corners 20, 24 and 20 px apart; the lips part by 4 px in the last frame
    mouth[:, 0, 0], mouth[:, 6, 0] = torch.tensor([40.0, 38, 40]), torch.tensor([60.0, 62, 60])
    mouth[2, 18, 1] = 54
    # the chin drops with the lips
    boxes = torch.tensor([[0.0, 99, 0, 100], [0, 99, 0, 100], [0, 99, 0, 110]])
    raw = mouth_track(mouth, boxes) * torch.tensor(MOUTH_DEVIATIONS) + torch.tensor(MOUTH_MEANS)
    torch.testing.assert_close(raw, torch.tensor([[0.0, 0.0], [0.0, 0.04], [0.04, 0.0]]), atol=1e-6, rtol=0)


def test_landmarks_and_boxes_that_do_not_fit_are_refused():
    mouth, boxes = torch.zeros(2, 20, 2), torch.tensor([[0.0, 9, 0, 9]]).expand(2, -1)
    with pytest.raises(ValueError, match="`mouth_px` is"):
        mouth_opening(mouth[:, :12], boxes)
    with pytest.raises(ValueError, match="`face_box_px` is"):
        mouth_opening(mouth, boxes[:1])
    with pytest.raises(ValueError, match="`face_box_px` has a height of 0 px"):
        mouth_opening(mouth, torch.zeros(2, 4))
