import pytest
import torch
from tiny_stages import LFG_MODEL

from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.pbnet import PoseBlinkNet
from training.engine.networks import build_network, load_network, load_pbnet

SIZES = {"audio_dim": 12, "latent_dim": 8, "state_width": 8, "audio_width": 8, "decoder_width": 16, "head_dim": 8}

# of sums in another order, of positions up to 256
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def folders(tmp_path):
    torch.manual_seed(0)
    PoseBlinkNet(networks="pose", **SIZES).save_pretrained(tmp_path / "pose")
    PoseBlinkNet(networks="blink", **SIZES | {"latent_dim": 4}).save_pretrained(tmp_path / "run" / "pbnet")
    return str(tmp_path / "pose"), str(tmp_path / "run")


def test_networks_for_poses_and_blinks_are_joined_to_one_that_makes_both(folders):
    joined, pose, blink = load_pbnet(*folders).eval(), load_pbnet(folders[0]).eval(), load_pbnet(folders[1]).eval()
    generator = torch.Generator().manual_seed(1)
    features, first_pose, first_blink = (
        torch.randn(shape, generator=generator) for shape in ((1, 9, 12), (1, 6), (1, 2))
    )
    noise = torch.randn(1, 9, 12, generator=generator)
    made = joined.generate(features, first_pose, first_blink, noise=noise)
    torch.testing.assert_close(made[0], pose.generate(features, first_pose, noise=noise[..., :8])[0], **ROUNDING)
    torch.testing.assert_close(
        made[1], blink.generate(features, None, first_blink, noise=noise[..., 8:])[1], **ROUNDING
    )


def test_two_networks_of_one_kind_are_not_joined(folders):
    with pytest.raises(ValueError, match="`pbnet` has the networks 'blink', must have 'pose'"):
        load_pbnet(folders[1], folders[0])


def test_networks_of_other_audio_features_are_not_joined(folders, tmp_path):
    PoseBlinkNet(networks="blink", **SIZES | {"audio_dim": 6}).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="`pbnet_blink` takes audio features of width 6, `pbnet` of 12"):
        load_pbnet(folders[0], str(tmp_path / "other"))


def test_networks_whose_latents_last_unequally_long_are_not_joined(folders, tmp_path):
    PoseBlinkNet(networks="blink", **SIZES, latent_stride=5).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="`pbnet_blink` has a latent for every 5 frames, `pbnet` for every 1"):
        load_pbnet(folders[0], str(tmp_path / "other"))


def test_network_is_found_in_its_own_folder_and_in_a_training_output(folders):
    for folder in folders:
        assert load_network(PoseBlinkNet, folder, "pbnet", "pbnet").config.audio_dim == 12


def test_folder_without_the_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`pbnet` is .* which holds no PoseBlinkNet"):
        load_network(PoseBlinkNet, str(tmp_path), "pbnet", "pbnet")


def test_what_weights_do_not_fix_may_differ_from_the_pretrained_network(tmp_path):
    torch.manual_seed(0)
    saved = LatentFlowGenerator(**LFG_MODEL)
    saved.save_pretrained(tmp_path)
    settings = {"image_sampling": "bicubic", "num_regions": 3}
    network = build_network(
        LatentFlowGenerator, settings, str(tmp_path), "lfg", 0, changeable=("image_sampling",), image_size=128
    )
    assert network.config.image_sampling == "bicubic"
    for key, value in network.state_dict().items():
        assert torch.equal(value, saved.state_dict()[key])
    with pytest.raises(ValueError, match="`model.image_sampling` is bicubic, but `pretrained_model`"):
        build_network(LatentFlowGenerator, settings, str(tmp_path), "lfg", 0, image_size=128)
