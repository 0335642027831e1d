"""Squares around mouth and eyes, and the discriminator that looks at them."""

import torch

from training.objectives.picture_discriminator import SQUARE_PX, PictureDiscriminator, squares_of_details


def places(mouth, left_eye, right_eye):
    """Mouths and eyes, given as x_min, x_max, y_min, y_max [px]."""
    x_min, x_max, y_min, y_max = mouth
    corners = torch.tensor([[x_min, y_min], [x_max, y_max]], dtype=torch.float32)
    return {
        "mouth_px": corners.repeat(10, 1)[None],
        "eyes_px": torch.tensor([[left_eye, right_eye]], dtype=torch.float32),
        "occlusion": torch.ones(1, 1, 16, 16),
    }


def test_squares_show_mouth_and_eyes_in_their_middle():
    picture = torch.zeros(1, 3, 100, 120)
    boxes = (40, 80, 70, 80), (30, 50, 28, 32), (70, 90, 28, 32)
    for channel, (x_min, x_max, y_min, y_max) in enumerate(boxes):
        picture[0, channel, y_min:y_max, x_min:x_max] = 1
    squares = squares_of_details(picture, places(*boxes))
    assert squares.shape == (3, 4, SQUARE_PX, SQUARE_PX)
    for index, (box, side) in enumerate(zip(boxes, (1.5 * 40, 2 * 20, 2 * 20), strict=True)):
        area = (box[1] - box[0]) * (box[3] - box[2]) / side**2
        torch.testing.assert_close(squares[index, index].mean(), torch.tensor(area), atol=0.01, rtol=0)
        rows, columns = (squares[index, index] > 0.5).nonzero(as_tuple=True)
        for middle in (rows, columns):
            torch.testing.assert_close(middle.float().mean(), torch.tensor((SQUARE_PX - 1) / 2), atol=0.6, rtol=0)


def test_what_lies_outside_of_the_picture_is_not_judged():
    picture = torch.rand(1, 3, 64, 64)
    squares = squares_of_details(picture, places((20, 40, 90, 100), (10, 20, 10, 14), (-30, -20, 10, 14)))
    assert len(squares) == 1


def test_pieces_that_the_source_shows_are_not_judged():
    torch.manual_seed(0)
    discriminator = PictureDiscriminator(base_channels=4)
    boxes = (16, 48, 40, 56), (10, 20, 10, 14), (40, 50, 10, 14)
    batch = places(*boxes)
    batch["occlusion"][..., 10:14, 6:10] = 0
    squares = squares_of_details(torch.rand(1, 3, 64, 64), batch)
    verdict = discriminator(squares)
    assert verdict.logits.shape == verdict.mask.shape == (3, 64)
    judged = verdict.mask.unflatten(1, (8, 8))
    assert judged[0, 3:5, 3:5].all() and not judged[0, 0].any() and not judged[1:].any()


def test_verdicts_see_how_bright_a_square_is():
    torch.manual_seed(0)
    discriminator = PictureDiscriminator(base_channels=4)
    squares = torch.rand(2, 4, SQUARE_PX, SQUARE_PX)
    darker = squares.clone()
    darker[:, :3] *= 0.5
    assert (discriminator(darker).logits - discriminator(squares).logits).abs().mean() > 0.01
