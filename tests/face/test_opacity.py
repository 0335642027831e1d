import numpy as np
import pytest
import torch

from diffusers_dawn import FaceState, Portrait, SquareCrop, paste_each
from diffusers_dawn.face.opacity import cut_out, upright_opacity
from diffusers_dawn.pipeline.clip_tensors import join_opacity, opacity_tensor

STATE = FaceState(pose=np.zeros(6), blink=np.zeros(2), box_px=(1, 7, 1, 7), image_size=(8, 8))
IMAGE = np.full((8, 8, 3), 90, np.uint8)


def test_a_portrait_gets_its_part_of_the_pictures_opacity():
    own = np.arange(12 * 20, dtype=np.uint8).reshape(20, 12)
    upright = upright_opacity(np.zeros((12, 20, 3), np.uint8), own, 1, segment=None)
    assert np.array_equal(upright, np.rot90(own))
    portrait = cut_out(Portrait(IMAGE, STATE, SquareCrop(3, 2, 8), 1), upright, is_over_white=True)
    assert np.array_equal(portrait.opacity, upright[2:10, 3:11]) and portrait.is_over_white
    assert np.array_equal(cut_out(Portrait(IMAGE, STATE), upright[:8, :8], False).opacity, upright[:8, :8])


def test_frames_get_a_fourth_channel_if_any_portrait_is_transparent():
    plain = Portrait(IMAGE, STATE)
    assert opacity_tensor([plain, plain], 16, 16) is None
    clear = cut_out(plain, np.full((8, 8), 51, np.uint8), is_over_white=True)
    masked = cut_out(plain, np.full((8, 8), 51, np.uint8), is_over_white=False)
    opacity = opacity_tensor([plain, clear, masked], 16, 16)
    assert opacity.shape == (3, 1, 16, 16) and opacity[0].min() == 1
    assert opacity[1:].min() == opacity[1:].max() == pytest.approx(0.2)
    frames = torch.full((3, 2, 3, 16, 16), 0.9)
    joined = join_opacity(frames, opacity[:, None].expand(-1, 2, -1, -1, -1), [plain, clear, masked])
    assert joined.shape == (3, 2, 4, 16, 16)
    for clip, colour in zip(joined, (0.9, 0.5, 0.9), strict=True):  # 0.5 * 0.2 + 0.8 = 0.9
        torch.testing.assert_close(clip[:, :3], torch.full((2, 3, 16, 16), colour), atol=1e-5, rtol=0)


def test_opacity_is_pasted_with_the_colours():
    picture = np.full((30, 30, 4), 10, np.uint8)
    (pasted,) = paste_each(picture, [np.full((8, 8, 4), 250, np.uint8)], SquareCrop(10, 10, 8), feather=0)
    assert (pasted[10:18, 10:18] == 250).all() and (pasted[:10] == 10).all()
    with pytest.raises(ValueError, match=r"`frames` is uint8 \(8, 8, 3\), must be uint8 \(H, W, 4\)"):
        next(paste_each(picture, [np.zeros((8, 8, 3), np.uint8)], SquareCrop(10, 10, 8)))


def test_opacity_moves_as_the_frames_do(pipe):
    size = pipe.default_size
    opacity = np.zeros((size, size), np.uint8)
    opacity[:, size // 2 :] = 255
    state = FaceState(np.zeros(6), np.zeros(2), (size // 4, size // 2, size // 4, size // 2), (size, size))
    portrait = cut_out(Portrait(np.full((size, size, 3), 90, np.uint8), state), opacity, is_over_white=False)
    latents = torch.zeros(1, 3, 3, size // 4, size // 4)
    if pipe.unet.config.flow_scale is None:  # positions instead of displacements
        steps = torch.linspace(-1, 1, size // 4)
        latents[:, 0], latents[:, 1] = steps[None, None], steps[None, :, None]
    latents[:, 0, 1] -= 0.5 * (pipe.unet.config.flow_scale or 1)  # a quarter of the picture to the right
    frames = torch.cat(list(pipe.decode_motion(latents, [portrait], chunk_size=2)), dim=1)
    assert frames.shape == (1, 3, 4, size, size)
    shares = frames[0, :, 3].mean(dim=(1, 2)).tolist()
    assert shares == pytest.approx([0.5, 0.25, 0.5], abs=0.05)
