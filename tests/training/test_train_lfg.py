"""The losses that LFG's training can be asked for."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_stages import LFG_MODEL, first_batch, result, run

from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.data.anchor_points import anchor_points, flow_points
from training.data.draw import Draw
from training.engine.loop import train
from training.objectives.box_masks import mouth_box_mask
from training.objectives.vgg import VGG19Features
from training.train_lfg import LFGStage


def test_running_statistics_survive_a_step_that_is_not_finite(configs):
    config = replace(configs["lfg"], max_train_steps=2, use_ema=False)
    stage = LFGStage(config)
    samples, calls = stage.samples(), []

    class Spoiled(torch.utils.data.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, draw):
            calls.append(draw)
            sample = samples[draw]
            return sample | {"driving": sample["driving"] * (float("inf") if len(calls) == 1 else 1)}

    stage.samples = Spoiled
    assert train(stage, config).skipped_steps == 1
    assert all(bool(value.isfinite().all()) for value in result(config, "lfg").values())


def test_perceptual_loss_is_used_when_vgg_weights_are_given(configs, tmp_path, caplog):
    torch.manual_seed(0)
    save_file(VGG19Features().state_dict(), tmp_path / "vgg.safetensors")
    config = replace(configs["lfg"], max_train_steps=1)
    with caplog.at_level("INFO", "training"):
        run(replace(config, vgg=str(tmp_path / "vgg.safetensors"), pyramid_scales=(1, 0.5)))
        run(replace(config, output_dir=str(tmp_path / "other")))
    said = [record.message for record in caplog.records if record.message.startswith("comparing")]
    assert said == ["comparing VGG19 features", "comparing pixels and image gradients (no `vgg`)"]


def test_error_in_the_mouth_counts_more_when_it_is_weighted(configs):
    def share_of_mouth(weight: float) -> float:
        stage = LFGStage(replace(configs["lfg"], mouth_weight=weight))
        batch = first_batch(stage)
        size = batch["driving"].shape[-2:]
        mouth = mouth_box_mask(batch["mouth_px"][:, 1:], size, *size)[:, :, 0]
        compare = stage.objectives["lfg"].compare
        wrong_mouth, wrong_rest = (batch["driving"] + 0.1 * mask for mask in (mouth, 1 - mouth))
        return float(compare(wrong_mouth, batch) / compare(wrong_rest, batch))

    assert share_of_mouth(50.0) > 10 * share_of_mouth(1.0)


def test_regions_move_onto_the_landmarks_when_asked(configs):
    model = LFG_MODEL | {"num_regions": 6}
    config = replace(configs["lfg"], model=model, landmark_weight=100.0, max_train_steps=30, learning_rate=3e-3)
    stage = LFGStage(config)
    distances = []
    stage.objectives["lfg"].register_forward_hook(lambda *call: distances.append(call[-1]["landmark"].item()))
    train(stage, config)
    assert distances[-1] < 0.5 * distances[0]


def test_first_epochs_are_for_the_landmarks_alone_when_asked(configs):
    model = LFG_MODEL | {"num_regions": 6}
    config = replace(configs["lfg"], model=model, landmark_weight=1.0, landmark_warmup_epochs=0.5, use_ema=False)
    stage = LFGStage(config)
    before = {name: value.clone() for name, value in stage.lfg.state_dict().items()}
    named = []
    stage.objectives["lfg"].register_forward_hook(lambda *call: named.append(set(call[-1])))
    # six clips, two per step: half an epoch is one and a half steps
    train(stage, config)
    assert [names == {"landmark", "loss"} for names in named] == [True, True, False]
    first = load_file(Path(config.output_dir, "checkpoint-2", "lfg", "diffusion_pytorch_model.safetensors"))
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], before[name])}
    assert moved == {"region_predictor"}


def test_anchor_points_are_lips_corners_and_ends_of_the_face():
    places = {"mouth_px": torch.arange(40.0).view(20, 2), "face_box_px": torch.tensor([10.0, 30.0, 5.0, 45.0])}
    six = [*places["mouth_px"][[14, 18, 0, 6]].tolist(), [20.0, 5.0], [20.0, 45.0]]
    assert anchor_points(places).tolist() == six
    places["eyes_px"] = torch.tensor([[12.0, 18.0, 15.0, 17.0], [22.0, 28.0, 14.0, 18.0]])
    lids = [[15.0, 15.0], [15.0, 17.0], [25.0, 14.0], [25.0, 18.0]]
    assert anchor_points(places).tolist() == six + lids
    assert flow_points(places).tolist() == [*places["mouth_px"].tolist(), *lids]


def test_eyes_count_more_when_asked_and_known(configs, eyed_data_set):
    config = replace(configs["lfg"], model=LFG_MODEL | {"num_regions": 10}, eye_weight=9.0, landmark_weight=1.0)
    with pytest.raises(ValueError, match="`eye_weight` is 9.0, but `dataset` .* has no `eyes_px`"):
        LFGStage(config)
    stage = LFGStage(replace(config, dataset=str(eyed_data_set)))
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,))] for seed in range(2)])
    drawn = batch["driving"].clone()
    drawn[..., 26:28, 22:26] += 0.1
    objective = stage.objectives["lfg"]
    inside = objective.compare(drawn, batch)
    objective.config = replace(config, eye_weight=1.0)
    # eyes are a fortieth of the picture
    assert inside > 3 * objective.compare(drawn, batch)
    assert objective(batch, 0.0)["landmark"].isfinite()


def test_eyes_are_painted_anew_when_asked_and_known(configs, eyed_data_set):
    config = replace(configs["lfg"], closed_eye_weight=9.0)
    with pytest.raises(ValueError, match="`closed_eye_weight` is 9.0, but `dataset` .* has no `eyes_px`"):
        LFGStage(config)
    stage = LFGStage(replace(config, dataset=str(eyed_data_set)))
    batch = torch.utils.data.default_collate([stage.samples()[Draw(0, (seed,))] for seed in range(2)])
    objective = stage.objectives["lfg"]
    terms = objective(batch, 0.0)
    others = sum(
        objective.weights[name] * value for name, value in terms.items() if name not in {"loss", "closed_eye"}
    )
    torch.testing.assert_close(terms["loss"], others + 9 * terms["closed_eye"])


def test_encoder_and_decoder_learn_from_known_motion_without_an_estimator(configs, moving_data_set):
    model = LFG_MODEL | {"with_motion_estimator": False, "image_border": "repeated"}
    weights = {"mouth_weight": 4.0, "eye_weight": 3.0, "hidden_weight": 2.0}
    config = replace(configs["lfg"], dataset=str(moving_data_set), model=model, motion="known", crop_px=32, **weights)
    stage, progress = run(replace(config, max_train_steps=2, num_validation_clips=1))
    assert progress.skipped_steps == 0
    names = [name.split(".")[0] for name in result(config, "lfg")]
    assert set(names) == {"encoder", "decoder"}
    batch = first_batch(stage)
    weight_map = stage.objectives["lfg"].weight_map(batch)
    assert weight_map.shape == (2, 1, 32, 32)
    # a pixel is in the mouth's box, in an eye's, or in neither, and hidden by so much
    assert weight_map.min() >= 1 and weight_map.max() <= 4 + 2 + 1


def test_a_kept_encoder_stays_as_it_was_while_the_decoder_learns(configs, moving_data_set, tmp_path):
    before = LatentFlowGenerator(64, **LFG_MODEL | {"with_motion_estimator": False})
    before.save_pretrained(tmp_path / "lfg")
    known = {"dataset": str(moving_data_set), "motion": "known", "pretrained_model": str(tmp_path / "lfg")}
    config = replace(configs["lfg"], model={}, freeze_encoder=True, max_train_steps=1, **known)
    run(config)
    changed = {
        name.split(".")[0]
        for name, value in result(config, "lfg").items()
        if not (value == before.state_dict()[name]).all()
    }
    assert changed == {"decoder"}


def test_discriminator_of_details_and_lfg_learn_from_each_other_and_move_only_themselves(
    configs, moving_data_set, tmp_path
):
    model = LFG_MODEL | {"with_motion_estimator": False}
    known = {"dataset": str(moving_data_set), "motion": "known", "model": model, "adversarial_weight": 0.1}
    config = replace(configs["lfg"], discriminator={"base_channels": 4}, max_train_steps=1, **known)
    stage, progress = run(config)
    assert progress.skipped_steps == 0
    batch = first_batch(stage)
    stage.lfg.zero_grad(), stage.networks["detail_discriminator"].zero_grad()
    terms = stage.objectives["lfg"](batch, 0.0)
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.1 * terms["adversarial"])
    terms["adversarial"].backward()
    assert any(p.grad is not None and p.grad.any() for p in stage.lfg.decoder.parameters())
    assert all(p.grad is None for p in stage.networks["detail_discriminator"].parameters())
    stage.lfg.zero_grad()
    stage.objectives["detail_discriminator"](batch, 0.0)["loss"].backward()
    assert all(p.grad is not None for p in stage.networks["detail_discriminator"].parameters())
    assert all(p.grad is None or not p.grad.any() for p in stage.lfg.parameters())


def test_several_data_sets_are_mixed_by_their_shares(configs, moving_data_set, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(moving_data_set, other)
    shares = {str(moving_data_set): 0.25, str(other): 0.75}
    model = LFG_MODEL | {"with_motion_estimator": False}
    config = replace(configs["lfg"], dataset=shares, model=model, motion="known", max_train_steps=1)
    stage, _ = run(config)
    assert len(stage.samples()) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"motion": "guessed"}, "`motion` is 'guessed'"),
        ({"motion": "known", "vgg": "vgg19"}, "`vgg` must be null"),
        ({"crop_px": 64}, "`crop_px` is 64, must be null unless `motion` is 'known'"),
        ({"adversarial_weight": 0.1}, "`adversarial_weight` is 0.1, must be 0 unless `motion` is 'known'"),
        ({"adversarial_weight": -0.1, "motion": "known"}, "`adversarial_weight` is -0.1, must not be negative"),
        ({"hidden_weight": 0.5, "motion": "known"}, "`hidden_weight` is 0.5"),
        ({"freeze_encoder": True}, "`freeze_encoder` is true without `pretrained_model`"),
    ],
)
def test_settings_of_known_motion_that_do_not_fit_are_refused(configs, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(configs["lfg"], **changes)
