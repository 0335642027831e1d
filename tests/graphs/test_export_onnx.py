"""`dawn export-onnx`, and the example that runs its graphs without torch."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from benchmark_scripts import imported_script
from diffusers_dawn import (
    A2VFlowDiffusionModel,
    DAWNPipeline,
    FaceState,
    LatentFlowGenerator,
    Portrait,
    PoseBlinkNet,
    Waveform,
)
from diffusers_dawn.cli.command import main
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.graphs import export
from diffusers_dawn.graphs.description import describe
from diffusers_dawn.sampling.presets import choose_sampling
from diffusers_dawn.sampling.scheduler_choice import make_scheduler
from diffusers_dawn.sampling.scheduling_dawn_ddim import DAWNDDIMScheduler
from example_runs import EXAMPLES, run_without

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# neither is the length that is traced. PBNet's window changes between them, and so does the number of blocks of
# frames, and of pieces that share a latent
FRAME_COUNTS = (13, 97)


@pytest.fixture(scope="module")
def small_pipe() -> DAWNPipeline:
    """A pipeline with all that dawn-open makes use of, and less of it."""
    tiny = random_pipeline("tiny", full=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = {"patch_size": 2, "flow_scale": 8.0, "blink_scale": (-8.0, -8.0)}
        lfg = {"image_sampling": "bicubic", "image_border": "repeated", "still_background": True}
        pbnet = {"networks": "joint", "latent_stride": 20, "clip_frames": 60}
        networks = {
            "unet": A2VFlowDiffusionModel.from_config(tiny.unet.config, **unet).eval(),
            "lfg": LatentFlowGenerator.from_config(tiny.lfg.config, **lfg).eval(),
            "pbnet": PoseBlinkNet.from_config(tiny.pbnet.config, **pbnet).eval(),
        }
    config = dict(tiny.scheduler.config) | {"prediction_type": "sample", "thresholding": False, "clip_sample": False}
    others = {"audio_encoder": tiny.audio_encoder, "feature_extractor": tiny.feature_extractor}
    pipe = DAWNPipeline(**networks, **others, scheduler=make_scheduler("dawn", config), speech_guidance=2.0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def exported(small_pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "graphs"
    export.export_onnx(small_pipe, folder)
    return folder


@pytest.fixture(scope="module")
def example():
    with imported_script("animate_with_onnx", EXAMPLES) as script:
        yield script


def noisy_portrait() -> Portrait:
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    state = np.array([4, -3, 2, 4.8e-4, 60, 70]), np.array([0.3, 0.25])
    person = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 64, axis=0)
    return Portrait(picture, FaceState(*state, box_px=(20, 60, 25, 70), image_size=(80, 80)), person=person)


def noisy_speech(num_frames: int) -> Waveform:
    samples = 0.1 * np.random.default_rng(num_frames).standard_normal(num_frames * 640 + 100)
    return Waveform(samples.astype(np.float32), 16_000)


def test_graphs_render_the_pipelines_video_of_any_length_without_torch(small_pipe, exported, tmp_path):
    # in a process of its own, where torch cannot be imported
    source = f"""
import sys; sys.path[:0] = [{str(EXAMPLES)!r}]
import numpy as np
from animate_with_onnx import OnnxPipeline
from diffusers_dawn import FaceState, Portrait, Waveform
given = np.load("given.npz")
face = FaceState(given["pose"], given["blink"], tuple(given["box_px"]), tuple(given["image_size"]))
pipe = OnnxPipeline({str(exported)!r}, num_threads=1)
for name in {[str(count) for count in FRAME_COUNTS]}:
    portrait = Portrait(given["picture"], face, person=given["person"])
    frames = pipe.render(portrait, Waveform(given[name], 16_000), seed=3)
    np.save(name, np.concatenate(list(frames)))
"""
    portrait, speech = noisy_portrait(), {count: noisy_speech(count) for count in FRAME_COUNTS}
    face = {name: getattr(portrait.face, name) for name in ("pose", "blink", "box_px", "image_size")}
    samples = {str(count): waveform.samples for count, waveform in speech.items()}
    np.savez(tmp_path / "given.npz", picture=portrait.image, person=portrait.person, **face, **samples)
    run_without(("torch", "diffusers", "transformers", "onnx"), source, tmp_path)
    for count, waveform in speech.items():
        generator = torch.Generator().manual_seed(3)
        wanted = small_pipe(portrait, waveform, generator=generator, output_type="np").frames[0]
        drawn = np.load(tmp_path / f"{count}.npy")
        assert drawn.shape == wanted.shape == (count, 64, 64, 3)
        assert wanted.std() > 0.01
        # rounding of other orders of sums, three steps on; measured: 3e-4
        assert np.abs(drawn - wanted).max() < 1e-3


def test_the_description_states_batch_sizes_and_what_may_have_any_length(exported, small_pipe):
    facts = json.loads((exported / "dawn_onnx.json").read_text())
    assert (facts["batch_size"], facts["image_size_px"], facts["flow_scale"]) == (1, 64, 8.0)
    assert facts["guidance"] == {"speech": 2.0, "pose": 1.0, "blink": 1.0}
    assert {name: len(steps) for name, steps in facts["samplers"].items()} == {
        "quality": 10,
        "balanced": 3,
        "fast": 1,
    }
    assert facts["graphs"]["denoiser"]["inputs"]["noisy_motion"] == [1, 3, "num_frames", 16, 16]
    assert {path.name for path in exported.iterdir()} == {
        "dawn_onnx.json",
        *(f"{name}.onnx" for name in facts["graphs"]),
    }


FREE = {"thresholding": False, "clip_sample": False, "clip_sample_range": 1.5}


@pytest.mark.parametrize("preset", ["quality", "fast"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("bounds", [{"thresholding": True}, {"clip_sample": True}, {}], ids=str)
def test_the_examples_steps_are_those_of_the_presets(tiny_pipe, example, prediction, bounds, preset):
    config = dict(tiny_pipe.scheduler.config) | FREE | {"prediction_type": prediction}
    trained = make_scheduler("dawn", config | bounds)
    facts = describe(DAWNPipeline(**tiny_pipe.components | {"scheduler": trained}))
    scheduler, num_steps, *_, eta = choose_sampling(trained, preset)
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(0)
    motion, answer, fresh = (torch.randn((1, 3, 5, 4, 4), generator=generator) for _ in range(3))
    assert any(step["fresh"] for step in facts["samplers"][preset]) == (eta > 0)
    for time, step in zip(scheduler.timesteps.tolist(), facts["samplers"][preset], strict=True):
        if step["signal"] < 1e-3:  # epsilon says next to nothing of the motion
            continue
        wanted = scheduler.step(answer, time, motion, eta=eta, variance_noise=fresh)[0].numpy()
        given = step, *(tensor.numpy() for tensor in (motion, answer, fresh))
        np.testing.assert_allclose(example.denoise(facts, *given), wanted, atol=1e-5)


# as `train_a2v.py` writes it
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
FLOW_SCHEDULERS = (
    UniPCMultistepScheduler(**FLOW),
    UniPCMultistepScheduler(**FLOW, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=None),
    FlowMatchEulerDiscreteScheduler(shift=3.0),
)


@pytest.mark.parametrize("preset", ["quality", "balanced", "fast"])
@pytest.mark.parametrize("trained", FLOW_SCHEDULERS, ids=["plain", "with threshold", "shifted"])
def test_the_examples_steps_of_flow_matching_are_those_of_the_presets(tiny_pipe, example, trained, preset):
    facts = describe(DAWNPipeline(**tiny_pipe.components | {"scheduler": trained}))
    scheduler, num_steps, *_ = choose_sampling(trained, preset)
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn((1, 3, 5, 4, 4), generator=generator)
    found, known = wanted.numpy(), [wanted.numpy()]
    for time, step in zip(scheduler.timesteps, facts["samplers"][preset], strict=True):
        answer = torch.randn((1, 3, 5, 4, 4), generator=generator)
        wanted = scheduler.step(answer, time, wanted)[0]
        found = example.follow_flow(facts, step, known, found, answer.numpy())
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "preset"),
    [
        # v, because of noise that is wrongly predicted each rounding counts a thousandfold after 20 steps
        (DAWNDDIMScheduler(prediction_type="v_prediction"), "quality"),
        (FLOW_SCHEDULERS[1], "fast"),
        (FLOW_SCHEDULERS[2], "balanced"),
    ],
    ids=["with fresh noise", "flow with threshold", "shifted flow"],
)
def test_the_example_renders_what_other_checkpoints_would(small_pipe, exported, example, scheduler, preset):
    other = DAWNPipeline(**small_pipe.components | {"scheduler": scheduler}, speech_guidance=2.0)
    other.set_progress_bar_config(disable=True)
    graphs = example.OnnxPipeline(exported, num_threads=1)
    graphs.facts |= describe(other)
    portrait, speech = noisy_portrait(), noisy_speech(FRAME_COUNTS[0])
    generator = torch.Generator().manual_seed(3)
    wanted = other(portrait, speech, generator=generator, output_type="np", preset=preset).frames[0]
    drawn = np.concatenate(list(graphs.render(portrait, speech, seed=3, preset=preset)))
    assert np.abs(drawn - wanted).max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 7, 16), (1, 3, 5, 3, 3)])
def test_the_examples_noise_is_torchs(example, shape):
    generator, noise = torch.Generator().manual_seed(2**40 + 5), example.TorchNoise(2**40 + 5)
    for _ in range(2):
        wanted = torch.randn(shape, generator=generator).numpy()
        np.testing.assert_allclose(noise.draw(*shape), wanted, atol=1e-5)


def test_the_example_refuses_what_it_cannot_do(exported, example, tmp_path):
    with pytest.raises(ValueError, match="`folder` .* has no dawn_onnx.json"):
        example.OnnxPipeline(tmp_path)
    pipe = example.OnnxPipeline(exported, num_threads=1)
    with pytest.raises(ValueError, match="`preset` is 'best', must be one of quality, balanced, fast"):
        next(pipe.render(noisy_portrait(), noisy_speech(1), preset="best"))
    with pytest.raises(ValueError, match=r"`waveform` lasts 61.0 s, must be 60 s at most"):
        pipe.encode_audio(Waveform(np.zeros(61 * 16_000, np.float32), 16_000))
    with pytest.raises(ValueError, match="must have 16 numbers at least"):
        example.TorchNoise(0).draw(1, 3, 5)


def test_an_export_that_fails_leaves_nothing(small_pipe, tmp_path, monkeypatch):
    def fill_disk(*given):
        given[-1].write_text("half a graph")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_graph", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        export.export_onnx(small_pipe, tmp_path / "graphs")
    assert not list(tmp_path.iterdir())


def test_a_pipeline_that_cannot_be_exported_is_refused(tiny_pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_pipe, "pbnet", None)
    with pytest.raises(ValueError, match="`pipe` has no PBNet that makes head pose and blinks"):
        export.export_onnx(tiny_pipe, tmp_path / "graphs")
    monkeypatch.undo()
    tiny_pipe.unet.to(torch.bfloat16)
    with pytest.raises(
        ValueError, match="`pipe` has its `unet` in torch.bfloat16 on cpu, must be in torch.float32 on the CPU"
    ):
        export.export_onnx(tiny_pipe, tmp_path / "graphs")
    tiny_pipe.unet.to(torch.float32)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install diffusers_dawn\[onnx\]"):
        export.export_onnx(tiny_pipe, tmp_path / "graphs")
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_a_full_folder_and_a_missing_checkpoint(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert main(["export-onnx", str(tmp_path / "full")]) == 1
    assert "`output`" in (error := capsys.readouterr().err) and "must be a new or empty folder" in error
    assert main(["export-onnx", str(tmp_path / "new"), "--checkpoint", "./nothing"]) == 1
    assert "`--checkpoint` is ./nothing, must be a folder or an id on the Hub" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_benchmark_compares_the_graphs_with_torch(small_pipe, exported, capsys, monkeypatch):
    with imported_script("onnx_graphs") as script:
        monkeypatch.setattr(script, "build_pipeline", lambda args: small_pipe)
        monkeypatch.setattr(script, "export_onnx", lambda pipe, folder: shutil.copytree(exported, folder))
        script.main(["--seconds", "0.4", "--repeats", "1", "--threads", "1"])
    rows = [line.rsplit(maxsplit=4) for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [row[0].strip() for row in rows] == ["speech features", "denoising call", "8 frames", "whole clip"]
    assert all(float(row[4]) < 1e-3 for row in rows)
