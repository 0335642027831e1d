"""A checkpoint that keeps backgrounds still draws what shows no person as the portrait has it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_dawn import DAWNPipeline, LatentFlowGenerator, Portrait
from diffusers_dawn.geometry.flow import cell_centres
from diffusers_dawn.geometry.motion_latents import latents_from_motion
from diffusers_dawn.pipeline.clip_tensors import image_tensor, person_tensor
from pipeline_calls import face, picture, run


@pytest.fixture(scope="module")
def keeping(tiny_pipe) -> DAWNPipeline:
    config = {name: value for name, value in tiny_pipe.lfg.config.items() if not name.startswith("_")}
    changed = {"still_background": True, "image_sampling": "bicubic", "image_border": "repeated"}
    lfg = LatentFlowGenerator(**config | changed)
    lfg.load_state_dict(tiny_pipe.lfg.state_dict())
    keeping = DAWNPipeline(**{**tiny_pipe.components, "lfg": lfg.eval()})
    keeping.person_segmenter = left_half
    return keeping


def left_half(image: np.ndarray) -> np.ndarray:
    mask = np.zeros(image.shape[:2], np.float32)
    mask[:, : mask.shape[1] // 2] = 1
    return mask


def drawn(pipe: DAWNPipeline, portrait: Portrait) -> torch.Tensor:
    side = pipe.default_size // 4
    shift = torch.rand(1, 4, side, side, 2, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1
    motion = latents_from_motion(cell_centres(side, side) + shift, torch.full((1, 4, 1, side, side), 0.5))
    return torch.cat(list(pipe.decode_motion(motion, [portrait])), dim=1)[0]


def test_the_background_stays_and_the_person_moves(keeping):
    portrait = keeping.prepare_portrait(picture(), face(box_px=(8.0, 24.0, 20.0, 60.0)))
    source = image_tensor([portrait], keeping.default_size, keeping.default_size)[0]
    frames = drawn(keeping, portrait)
    far = slice(int(0.8 * keeping.default_size), None)
    torch.testing.assert_close(frames[..., far], source[..., far].expand(4, -1, -1, -1), atol=1e-5, rtol=0)
    near = slice(0, keeping.default_size // 4)
    assert (frames[..., near] - source[..., near]).abs().mean() > 0.05


def test_without_a_mask_everything_moves(keeping, tiny_pipe):
    known = keeping.prepare_portrait(picture(), face(box_px=(8.0, 24.0, 20.0, 60.0)))
    plain = Portrait(known.image, known.face)
    assert tiny_pipe.prepare_portrait(picture(), face()).person is None
    assert person_tensor([plain], 8, 8) is None
    both = person_tensor([plain, known], 8, 8)
    assert (both[0] == 1).all() and both[1].min() == 0
    far = slice(int(0.8 * keeping.default_size), None)
    assert (drawn(keeping, plain) - drawn(keeping, known))[..., far].abs().mean() > 0.05


def test_a_call_finds_the_person_itself(keeping, monkeypatch):
    seen = []
    monkeypatch.setattr(keeping, "person_segmenter", lambda image: seen.append(image.shape) or left_half(image))
    run(keeping)
    assert seen == [(256, 256, 3)]


def test_who_is_cut_out_is_found_by_the_same_segmenter(keeping):
    portrait = keeping.prepare_portrait(picture(), face(), transparent=True)
    assert np.array_equal(portrait.opacity, 255 * left_half(portrait.image))
    again = keeping.prepare_portrait(Portrait(portrait.image, portrait.face), transparent=True)
    assert np.array_equal(again.opacity, portrait.opacity)


def test_a_stream_that_cannot_go_back_is_read_once_though_its_opacity_is_wanted(keeping):
    class Pipe(io.BytesIO):
        def seek(self, *place):
            raise io.UnsupportedOperation("seek")

    written = io.BytesIO()
    Image.fromarray(picture()).save(written, "PNG")
    portrait = keeping.prepare_portrait(Pipe(written.getvalue()), face(), transparent=True)
    assert np.array_equal(portrait.image, picture())
    assert np.array_equal(portrait.opacity, 255 * left_half(portrait.image))


def test_without_mediapipe_it_goes_on(keeping, monkeypatch):
    def missing(image: np.ndarray) -> np.ndarray:
        raise ImportError("mediapipe is missing")

    monkeypatch.setattr(keeping, "person_segmenter", missing)
    assert keeping.prepare_portrait(picture(), face()).person is None
