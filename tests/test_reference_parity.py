"""Everything that was recorded of the published implementation, against this package; see the goldens' README.

`DAWN_GOLDENS` names another folder of the same form. All sizes come from its metadata and weights.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoFeatureExtractor, AutoModel

from diffusers_dawn.conversion.a2v_fdm import convert_a2v_fdm
from diffusers_dawn.conversion.lfg import convert_lfg
from diffusers_dawn.conversion.pbnet import WINDOWS, convert_pbnet
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.geometry.flow import face_box_mask, warp_frames
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel, FaceLocationEncoder
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.pbnet import PoseBlinkNet
from diffusers_dawn.records import Waveform
from diffusers_dawn.sampling.conditions import Conditions, null_conditions
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from diffusers_dawn.speech.features import extract_features, hidden_states

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[1] / "../shared/goldens"))
# Outputs are of order 1; formulations that are equal on paper differ by up to about 1e-5 in float32
TOLERANCE = {"atol": 1e-4, "rtol": 0}

pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no recorded tensors in {GOLDENS}: set DAWN_GOLDENS")


def recorded(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    path = GOLDENS / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"no recorded tensors at {path}")
    with safe_open(path, "pt") as file:
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
        return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 not a dict


def weights_of(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("weights."): value for key, value in golden.items() if key.startswith("weights.")}


class TestDenoiser:
    @pytest.fixture(scope="class")
    @classmethod
    def golden(cls) -> dict[str, torch.Tensor]:
        return recorded("a2v_fdm")[0]

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, golden) -> A2VFlowDiffusionModel:
        size = golden["in.noisy"].shape[-1]
        window = recorded("a2v_fdm")[1]["config"]["win_width"]
        config, state_dict, _ = convert_a2v_fdm(weights_of(golden), sample_size=size, temporal_window=window)
        model = A2VFlowDiffusionModel(**config)
        load_strictly(model, state_dict, "recorded")
        return model.eval().requires_grad_(False)

    @staticmethod
    def contexts(model, golden, clips: slice) -> list:
        config = model.config
        dims = [config.audio_dim, config.pose_dim, config.blink_dim]
        conditions = Conditions(*golden["in.condition"][clips].split(dims, dim=-1))
        reference = golden["in.reference_features"][clips], golden["in.face_location_features"][clips]
        return [model.prepare_context(*reference, *part) for part in (conditions, null_conditions(conditions))]

    def test_prediction_null_condition_and_guidance_equal_recorded(self, golden, model):
        with_conditions, null = (
            model(golden["in.noisy"], golden["in.timestep"], context=context).sample
            for context in self.contexts(model, golden, slice(None))
        )
        torch.testing.assert_close(with_conditions, golden["out.noise_prediction"], **TOLERANCE)
        torch.testing.assert_close(null, golden["out.null_condition"], **TOLERANCE)
        torch.testing.assert_close(null + 2 * (with_conditions - null), golden["out.guidance_2"], **TOLERANCE)

    def test_prediction_with_gradients_equals_recorded(self, golden, model):
        noisy = golden["in.noisy"].clone().requires_grad_(True)
        with torch.enable_grad():
            context = self.contexts(model, golden, slice(None))[0]
            prediction = model(noisy, golden["in.timestep"], context=context).sample
        assert prediction.requires_grad
        torch.testing.assert_close(prediction.detach(), golden["out.noise_prediction"], **TOLERANCE)

    @pytest.mark.slow
    @pytest.mark.parametrize(("chain", "guidance"), [("ddim", 1.0), ("ddim18", 1.8)])
    def test_sampling_chain_equals_recorded(self, golden, model, chain, guidance):
        with_conditions, null = self.contexts(model, golden, slice(0, 1))
        scheduler = DAWNDDIMScheduler()
        scheduler.set_timesteps(len(golden[f"{chain}.noise"]))
        assert [*scheduler.timesteps.tolist(), 0] == recorded("a2v_fdm")[1]["ddim_times"]
        sample, *step_noises = golden[f"{chain}.noise"]
        for time, noise in zip(scheduler.timesteps, [*step_noises, None], strict=True):
            prediction = model(sample, time, context=with_conditions).sample
            if guidance != 1:
                without = model(sample, time, context=null).sample
                prediction = without + guidance * (prediction - without)
            sample = scheduler.step(prediction, time, sample, eta=1.0, variance_noise=noise).prev_sample
        torch.testing.assert_close(sample, golden[f"{chain}.sample"], **TOLERANCE)


class TestFaceLocation:
    def test_mask_equals_recorded_exactly(self):
        golden, metadata = recorded("face_location")
        boxes, size = golden["in.bbox"].flatten(1), int(metadata["mask_size"])
        assert torch.equal(face_box_mask(boxes[:, :4], boxes[:, 4:], size, size), golden["out.mask"])

    def test_features_equal_recorded(self):
        golden, _ = recorded("face_location")
        encoder = FaceLocationEncoder(golden["out.features"].shape[1])
        encoder.load_state_dict(weights_of(golden))
        torch.testing.assert_close(encoder(golden["out.mask"]), golden["out.features"], **TOLERANCE)


class TestLatentFlowGenerator:
    @pytest.fixture(scope="class")
    @classmethod
    def golden(cls) -> dict[str, torch.Tensor]:
        return recorded("lfg")[0]

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, golden) -> LatentFlowGenerator:
        published = {}
        for key, tensor in golden.items():
            if key.startswith("weights."):
                _, entry, name = key.split(".", 2)
                published.setdefault(entry, {})[name] = tensor
        metadata = recorded("lfg")[1]
        config, state_dict, _ = convert_lfg(published, full=True, image_size=int(metadata["image_size"]))
        params = metadata["model_params"]
        model = LatentFlowGenerator(**config, region_temperature=params["region_predictor_params"]["temperature"])
        assert model.config.motion_stride == 1 / params["region_predictor_params"]["scale_factor"]
        load_strictly(model, state_dict, "recorded")
        return model.eval()

    @pytest.fixture(scope="class", params=[False, True], ids=["plain", "folded"])
    @classmethod
    def output(cls, request, golden, model):
        with torch.set_grad_enabled(not request.param):
            return model(golden["in.source"], golden["in.driving"])

    @pytest.mark.parametrize("name", ["shift", "covar", "heatmap"])
    def test_source_regions_equal_recorded(self, output, golden, name):
        torch.testing.assert_close(
            getattr(output.motion.source_regions, name), golden[f"out.source_{name}"], **TOLERANCE
        )

    @pytest.mark.parametrize("name", ["shift", "covar"])
    def test_driving_regions_equal_recorded(self, output, golden, name):
        torch.testing.assert_close(
            getattr(output.motion.driving_regions, name), golden[f"out.driving_{name}"], **TOLERANCE
        )

    def test_affine_equals_recorded_up_to_the_sign_of_columns(self, output, golden):
        found, expected = output.motion.source_regions.affine, golden["out.source_affine"]
        signs = (found * expected).sum(dim=-2, keepdim=True).sign()
        torch.testing.assert_close(found * signs, expected, **TOLERANCE)

    def test_motion_equals_recorded(self, output, golden):
        torch.testing.assert_close(output.motion.background, golden["out.background"], **TOLERANCE)
        torch.testing.assert_close(output.motion.flow, golden["out.optical_flow"], **TOLERANCE)
        torch.testing.assert_close(output.motion.occlusion, golden["out.occlusion_map"], **TOLERANCE)

    def test_images_equal_recorded(self, output, golden):
        torch.testing.assert_close(output.deformed, golden["out.deformed"], **TOLERANCE)
        torch.testing.assert_close(output.prediction, golden["out.prediction"], **TOLERANCE)

    def test_features_equal_recorded(self, model, golden):
        torch.testing.assert_close(
            model.encode_image(golden["in.source"]).features, golden["out.features"], **TOLERANCE
        )

    @pytest.mark.parametrize("grad_enabled", [False, True])
    def test_decoded_frames_equal_recorded(self, model, golden, grad_enabled):
        flow, occlusion = golden["decode.flow"][None], golden["decode.occlusion"][None]
        with torch.set_grad_enabled(grad_enabled):
            encoded = model.encode_image(golden["in.source"][:1])
            frames = model.decode_motion(encoded, flow, occlusion, chunk_size=2)
        torch.testing.assert_close(frames[0], golden["decode.prediction"], **TOLERANCE)
        torch.testing.assert_close(warp_frames(encoded.image, flow)[0], golden["decode.deformed"], **TOLERANCE)


def network_of(golden: dict[str, torch.Tensor]) -> str:
    return {6: "pose", 2: "blink", 8: "joint"}[golden["in.initial_state"].shape[-1]]


def build(options: dict, golden: dict[str, torch.Tensor], full: bool) -> PoseBlinkNet:
    network = network_of(golden)
    config, state_dict, _ = convert_pbnet(**{network: weights_of(golden), f"{network}_options": options, "full": full})
    model = PoseBlinkNet(**config).eval()
    load_strictly(model, state_dict, network)
    return model


PBNET_FILES = sorted(GOLDENS.glob("pbnet_*.safetensors"))


def read_pbnet(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    golden, metadata = recorded(path.stem)
    return metadata["opt"], golden


@pytest.mark.parametrize("path", PBNET_FILES, ids=lambda path: path.stem)
class TestPoseBlinkNet:
    @torch.no_grad()
    def test_encoder_equals_the_published_one(self, path):
        options, golden = read_pbnet(path)
        model = build(options, golden, full=True)
        mu, logvar = model.encode(golden["in.audio"], golden["train.sequence"], golden["in.lengths"])
        for clip, length in enumerate(golden["in.lengths"].tolist()):
            torch.testing.assert_close(mu[clip, :length], golden["train.mu"][:length, clip], **TOLERANCE)
            torch.testing.assert_close(logvar[clip, :length], golden["train.logvar"][:length, clip], **TOLERANCE)

    @torch.no_grad()
    def test_reconstruction_equals_the_published_one(self, path):
        options, golden = read_pbnet(path)
        model = build(options, golden, full=True)
        output = model.decode(
            golden["train.z"].transpose(0, 1), golden["in.audio"], golden["train.sequence"][:, 0], golden["in.lengths"]
        )
        torch.testing.assert_close(output, golden["train.output"], **TOLERANCE)

    @torch.no_grad()
    def test_decoder_alone_equals_the_published_generation(self, path):
        options, golden = read_pbnet(path)
        model = build(options, golden, full=False)
        output = model.decode(
            golden["generate.z"].transpose(0, 1),
            golden["in.audio"],
            golden["in.initial_state"][:, 0],
            golden["in.lengths"],
        )
        torch.testing.assert_close(output, golden["generate.output"], **TOLERANCE)

    def test_generated_tracks_are_the_published_output_on_top_of_the_initial_state(self, path):
        options, golden = read_pbnet(path)
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
        options, golden = read_pbnet(path)
        model = build(options, golden, full=False)
        (track,) = model.tracks.values()
        # in longer clips than those of training, too
        assert [track.decoder._window(frames) for frames in (100, 300)] == [WINDOWS[options["archiname"]]] * 2


@torch.no_grad()
def test_separate_networks_in_one_model_equal_each_alone():
    goldens = {network_of(golden): (options, golden) for options, golden in map(read_pbnet, PBNET_FILES)}
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


class TestAudioFeatures:
    @pytest.fixture(scope="class")
    @classmethod
    def golden(cls) -> dict:
        golden, metadata = recorded("hubert_features")
        return golden | {"waveform": Waveform(golden["in.speech"].numpy(), int(metadata["sampling_rate"]))}

    @pytest.fixture(scope="class")
    @classmethod
    def encoder_parts(cls) -> tuple:
        folder = GOLDENS / "tiny_hubert"
        return AutoModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)

    def test_hidden_states_equal_the_published_ones_over_all_pieces(self, golden, encoder_parts):
        hidden = hidden_states(golden["waveform"], *encoder_parts)
        torch.testing.assert_close(hidden, golden["out.hidden"], **TOLERANCE)

    def test_features_at_the_frame_rate_equal_the_published_ones(self, golden, encoder_parts):
        expected = golden["out.features_25fps"]
        features = extract_features(golden["waveform"], *encoder_parts, num_frames=len(expected))
        torch.testing.assert_close(features, expected, **TOLERANCE)
