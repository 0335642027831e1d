from dataclasses import replace

import pytest
import torch
from tiny_clips import AUDIO_DIM, tiny_clip, write_tiny_data_set
from tiny_stages import first_batch

from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.shard_journal import shard_path
from training.data.shard_writing import write_shard
from training.train_pbnet import PBNetConfig, PBNetStage

MODEL = {"latent_dim": 8, "state_width": 8, "audio_width": 8, "decoder_width": 16, "feed_forward_dim": 16}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


@pytest.fixture
def config(tiny_data_set, tmp_path) -> PBNetConfig:
    return PBNetConfig(
        dataset=str(tiny_data_set),
        output_dir=str(tmp_path / "out"),
        model=MODEL,
        max_frames=24,
        discriminator={"base_channels": 4},
        validation_frames=10,
        validation_inference_steps=1,
        report_to="none",
    )


@pytest.mark.parametrize("device", DEVICES)
def test_tracks_are_rendered_where_pbnet_is_which_stays_as_it_was(config, tiny_pipeline_folder, device):
    stage = PBNetStage(replace(config, validation_pipeline=str(tiny_pipeline_folder)))
    stage.pbnet.to(device).train()
    before = {name: value.clone() for name, value in stage.pbnet.state_dict().items()}
    with torch.no_grad():
        found = stage.validate()
    assert {"head_speed_deg_per_s_generated", "blinks_per_s_truth", "psnr"} <= set(found.metrics)
    assert [clip.frames.shape for clip in found.clips.values()] == [(10, 64, 128, 3)]
    after = stage.pbnet.state_dict()
    assert stage.pbnet.training and stage.pbnet.device.type == device
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == before[name].dtype for name in before)
    assert all(parameter.requires_grad for parameter in stage.pbnet.parameters())


def test_latent_that_frames_share_is_paid_for_once(config):
    def price_of_kl(stride: int) -> float:
        model = MODEL | {"latent_stride": stride}
        settings = replace(config, model=model, adversarial_weight=0.0, smoothness_weight=0.0, kl_start_epoch=0)
        stage = PBNetStage(replace(settings, kl_weight=3.0, kl_ramp_epochs=1))
        stage.pbnet.eval()
        with torch.no_grad():
            terms = stage.objectives["pbnet"](first_batch(stage), 2.0)
        free = sum(terms[f"{name}_reconstruction"] for name in ("pose", "blink"))
        return float((terms["loss"] - free) / sum(terms[f"{name}_kl"] for name in ("pose", "blink")))

    assert price_of_kl(1) == pytest.approx(3.0, rel=1e-3)
    assert price_of_kl(6) == pytest.approx(0.5, rel=1e-3)


def test_smoothness_of_poses_may_have_a_weight_of_its_own(config):
    def loss_without_smoothness(**weights: float) -> tuple[float, dict]:
        stage = PBNetStage(replace(config, adversarial_weight=0.0, kl_weight=0.0, **weights))
        stage.pbnet.eval()
        with torch.no_grad():
            terms = stage.objectives["pbnet"](first_batch(stage), 0.0)
        return float(terms["loss"] - sum(terms[f"{name}_reconstruction"] for name in ("pose", "blink"))), terms

    left, terms = loss_without_smoothness(smoothness_weight=2.0, pose_smoothness_weight=50.0)
    assert left == pytest.approx(float(50 * terms["pose_smoothness"] + 2 * terms["blink_smoothness"]), rel=1e-3)
    left, terms = loss_without_smoothness(smoothness_weight=2.0)
    assert left == pytest.approx(float(2 * terms["pose_smoothness"] + 2 * terms["blink_smoothness"]), rel=1e-3)


@pytest.mark.parametrize("networks", ["joint", "blink"])
def test_smoothness_of_poses_alone_needs_a_network_that_makes_them_alone(config, networks):
    with pytest.raises(ValueError, match="`pose_smoothness_weight` must be null unless a network makes poses alone"):
        PBNetStage(replace(config, model=MODEL | {"networks": networks}, pose_smoothness_weight=1.0))


@pytest.mark.parametrize("networks", ["pose", "blink"])
def test_pipeline_for_half_of_the_tracks_is_refused(config, tiny_pipeline_folder, networks):
    model = MODEL | {"networks": networks}
    with pytest.raises(ValueError, match="`validation_pipeline` must be null if PBNet makes only"):
        PBNetStage(replace(config, model=model, validation_pipeline=str(tiny_pipeline_folder)))


def test_pbnet_for_inference_only_is_refused_before_anything_is_trained(config):
    with pytest.raises(ValueError, match="is a PBNet without the encoder that training needs"):
        PBNetStage(replace(config, model=MODEL | {"with_encoder": False}))


@pytest.mark.parametrize("seconds", [-0.1, 2.5])
def test_poses_are_smoothed_over_two_seconds_at_most_for_pbnet_too(config, seconds):
    with pytest.raises(ValueError, match=r"`pose_smoothing_s` is .*, must be in \[0, 2\] seconds"):
        replace(config, pose_smoothing_s=seconds)


def test_poses_are_smoothed_before_pbnet_sees_them(config, tmp_path):
    def shaking(name, num_frames):
        clip = tiny_clip(name, num_frames)
        clip.labels["pose"][::2] += 1
        return clip

    data = write_tiny_data_set(tmp_path / "shaking", make_clip=shaking)
    as_measured, smooth = (
        first_batch(PBNetStage(replace(config, dataset=str(data), pose_smoothing_s=seconds)))["pose"]
        for seconds in (0.0, 0.4)
    )
    assert as_measured[:, :20, 1].diff(dim=1).abs().min() == 1
    assert smooth[:, :20, 1].diff(dim=1).abs().max() < 0.2


def test_pieces_too_short_for_the_discriminator_are_refused(config):
    with pytest.raises(ValueError, match="`max_frames` is 7, the discriminator needs at least 8 frames"):
        PBNetStage(replace(config, max_frames=7))
    with pytest.raises(ValueError, match="`max_frames` is 24, the discriminator needs at least 32 frames"):
        PBNetStage(replace(config, discriminator={"base_channels": 4, "num_downsamplings": 5}))
    assert PBNetStage(replace(config, max_frames=8)) and PBNetStage(
        replace(config, max_frames=7, adversarial_weight=0)
    )


def test_clips_too_short_for_the_discriminator_are_refused_by_number_and_name(config, tmp_path):
    lengths = {"train-0": 8, "train-1": 7, "train-2": 1}
    data = data_set_of_lengths(tmp_path, lengths)
    config = replace(config, dataset=str(data))
    sentence = "has 2 clips shorter than the 8 frames that the discriminator needs, train-1 has 7;"
    with pytest.raises(ValueError, match=sentence):
        PBNetStage(config)
    assert PBNetStage(replace(config, adversarial_weight=0))
    assert PBNetStage(replace(config, dataset=str(data_set_of_lengths(tmp_path / "long", {"train-0": 8}))))


def data_set_of_lengths(folder, lengths):
    folder.mkdir(exist_ok=True)
    write_dataset_info(folder, DatasetInfo(64, None, AUDIO_DIM))
    write_shard(shard_path(folder, "train", 0), list(lengths), lambda name: tiny_clip(name, lengths[name]))
    return folder


def test_single_frames_count_for_nothing_in_validation(config, tmp_path):
    long = data_set_of_lengths(tmp_path / "long", {"train-0": 8})
    mixed = data_set_of_lengths(tmp_path / "mixed", {"train-0": 8, "train-1": 1})
    config = replace(config, adversarial_weight=0, num_validation_clips=2)
    expected, found = (PBNetStage(replace(config, dataset=str(data))).validate().metrics for data in (long, mixed))
    assert found == expected and "head_speed_deg_per_s_generated" in found
    alone = write_tiny_data_set(tmp_path / "alone", num_clips=1, num_test_clips=1, num_frames=1)
    assert PBNetStage(replace(config, dataset=str(alone))).validate().metrics == {}


@pytest.mark.parametrize("name", ["max_frames", "validation_frames"])
def test_setting_for_less_than_a_movement_is_refused(config, name):
    with pytest.raises(ValueError, match=f"`{name}` is 1, must be at least 2"):
        replace(config, **{name: 1})
