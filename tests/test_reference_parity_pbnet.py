"""The pose and blink networks against recorded tensors of the published implementation."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from diffusers_dawn.conversion.pbnet import WINDOWS, convert_pbnet
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.models.pbnet import PoseBlinkNet

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
FILES = sorted(GOLDENS.glob("pbnet_*.safetensors"))
# equivalent formulations in float32 agree to about 1e-6 here
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}

pytestmark = pytest.mark.skipif(not FILES, reason="no recorded tensors pbnet_*.safetensors: set DAWN_GOLDENS")


def read_golden(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["opt"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def weights_of(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}


def network_of(golden: dict[str, torch.Tensor]) -> str:
    return {6: "pose", 2: "blink", 8: "joint"}[golden["in.initial_state"].shape[-1]]


def build(options: dict, golden: dict[str, torch.Tensor], full: bool) -> PoseBlinkNet:
    network = network_of(golden)
    config, state_dict, _ = convert_pbnet(**{network: weights_of(golden), f"{network}_options": options, "full": full})
    model = PoseBlinkNet(**config).eval()
    load_strictly(model, state_dict, network)
    return model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestAgainstGolden:
    @torch.no_grad()
    def test_encoder_equals_the_published_one(self, path):
        options, golden = read_golden(path)
        model = build(options, golden, full=True)
        mu, logvar = model.encode(golden["in.audio"], golden["train.sequence"], golden["in.lengths"])
        for clip, length in enumerate(golden["in.lengths"].tolist()):
            torch.testing.assert_close(mu[clip, :length], golden["train.mu"][:length, clip], **TOLERANCE)
            torch.testing.assert_close(logvar[clip, :length], golden["train.logvar"][:length, clip], **TOLERANCE)

    @torch.no_grad()
    def test_reconstruction_equals_the_published_one(self, path):
        options, golden = read_golden(path)
        model = build(options, golden, full=True)
        output = model.decode(
            golden["train.z"].transpose(0, 1), golden["in.audio"], golden["train.sequence"][:, 0], golden["in.lengths"]
        )
        torch.testing.assert_close(output, golden["train.output"], **TOLERANCE)

    @torch.no_grad()
    def test_decoder_alone_equals_the_published_generation(self, path):
        options, golden = read_golden(path)
        model = build(options, golden, full=False)
        output = model.decode(
            golden["generate.z"].transpose(0, 1),
            golden["in.audio"],
            golden["in.initial_state"][:, 0],
            golden["in.lengths"],
        )
        torch.testing.assert_close(output, golden["generate.output"], **TOLERANCE)

    def test_generated_tracks_are_the_published_output_on_top_of_the_initial_state(self, path):
        options, golden = read_golden(path)
        model = build(options, golden, full=False)
        state = golden["in.initial_state"][:, 0]
        pose, blink = model.generate(
            golden["in.audio"],
            model.denormalise_pose(state[:, :6]) if model.makes_pose else None,
            state[:, -2:] if model.makes_blink else None,
            golden["in.lengths"],
            noise=golden["generate.z"].transpose(0, 1),
        )
        expected = golden["generate.output"] + golden["in.initial_state"]
        if pose is not None:
            torch.testing.assert_close(pose, model.denormalise_pose(expected[..., :6]), atol=1e-2, rtol=1e-5)
            torch.testing.assert_close(model.normalise_pose(pose), expected[..., :6], **TOLERANCE)
        if blink is not None:
            torch.testing.assert_close(blink, expected[..., -2:], **TOLERANCE)

    def test_window_is_that_of_the_variant(self, path):
        options, golden = read_golden(path)
        model = build(options, golden, full=False)
        window = model.config.blink_window if network_of(golden) == "blink" else model.config.pose_window
        assert window == WINDOWS[options["archiname"]]


@torch.no_grad()
def test_separate_networks_in_one_model_equal_each_alone():
    goldens = {network_of(golden): (options, golden) for options, golden in map(read_golden, FILES)}
    if not {"pose", "blink"} <= goldens.keys():
        pytest.skip("the recorded tensors have no two separate networks")
    (pose_options, pose), (blink_options, blink) = goldens["pose"], goldens["blink"]
    if pose["in.audio"].shape[-1] != blink["in.audio"].shape[-1]:
        pytest.skip("the two recorded networks read different audio features")
    config, state_dict, _ = convert_pbnet(
        weights_of(pose), weights_of(blink), pose_options=pose_options, blink_options=blink_options
    )
    model = PoseBlinkNet(**config).eval()
    load_strictly(model, state_dict, "both")
    alone = [build(pose_options, pose, full=False), build(blink_options, blink, full=False)]
    audio, lengths = pose["in.audio"], pose["in.lengths"]
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(*audio.shape[:2], *part.latent_dims.values(), generator=generator) for part in alone]
    states = [torch.rand(len(audio), dim, generator=generator) for dim in (6, 2)]
    together = model.decode(torch.cat(latents, -1), audio, torch.cat(states, -1), lengths)
    apart = [
        part.decode(latent, audio, state, lengths) for part, latent, state in zip(alone, latents, states, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(apart, -1), **TOLERANCE)
