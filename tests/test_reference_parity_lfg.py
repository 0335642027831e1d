"""Recorded tensors of the published latent flow generator and face mask; see the README of the goldens."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from diffusers_dawn.conversion.lfg import convert_lfg
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.flow_geometry import face_box_mask, warp_frames
from diffusers_dawn.models.lfg import LatentFlowGenerator

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[1] / "../shared/goldens"))
TOLERANCE = {"atol": 1e-4, "rtol": 0}
"""Outputs are of order 1; equivalent formulations differ by about 1e-5."""


def recorded(name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = GOLDENS / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"no recorded tensors at {path}; set DAWN_GOLDENS")
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 not a dict


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return recorded("lfg")[0]


@pytest.fixture(scope="module")
def model(golden) -> LatentFlowGenerator:
    published = {}
    for key, tensor in golden.items():
        if key.startswith("weights."):
            _, entry, name = key.split(".", 2)
            published.setdefault(entry, {})[name] = tensor
    metadata = recorded("lfg")[1]
    config, state_dict, _ = convert_lfg(published, full=True, image_size=int(metadata["image_size"]))
    params = json.loads(metadata["model_params"])
    model = LatentFlowGenerator(**config, region_temperature=params["region_predictor_params"]["temperature"])
    assert model.config.motion_stride == 1 / params["region_predictor_params"]["scale_factor"]
    load_strictly(model, state_dict, "recorded")
    return model.eval()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "folded"])
def output(request, golden, model):
    with torch.set_grad_enabled(not request.param):
        return model(golden["in.source"], golden["in.driving"])


@pytest.mark.parametrize("name", ["shift", "covar", "heatmap"])
def test_source_regions_equal_recorded(output, golden, name):
    torch.testing.assert_close(getattr(output.motion.source_regions, name), golden[f"out.source_{name}"], **TOLERANCE)


@pytest.mark.parametrize("name", ["shift", "covar"])
def test_driving_regions_equal_recorded(output, golden, name):
    torch.testing.assert_close(
        getattr(output.motion.driving_regions, name), golden[f"out.driving_{name}"], **TOLERANCE
    )


def test_affine_equals_recorded_up_to_the_sign_of_columns(output, golden):
    found, expected = output.motion.source_regions.affine, golden["out.source_affine"]
    signs = (found * expected).sum(dim=-2, keepdim=True).sign()
    torch.testing.assert_close(found * signs, expected, **TOLERANCE)


def test_motion_equals_recorded(output, golden):
    torch.testing.assert_close(output.motion.background, golden["out.background"], **TOLERANCE)
    torch.testing.assert_close(output.motion.flow, golden["out.optical_flow"], **TOLERANCE)
    torch.testing.assert_close(output.motion.occlusion, golden["out.occlusion_map"], **TOLERANCE)


def test_images_equal_recorded(output, golden):
    torch.testing.assert_close(output.deformed, golden["out.deformed"], **TOLERANCE)
    torch.testing.assert_close(output.prediction, golden["out.prediction"], **TOLERANCE)


def test_features_equal_recorded(model, golden):
    torch.testing.assert_close(model.encode_image(golden["in.source"]).features, golden["out.features"], **TOLERANCE)


@pytest.mark.parametrize("grad_enabled", [False, True])
def test_decoded_frames_equal_recorded(model, golden, grad_enabled):
    flow, occlusion = golden["decode.flow"][None], golden["decode.occlusion"][None]
    with torch.set_grad_enabled(grad_enabled):
        encoded = model.encode_image(golden["in.source"][:1])
        frames = model.decode_motion(encoded, flow, occlusion, chunk_size=2)
    torch.testing.assert_close(frames[0], golden["decode.prediction"], **TOLERANCE)
    torch.testing.assert_close(warp_frames(encoded.image, flow)[0], golden["decode.deformed"], **TOLERANCE)


def test_face_mask_equals_recorded_exactly():
    golden, metadata = recorded("face_location")
    boxes, size = golden["in.bbox"].flatten(1), int(metadata["mask_size"])
    assert torch.equal(face_box_mask(boxes[:, :4], boxes[:, 4:], size, size), golden["out.mask"])
