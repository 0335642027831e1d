import math

import numpy as np
import pytest

from benchmark_scripts import imported_script
from training.evaluation.clips import Evaluation
from training.evaluation.face_reader import FaceReadings
from training.evaluation.settings import EvaluationSettings

COLUMNS = ("calls", "s", "mouth r", "yaw r", "pitch r", "roll r", "eyes r", "sharp", "restless")


@pytest.fixture(scope="module")
def benchmark():
    with imported_script("samplers") as script:
        yield script


def test_table_has_a_row_for_every_sampler_and_number_of_calls(
    benchmark, tiny_data_set, tiny_pipeline_folder, detector, capsys
):
    given = ["--pipeline", str(tiny_pipeline_folder), "--dataset", str(tiny_data_set), "--num-clips", "1"]
    benchmark.main([
        *given,
        "--clip-seconds",
        "0.52",
        "--steps",
        "1",
        "2",
        "--samplers",
        "ddim",
        "HeunDiscreteScheduler",
        "unipc",
    ])
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["sampler", "steps"])
    assert " ".join(lines[start].split()[2:]) == " ".join(COLUMNS)
    rows = [line.split()[:3] for line in lines[start + 1 :]]
    # Heun's method asks twice in every step but the last
    assert rows == [
        *(["ddim", "1", "1"], ["HeunDiscreteScheduler", "1", "1"], ["unipc", "1", "1"]),
        *(["ddim", "2", "2"], ["HeunDiscreteScheduler", "2", "3"], ["unipc", "2", "2"]),
    ]


def test_truth_that_is_rendered_and_read_without_error_has_full_marks(
    benchmark, tiny_data_set, tiny_pipeline_folder, monkeypatch
):
    pipe = benchmark.DAWNPipeline.from_pretrained(tiny_pipeline_folder)
    settings = EvaluationSettings(num_clips=1, clip_seconds=0.52, num_inference_steps=1)
    labels = Evaluation(pipe, tiny_data_set, settings, None).labels(0)
    # lips of the tiny clip hardly part
    labels["mouth_px"] = np.random.default_rng(0).uniform(20, 40, labels["mouth_px"].shape)
    readings = FaceReadings(
        opening=benchmark.labelled_opening(labels),
        pose=labels["pose"],
        blink=labels["blink"],
        face_box_px=labels["face_box_px"],
        width=benchmark.labelled_opening(labels),
        mesh_px=np.zeros((len(labels["pose"]), 468, 2)),
    )
    evaluation = Evaluation(pipe, tiny_data_set, settings, lambda pictures: readings)
    monkeypatch.setattr(evaluation, "labels", lambda place: labels)
    monkeypatch.setattr(evaluation, "pictures", lambda stretches: evaluation.truth(0).frames)
    figures = benchmark.measure_clip(evaluation, 0, cache_interval=1)
    assert tuple(figures) == COLUMNS
    for name in ("mouth r", "yaw r", "sharp", "restless"):
        assert figures[name] == pytest.approx(1), name
    # nobody rolls the head or blinks
    assert math.isnan(figures["roll r"]) and math.isnan(figures["eyes r"])


def test_pictures_that_stand_still_are_at_rest_and_flicker_is_not(benchmark):
    still = np.full((5, 4, 4, 3), 100, np.uint8)
    ramp = still + 10 * np.arange(5, dtype=np.uint8)[:, None, None, None]
    flicker = still + 10 * (np.arange(5, dtype=np.uint8) % 2)[:, None, None, None]
    assert benchmark.restlessness(still) == benchmark.restlessness(ramp) == 0
    assert benchmark.restlessness(flicker) == 20


def test_samplers_that_do_not_suit_the_pipeline_are_named_with_the_reason(
    benchmark, tiny_data_set, tiny_pipeline_folder, detector, capsys, tmp_path
):
    pipe = benchmark.DAWNPipeline.from_pretrained(tiny_pipeline_folder)
    pipe.scheduler.register_to_config(prediction_type="sample")
    pipe.save_pretrained(tmp_path)
    given = ["--pipeline", str(tmp_path), "--dataset", str(tiny_data_set), "--num-clips", "1"]
    benchmark.main([*given, "--clip-seconds", "0.52", "--steps", "1", "--samplers", "PNDMScheduler"])
    assert "PNDMScheduler in 1: `scheduler` PNDMScheduler cannot sample DAWN" in capsys.readouterr().out
