import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clips import AUDIO_DIM, tiny_clip
from tiny_evaluation import SHORT, write_test_split

from diffusers_dawn.cli.compare import comparison
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from training.data.clip_members import PreparedClip, encode_wav
from training.data.clip_shards import ClipShards
from training.data.dataset_info import DatasetInfo
from training.data.mouth import LOWER_LIP, UPPER_LIP
from training.engine.checkpoints import write_trained
from training.engine.networks import add_lora
from training.evaluate import main
from training.evaluation.clips import Evaluation
from training.evaluation.loading import load_pipeline
from training.evaluation.sections.catalogue import SECTIONS
from training.evaluation.settings import EvaluationSettings
from training.train_a2v import A2VConfig

TINY = (
    *("--num_clips", "2", "--clip_seconds", "0.52", "--long_seconds", "1.04", "--num_long", "1"),
    *("--num_portraits", "1", "--frame_stride", "6", "--num_inference_steps", "1", "--device", "cpu", "--quiet"),
)


def speaking_clip(name: str) -> PreparedClip:
    """A tiny clip whose labels say that the inner lips part."""
    clip = tiny_clip(name)
    mouth_px = clip.labels["mouth_px"].copy()
    mouth_px[:, [UPPER_LIP, LOWER_LIP]] = 32
    mouth_px[:, LOWER_LIP, 1] += 5 * np.abs(np.sin(np.arange(30)))
    return replace(clip, labels=clip.labels | {"mouth_px": mouth_px})


@pytest.fixture(scope="module")
def speaking(tmp_path_factory) -> Path:
    return write_test_split(tmp_path_factory.mktemp("data") / "clips", speaking_clip, DatasetInfo(64, "x", AUDIO_DIM))


def arguments(pipeline, dataset, output, *more) -> list[str]:
    given = ["--pipeline", str(pipeline), "--dataset", str(dataset), "--output", str(output)]
    return [*given, *TINY, *more]


def figures_of(output) -> dict:
    return json.loads((output / "report.json").read_text())["sections"]


@pytest.mark.slow
def test_every_part_is_reported_also_where_no_face_is_seen(speaking, tiny_pipeline_folder, tmp_path, detector, capsys):
    sound, output = tmp_path / "speech.wav", tmp_path / "evaluation"
    sound.write_bytes(encode_wav(ClipShards(speaking, "test").read_samples(0)[: 640 * 15]))
    assert main(arguments(tiny_pipeline_folder, speaking, output, "--recordings", str(sound))) == 0
    printed, text = capsys.readouterr().out, (output / "report.md").read_text()
    assert text in printed and "test split of `clips`" in text and str(tmp_path) not in text
    sections = figures_of(output)
    assert list(sections) == list(SECTIONS)
    for name in ("reader", "lips", "control"):
        assert any(
            note.startswith("In 2 of 2 clips the reader sees the face in less") for note in sections[name]["notes"]
        )
    assert any(note.startswith("In 4 of 4 ends") for note in sections["long"]["notes"])
    assert any(note.startswith("In 1 of 1 videos of speech.wav") for note in sections["recordings"]["notes"])
    # what is not seen must not improve a mean
    lips = sections["lips"]["figures"]
    assert lips["own_speech"]["value"] == lips["other_speech"]["value"] == 0 and lips["own_speech"]["count"] == 2
    assert lips["lag_within_1"]["value"] == 0 and lips["lag_frames"]["value"] is None
    assert sections["reconstruction"]["figures"]["gain_mouth"]["value"] is not None
    assert [path.name for path in output.glob("*.mp4")] == ["recording_1-test-0.mp4"]


def test_parts_that_cannot_be_run_say_why(tiny_data_set, tiny_pipeline_folder, tmp_path, detector):
    output = tmp_path / "evaluation"
    given = ["--sections", "recordings,long,tracks", "--num_clips", "1"]
    assert main(arguments(tiny_pipeline_folder, tiny_data_set, output, *given)) == 0
    sections = figures_of(output)
    assert list(sections) == ["recordings", "long", "tracks"]
    assert sections["recordings"] == {"left_out": "no `--recordings` are given"}
    assert sections["long"] == {"left_out": "the measured clips together do not last 1.04 s"}
    assert "Left out: no `--recordings` are given." in (output / "report.md").read_text()


@pytest.fixture(scope="module")
def lora_folder(tiny_pipeline_folder, tmp_path_factory) -> Path:
    """An adapter of the tiny denoiser that changes it."""
    unet = DAWNPipeline.from_pretrained(tiny_pipeline_folder).unet
    add_lora(unet, 2, 2.0, A2VConfig.lora_layers, 0)
    for key, value in unet.named_parameters():
        if ".lora_" in key:
            torch.nn.init.normal_(value, generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    write_trained(unet, folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(tiny_data_set, tiny_pipeline_folder, lora_folder, tmp_path_factory) -> dict[str, Path]:
    """Reports of one seed, of the same again, of another one, and of an adapter with LFG from a folder."""
    runs = {
        "first": ["--seed", "3"],
        "again": ["--seed", "3"],
        "other seed": ["--seed", "4"],
        "adapter": ["--seed", "3", "--lora", str(lora_folder), "--lfg", str(tiny_pipeline_folder)],
    }
    folders = {name: tmp_path_factory.mktemp("evaluated") / "evaluation" for name in runs}
    for name, more in runs.items():
        given = ["--sections", "tracks", *more]
        assert main(arguments(tiny_pipeline_folder, tiny_data_set, folders[name], *given)) == 0
    return folders


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_same_seed_gives_the_same_report_and_another_one_another(evaluated):
    reports = [report_of(evaluated[name]) for name in ("first", "again", "other seed")]
    for report in reports:
        # of how busy the machine is
        del report["machine"], report["rendering"]
    assert reports[0] == reports[1] and reports[0]["sections"] != reports[2]["sections"]
    text = comparison(reports[0], reports[2])
    assert "Settings that differ (A / B): seed 3 / 4." in text and "| yaw of two samples, mean difference [°] " in text


def test_report_tells_checkpoints_apart_by_their_weights(evaluated):
    reports = [report_of(evaluated[name]) for name in ("first", "other seed", "adapter")]
    first, second, adapted = (report["networks"] for report in reports)
    assert set(first) == {"unet", "lfg", "pbnet", "audio_encoder"} and first == second
    assert [name for name in first if first[name] != adapted[name]] == ["unet"]
    assert reports[0]["versions"]["torch"] == torch.__version__ and "threads" in reports[0]["machine"]
    assert reports[0]["sections"]["tracks"]["clips"] == ["test-0"]


def test_report_names_what_was_evaluated_but_not_where_it_lies(
    evaluated, tiny_data_set, tiny_pipeline_folder, lora_folder
):
    settings = report_of(evaluated["adapter"])["settings"]
    assert settings["pipeline"] == settings["lfg"] == tiny_pipeline_folder.name and settings["dataset"] == "clips"
    assert settings["num_clips"] == settings["num_identities"] == 1 and settings["size_px"] == 64
    assert settings["lora"] == "lora"
    text = (evaluated["adapter"] / "report.md").read_text()
    assert "The denoiser has the adapter `lora`." in text
    for place in (tiny_data_set.parent, lora_folder):
        assert str(place) not in text + (evaluated["adapter"] / "report.json").read_text()


def test_a_setting_with_several_values_makes_a_row_for_each_and_goes_on(
    tiny_data_set, tiny_pipeline_folder, tmp_path, capsys
):
    words = arguments(tiny_pipeline_folder, tiny_data_set, tmp_path, "--sections", "pictures")
    assert main([*words, "--vary", "strategy=all_at_once,ttr"]) == 0
    assert "measured before" not in capsys.readouterr().out
    folders = {name: tmp_path / f"strategy-{name}" for name in ("all_at_once", "ttr")}
    reports = {name: json.loads((folder / "report.json").read_text()) for name, folder in folders.items()}
    assert [report["settings"]["strategy"] for report in reports.values()] == list(reports)
    values = [report["sections"]["pictures"]["figures"]["psnr_db"]["value"] for report in reports.values()]
    assert values[0] != values[1]
    rendered = reports["ttr"]["rendering"]["pictures"]
    assert (rendered["videos"], rendered["frames"]) == (1, 13) and rendered["seconds"] > 0
    table = (tmp_path / "strategy.md").read_text()
    assert "| strategy | clips | s per video | pictures: PSNR [dB] ↑ | pictures: SSIM ↑ |" in table
    assert f"| {values[1]:.4g} |" in next(line for line in table.splitlines() if line.startswith("| ttr |"))
    # a third value is measured beside one that is there, and one that was made of other weights
    reports["ttr"]["networks"]["unet"] = "another"
    (folders["ttr"] / "report.json").write_text(json.dumps(reports["ttr"]))
    assert main([*words, "--vary", "strategy=all_at_once,ttr,sar"]) == 0
    assert capsys.readouterr().out.count("measured before") == 1
    assert json.loads((folders["ttr"] / "report.json").read_text())["networks"]["unet"] != "another"


def test_a_stopped_evaluation_goes_on_with_what_clips_have_said(speaking, tiny_pipeline_folder, tmp_path, monkeypatch):
    words = arguments(tiny_pipeline_folder, speaking, tmp_path, "--sections", "pictures")
    likeness, judged = Evaluation.likeness, []

    def stopped_once(evaluation: Evaluation, place: int) -> dict[str, float]:
        judged.append(place)
        if judged == [0, 1]:
            raise KeyboardInterrupt
        return likeness(evaluation, place)

    monkeypatch.setattr(Evaluation, "likeness", stopped_once)
    assert main(words) == 130 and not (tmp_path / "report.json").exists()
    # what they say with another seed is something else
    assert main([*words, "--seed", "1", "--output", str(tmp_path)]) == 0 and judged == [0, 1, 0, 1]
    assert not (tmp_path / "rows").exists()
    assert figures_of(tmp_path)["pictures"]["figures"]["psnr_db"]["count"] == 2


def test_window_of_the_attention_counts_both_sides(tiny_data_set, tiny_pipeline_folder, tmp_path):
    rendered, device = [], torch.device("cpu")
    for window, frames in ((None, 20), (4, 2), ("none", None)):
        pipe = load_pipeline(str(tiny_pipeline_folder), device, attention_window=window)
        assert pipe.unet.config.temporal_window == frames
        evaluation = Evaluation(pipe, tiny_data_set, SHORT, None)
        tracks = tuple(torch.from_numpy(evaluation.labels(0)[name]) for name in ("pose", "blink"))
        (stretch,) = evaluation.render(evaluation.portrait(0), evaluation.speech(0), tracks, evaluation.random(0))
        rendered.append(stretch.latents)
    # the clips are shorter than the config's window
    assert torch.equal(rendered[0], rendered[2]) and not torch.allclose(rendered[0], rendered[1])


@pytest.mark.parametrize(
    ("given", "name", "steps"),
    [
        (("--scheduler", "unipc", "--num_inference_steps", "2"), "UniPCMultistepScheduler", 2),
        (("--scheduler", "dawn"), "DAWNDDIMScheduler", 10),
        (("--scheduler", "DDIMScheduler"), "DDIMScheduler", 10),
        (("--preset", "fast"), "DDIMScheduler", 4),
    ],
)
def test_sampler_by_name_is_measured(tiny_data_set, tiny_pipeline_folder, tmp_path, given, name, steps):
    words = arguments(tiny_pipeline_folder, tiny_data_set, tmp_path, "--sections", "tracks", *given)
    first = words.index("--num_inference_steps")
    assert main(words[:first] + words[first + 2 :]) == 0
    settings = json.loads((tmp_path / "report.json").read_text())["settings"]
    assert (settings["scheduler"], settings["num_inference_steps"]) == (name, steps)


def test_adapter_and_sampler_change_what_is_rendered(tiny_data_set, tiny_pipeline_folder, lora_folder):
    rendered = []
    for changes in ({}, {"lora": str(lora_folder)}, {"scheduler": "unipc"}, {}):
        pipe = load_pipeline(str(tiny_pipeline_folder), torch.device("cpu"), **changes)
        settings = EvaluationSettings(num_clips=1, clip_seconds=0.6, num_inference_steps=2, quiet=True)
        evaluation = Evaluation(pipe, tiny_data_set, settings, None)
        generator, portrait, speech = evaluation.random(0), evaluation.portrait(0), evaluation.speech(0)
        tracks = evaluation.free_tracks(portrait, speech, generator)
        rendered.append(evaluation.render(portrait, speech, tracks, generator)[0].latents)
    assert torch.equal(rendered[0], rendered[3])
    assert not torch.allclose(rendered[0], rendered[1]) and not torch.allclose(rendered[0], rendered[2])


@pytest.mark.slow
def test_networks_that_are_given_and_trusted_add_their_figures(tiny_data_set, tiny_pipeline_folder, tmp_path):
    program, output = tmp_path / "mine.py", tmp_path / "evaluation"
    program.write_text("def inception():\n    return lambda pictures: pictures.mean(dim=(2, 3))\n")
    given = ["--sections", "paper", "--extractors", f"inception={program}:inception", "--trust_remote_code"]
    assert main(arguments(tiny_pipeline_folder, tiny_data_set, output, *given)) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["settings"]["extractors"]["inception"].startswith("mine.py:inception, SHA-256 ")
    paper = report["sections"]["paper"]
    # the frames of the first half second of one clip
    assert paper["figures"]["fid"]["value"] > 0 and paper["figures"]["fid"]["count"] == 13
    assert sorted(path.name for path in (output / "videos").iterdir()) == ["contact_sheet.png", "test-0.mp4"]
    (left_out,) = [note for note in paper["notes"] if note.startswith("Left out, as `--extractors`")]
    assert "FVD16 and FVD32 (i3d)" in left_out and "inception" not in left_out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--sections", "lips,teeth"), "`sections` has 'teeth', must be some of reader, lips"),
        (("--num_clips", "0"), "`num_clips` is 0"),
        (("--num_videos", "-1"), "`num_videos` is -1, must be 0 or more"),
        (("--num_inference_steps", "1000"), "`num_inference_steps` is 1000"),
        (("--recordings", "no/such.wav"), "`recordings` has no/such.wav"),
        (("--reader_processes", "0"), "`num_processes` is 0"),
        (("--device", "abacus"), "`device` is 'abacus'"),
        (("--pipeline", "no/pipeline"), "`pipeline` no/pipeline cannot be loaded"),
        (("--dataset", "no/dataset"), "there is no no/dataset/dataset.json"),
        (("--extractors", "inception"), "`extractors` has 'inception', must be NAME=FILE.pt or NAME=FILE.py:FUNCTION"),
        (("--lfg", "no/where/at/all"), "`lfg` is 'no/where/at/all'"),
        (("--lora", "no/where/at/all"), "`lora` no/where/at/all cannot be loaded"),
        (("--scheduler", "magic"), "`scheduler` is 'magic', must be one of dawn, ddim"),
        (("--vary", "strategy=sar"), "`vary` is 'strategy=sar', must be NAME=VALUE,VALUE,..., NAME one of strategy, "),
        (("--vary", "teeth=1,2"), "`vary` is 'teeth=1,2', must be NAME=VALUE,VALUE,..., NAME one of strategy, "),
        (("--vary", "clip_seconds=0.52,9"), "`long_seconds` is 1.04, must be at least twice `clip_seconds` (9.0)"),
        (("--guidance_scale", "-1"), "`guidance_scale` is -1.0, must be a number in [0, "),
        (("--guidance_scale", "speech=2,teeth=3"), "`guidance_scale` has 'teeth', may only have speech, pose, blink"),
        (("--scheduler", "ddim", "--preset", "fast"), "give either `preset`, which has its own sampler, or"),
    ],
)
def test_bad_input_ends_with_one_line(more, message, tiny_data_set, tiny_pipeline_folder, tmp_path, capsys):
    output = tmp_path / "evaluation"
    assert main(arguments(tiny_pipeline_folder, tiny_data_set, output, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("evaluate: ") and error.count("\n") == 1 and message in error
    assert not output.exists()


def test_window_that_is_not_even_is_refused(tiny_data_set, tiny_pipeline_folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(arguments(tiny_pipeline_folder, tiny_data_set, tmp_path, "--attention_window", "5"))
    assert "argument --attention_window: '5', must be an even number from 2, or none" in capsys.readouterr().err


def test_output_that_is_a_file_is_refused(tiny_data_set, tiny_pipeline_folder, tmp_path, capsys):
    output = tmp_path / "report"
    output.write_text("mine")
    assert main(arguments(tiny_pipeline_folder, tiny_data_set, output)) == 2
    assert "`output` is not a folder" in capsys.readouterr().err and output.read_text() == "mine"
