from types import SimpleNamespace

import pytest
import torch

from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.mouth_reader import MouthReader
from training.objectives.denoising import encode_around, mouth_reader_loss


@pytest.mark.parametrize("levels", [(8, 8), (8, 8, 16), (4, 4, 8, 8)])
def test_features_of_a_square_do_not_depend_on_the_picture_far_from_it(levels):
    stride = 2 ** (len(levels) - 1)
    cells, side = 24, 8
    lfg = LatentFlowGenerator(
        image_size=cells * stride,
        block_out_channels=levels,
        motion_stride=stride,
        num_bottleneck_blocks=1,
        with_motion_estimator=False,
    ).eval()
    corners = torch.tensor([[0, 0], [cells - side, cells - side], [3, 9], [cells - side, 5], [12, 16], [4, 11]])
    pictures = torch.rand(len(corners), 3, cells * stride, cells * stride)
    with torch.no_grad():
        whole = lfg.encode_image(pictures).features
        squares = encode_around(lfg, pictures, corners, side)
    for square, features, (left, top) in zip(squares, whole, corners.tolist(), strict=True):
        torch.testing.assert_close(square, features[:, top : top + side, left : left + side])


@torch.no_grad()
def test_what_a_mouth_reader_says_of_frames_without_speech_does_not_count():
    reader = MouthReader(16, 8).eval()
    spoken = torch.randn(2, 12, 16)
    spoken[1, 9:] = 0
    seen = reader(spoken) + 2
    seen[1, 9:] = 1e3
    loss = mouth_reader_loss(SimpleNamespace(mouth_reader=reader), spoken, seen)
    torch.testing.assert_close(loss, torch.tensor(4.0))
