import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.mouth_reader import MOUTH_DEVIATIONS, MOUTH_MEANS
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.engine import recipe as engine_recipe
from training.engine.recipe import Gains, Stage, export, run_recipe


def test_hours_of_a_stage_add_up_over_runs(tmp_path, monkeypatch):
    clock_s = iter([0, 3600, 10_000, 11_800])
    monkeypatch.setattr(engine_recipe, "time", SimpleNamespace(monotonic=lambda: next(clock_s)))
    stages = [Stage("nap", [sys.executable, "-c", ""])]
    for hours in (1, 1.5):
        run_recipe(stages, tmp_path)
        assert json.loads((tmp_path / "hours.json").read_text()) == {"nap": hours}


def test_failed_stage_stops_the_recipe(tmp_path):
    stages = [Stage("bad", [sys.executable, "-c", "raise SystemExit(3)"]), Stage("next", ["no-such-program"])]
    with pytest.raises(ValueError, match="the stage `bad` ended with code 3"):
        run_recipe(stages, tmp_path)


def test_export_is_half_precision_without_what_only_training_needs(tiny_pipeline_folder, tmp_path, monkeypatch):
    num_bytes = export(tiny_pipeline_folder, tmp_path / "out", Gains())
    assert num_bytes == sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) - _headers(tmp_path)
    whole, small = DAWNPipeline.from_pretrained(tiny_pipeline_folder), DAWNPipeline.from_pretrained(tmp_path / "out")
    assert not small.lfg.config.with_motion_estimator and not small.pbnet.config.with_encoder
    assert not list((tmp_path / "out").rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*.json")]
    assert texts and not any("_name_or_path" in text or "auto_map" in text for text in texts)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            small.lfg.encode_image(image).features, whole.lfg.encode_image(image).features, atol=2e-2, rtol=2e-2
        )
    monkeypatch.setattr(engine_recipe, "MAX_BYTES", num_bytes - 1)
    with pytest.raises(ValueError, match="must be at most"):
        export(tiny_pipeline_folder, tmp_path / "other", Gains())
    assert not (tmp_path / "other").exists()


def test_export_takes_the_lfg_of_another_training(tiny_pipeline_folder, tmp_path):
    other = DAWNPipeline.from_pretrained(tiny_pipeline_folder).lfg
    with torch.no_grad():
        other.decoder.final.bias += 1
    other.save_pretrained(tmp_path / "other" / "lfg")
    export(tiny_pipeline_folder, tmp_path / "out", Gains(), tmp_path / "other")
    saved = DAWNPipeline.from_pretrained(tmp_path / "out").lfg.decoder.final.bias
    torch.testing.assert_close(saved, other.decoder.final.bias, atol=1e-3, rtol=1e-3)


def test_export_tells_speech_and_poses_louder(tiny_pipeline_folder, tmp_path):
    scales, gains = (0.1, 0.1, 0.1, 2e4, 0.1, 0.1), Gains(speech=3.0, pose=(2.0, 1.0, 1.0, 1.0, 0.5, 1.0))
    quiet = DAWNPipeline.from_pretrained(tiny_pipeline_folder)
    quiet.register_modules(unet=A2VFlowDiffusionModel.from_config(quiet.unet.config, pose_scale=scales))
    quiet.save_pretrained(tmp_path / "quiet")
    export(tmp_path / "quiet", tmp_path / "out", gains)
    loud = DAWNPipeline.from_pretrained(tmp_path / "out")
    assert loud.config.speech_guidance == 3.0
    assert loud.unet.config.pose_scale == pytest.approx(np.multiply(scales, gains.pose))


def test_poses_as_they_are_cannot_be_told_louder(tiny_pipeline_folder, tmp_path):
    with pytest.raises(ValueError, match="`gains` must be 1 for poses"):
        export(tiny_pipeline_folder, tmp_path / "out", Gains(pose=(2.0, 1.0, 1.0, 1.0, 1.0, 1.0)))
    assert not (tmp_path / "out").exists()


def test_export_opens_the_mouth_that_is_read_from_speech_wider(tiny_pipeline_folder, tmp_path):
    quiet = DAWNPipeline.from_pretrained(tiny_pipeline_folder)
    quiet.register_modules(unet=A2VFlowDiffusionModel.from_config(quiet.unet.config, mouth_reader_channels=8).eval())
    quiet.save_pretrained(tmp_path / "quiet")
    export(tmp_path / "quiet", tmp_path / "out", Gains(mouth=(1.5, 2.0)))
    loud = DAWNPipeline.from_pretrained(tmp_path / "out")
    speech = torch.randn(1, 9, quiet.unet.config.audio_dim)
    track = torch.tensor(MOUTH_DEVIATIONS), torch.tensor(MOUTH_MEANS)
    with torch.no_grad():
        read, wider = (pipe.unet.mouth_reader(speech) * track[0] + track[1] for pipe in (quiet, loud))
    torch.testing.assert_close(wider, torch.tensor([1.5, 2.0]) * read, atol=1e-3, rtol=1e-2)


def test_a_mouth_that_is_not_read_cannot_be_opened_wider(tiny_pipeline_folder, tmp_path):
    with pytest.raises(ValueError, match="`gains` must be 1 for the mouth"):
        export(tiny_pipeline_folder, tmp_path / "out", Gains(mouth=(1.5, 2.0)))
    assert not (tmp_path / "out").exists()


def _headers(folder) -> int:
    # safetensors begin with the length of a header, and the header
    return sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in folder.rglob("*.safetensors"))
