"""Frames with the portrait's own detail: where it comes from, and where the network's pixels stay."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from diffusers_dawn import Portrait
from diffusers_dawn.face.opacity import cut_out
from diffusers_dawn.geometry.flow import cell_centres, coordinate_grid, warp_frames
from diffusers_dawn.pipeline.clip_tensors import image_tensor
from diffusers_dawn.pipeline.portrait_detail import PortraitDetail
from pipeline_calls import face, picture

SIDE, SMALL = 96, 32
PORTRAIT = Portrait(picture(size=(SIDE, SIDE)), face(SIDE))
OWN = image_tensor([PORTRAIT], SIDE, SIDE)[0]
DRAWN = image_tensor([PORTRAIT], SMALL, SMALL)[:, None]
STILL = cell_centres(8, 8)[None, None]
VISIBLE = torch.ones(1, 1, 1, 8, 8)


def enlarge(frames=DRAWN, flow=STILL, occlusion=VISIBLE, size=(SIDE, SIDE)):
    detail = PortraitDetail([PORTRAIT], (SMALL, SMALL), size, "bicubic", "repeated")
    return torch.cat(list(detail.enlarge(frames, flow, occlusion)), dim=1)


def bicubic(frames):
    return interpolate(frames[0], (SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)


def test_a_portrait_that_stands_still_keeps_its_full_resolution():
    torch.testing.assert_close(enlarge()[0, 0], OWN, atol=1e-4, rtol=0)
    half = enlarge(size=(SIDE // 2, SIDE // 2))
    torch.testing.assert_close(half, image_tensor([PORTRAIT], SIDE // 2, SIDE // 2)[:, None], atol=1e-4, rtol=0)


def test_detail_moves_with_the_flow():
    # by six of the portrait's pixels, two of the network's
    moved = torch.roll(DRAWN, 2, dims=-1)
    frame = enlarge(moved, STILL - torch.tensor([6 * 2 / SIDE, 0]))[0, 0]
    torch.testing.assert_close(frame[..., 24:], torch.roll(OWN, 6, dims=-1)[..., 24:], atol=2e-3, rtol=0)


def test_what_is_covered_comes_from_the_network():
    painted = torch.rand(1, 1, 3, SMALL, SMALL, generator=torch.Generator().manual_seed(1))
    assert torch.equal(enlarge(painted, occlusion=0 * VISIBLE)[0], bicubic(painted))


def test_what_the_network_painted_over_the_portrait_stays_and_the_rest_is_sharp():
    painted = DRAWN.clone()
    painted[..., 12:20, 12:20] = 1 - painted[..., 12:20, 12:20].round()
    frame = enlarge(painted)[0, 0]
    torch.testing.assert_close(frame[..., 42:54, 42:54], bicubic(painted)[0, :, 42:54, 42:54], atol=0.02, rtol=0)
    torch.testing.assert_close(frame[..., :20], OWN[..., :20], atol=1e-4, rtol=0)


@pytest.mark.parametrize("flow", [STILL * torch.tensor([1, 0.1]), STILL + 1.5])
def test_detail_does_not_become_streaks_where_the_portrait_is_stretched(flow):
    moved = warp_frames(DRAWN[:, 0], flow, "bicubic", "repeated").clamp(0, 1)
    inner = (..., slice(18, -18), slice(48, -18))  # at the edges, flow is extrapolated
    assert torch.equal(enlarge(moved, flow)[inner], bicubic(moved)[None][inner])


def test_every_frame_gets_the_detail_of_its_own_motion():
    frames, flow = torch.cat((DRAWN, torch.roll(DRAWN, 2, -1)), 1), torch.cat((STILL, STILL - 0.125), 1)
    occlusion = VISIBLE.expand(1, 2, 1, 8, 8)
    both = enlarge(frames, flow, occlusion)
    for index in (0, 1):
        alone = enlarge(*(part[:, index : index + 1] for part in (frames, flow, occlusion)))
        assert torch.equal(both[:, index : index + 1], alone)


@pytest.mark.parametrize("size", [(SMALL - 1, SIDE), (SIDE, SIDE + 1), (SIDE, 48.5)])
def test_sizes_that_the_portrait_does_not_have_are_refused(size):
    name, wrong = ("height", size[0]) if size[0] < SMALL else ("width", size[1])
    message = f"`{name}` of frames with the portrait's detail is {wrong}, must be a whole number from the network's 32"
    with pytest.raises(ValueError, match=message):
        enlarge(size=size)


def still_latents(pipe, num_frames):
    cells = pipe.default_size // pipe.lfg.config.motion_stride
    latents = torch.ones(1, 3, num_frames, cells, cells)
    latents[:, :2] = coordinate_grid(cells, cells).permute(2, 0, 1)[None, :, None]
    return latents


def test_the_pipeline_draws_larger_frames_one_by_one(pipe):
    portrait = Portrait(picture(size=(160, 160)), face(160))
    pieces = list(pipe.decode_motion(still_latents(pipe, 3), [portrait], chunk_size=2, detail_size=(128, 128)))
    assert [piece.shape for piece in pieces] == [(1, 1, 3, 128, 128)] * 3


def test_opacity_is_that_of_the_portrait_at_its_own_resolution(pipe):
    side = 2 * pipe.default_size
    stripes = np.zeros((side, side), np.uint8)
    stripes[:, ::2] = 255  # too fine for the network's size
    portrait = cut_out(Portrait(picture(size=(side, side)), face(side)), stripes, is_over_white=True)
    (plain,) = pipe.decode_motion(still_latents(pipe, 1), [portrait])
    (frame,) = pipe.decode_motion(still_latents(pipe, 1), [portrait], detail_size=(side, side))
    assert frame.shape == (1, 1, 4, side, side)
    assert plain[..., 3, :, :].std() < 0.05 and frame[..., 3, :, :].std() > 0.2
