"""`dawn batch` as a user runs it."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn import JobRenderer
from diffusers_dawn.cli import batch, job_renderer
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.job_lines import tidy_fields
from diffusers_dawn.cli.job_log import STARTED, JobLog
from diffusers_dawn.media.videos import read_video
from synthetic_media import tone, write_audio
from warm_processes import begin_two, exit_codes

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    """A tiny checkpoint, a drawn portrait, a picture without a face, and two short recordings."""
    folder = tmp_path_factory.mktemp("batch")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    Image.open(EXAMPLES / "portrait_1.png").convert("RGB").save(folder / "face.png")
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "blank.png")
    for name, duration_s in (("short.wav", 0.2), ("long.wav", 0.3)):
        write_audio(folder / name, tone(duration_s=duration_s)[None], 16_000, "pcm_s16le")
    return folder


def job(inputs, output, image="face.png", audio="short.wav", **fields):
    given = {"image": str(inputs / image), "audio": str(inputs / audio), "output": output, "steps": 1}
    return given | fields


def words(inputs, jobs, folder):
    lines = [line if isinstance(line, str) else json.dumps(line) for line in jobs]
    path = folder.with_suffix(".jsonl")
    path.write_text("\n".join(lines))
    return ["batch", str(path), "-o", str(folder), "--checkpoint", str(inputs / "tiny"), "--device", "cpu"]


def report_of(folder):
    with (folder / "report.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_bad_job_is_reported_and_does_not_stop_the_others(inputs, tmp_path, capsys):
    videos = tmp_path / "videos"
    jobs = [
        job(inputs, "blank.mp4", image="blank.png"),
        "nonsense",
        job(inputs, "a.mp4"),
        job(inputs, "steps.mp4", steps=100_000),
        job(inputs, "anna/b.webm", audio="long.wav", save_motion="anna/b.json", window_frames=5, window_overlap=2),
        job(inputs, "none.mp4", audio="none.wav"),
        job(inputs, "kind.avi"),
        job(inputs, "frames", scheduler="unipc", steps=2),
        job(inputs, "size.mp4", size=100),
        job(inputs, 5),
    ]
    assert main(words(inputs, jobs, videos)) == 1
    said = capsys.readouterr()
    assert said.err == f"dawn: 7 of 10 jobs failed, see {videos}/report.csv\n"
    assert "line 3 of 10: a.mp4, 5 frames, " in said.out and "steps.mp4 failed: `--steps` is 100000" in said.out
    rows = report_of(videos)
    assert [row["line"] for row in rows] == [str(number) for number in range(1, 11)]
    assert [row["line"] for row in rows if row["status"] == "done"] == ["3", "5", "8"]
    assert (rows[4]["frames"], rows[4]["reason"]) == ("8", "") and float(rows[4]["seconds"]) > 0
    for row, reason in zip(
        [row for row in rows if row["status"] == "failed"],
        ("no face found in `image`", "line 2 cannot be read", "`--steps` is 100000", "`audio` does not exist",
         "`output` ends in '.avi'", "`--size` is 100, must be a positive multiple", "`output` is 5, must be"),
        strict=True,
    ):  # fmt: skip
        assert row["reason"].startswith(reason), row
    assert len(read_video(videos / "anna" / "b.webm")[0]) == 8
    assert sorted(os.listdir(videos)) == [".dawn-batch", "a.mp4", "anna", "frames", "report.csv"]
    assert sorted(os.listdir(videos / "anna")) == ["b.json", "b.webm"]


def test_what_is_done_is_not_done_again_but_what_changed_is(inputs, tmp_path, capsys):
    videos = tmp_path / "videos"
    jobs = [job(inputs, f"{name}.mp4") for name in "abc"]
    assert main(words(inputs, jobs, videos)) == 0
    before = {name: os.stat(videos / f"{name}.mp4").st_mtime_ns for name in "abc"}
    (videos / "b.mp4").unlink()
    jobs[2] |= {"seed": 1}
    assert main(words(inputs, reversed(jobs), videos)) == 0
    assert "1 jobs were done before" in capsys.readouterr().out
    after = {name: os.stat(videos / f"{name}.mp4").st_mtime_ns for name in "abc"}
    assert after["a"] == before["a"] and after["b"] != before["b"] and after["c"] != before["c"]
    assert [row["status"] for row in report_of(videos)] == ["done"] * 3


def test_a_video_that_another_job_replaced_is_rendered_again(inputs, tmp_path):
    place, jobs = tmp_path / "videos" / "a.mp4", [job(inputs, "a.mp4", seed=seed) for seed in (0, 1)]
    contents = []
    for one in (0, 1, 0):
        assert main(words(inputs, [jobs[one]], tmp_path / "videos")) == 0
        contents.append(place.read_bytes())
    assert contents[0] == contents[2] != contents[1]
    # the same in one process
    renderer = JobRenderer(tmp_path / "videos", inputs / "tiny", device="cpu")
    for one in (1, 0):
        assert renderer(jobs[one])["status"] == "done"
        assert place.read_bytes() == contents[one]


def test_a_batch_says_how_to_use_the_cores_that_are_left(inputs, tmp_path, capsys, monkeypatch):
    # a job that ends at once: its picture is missing
    arguments = words(inputs, [job(inputs, "a.mp4", image="nothing.png")], tmp_path / "videos")
    said = []
    for num_cores in (4, 1):
        monkeypatch.setattr(batch, "usable_cores", lambda num_cores=num_cores: num_cores)
        main(arguments)
        said.append(capsys.readouterr().out)
    assert "using 1 of 4 cores; `accelerate launch --multi_gpu --num_processes 4 -m diffusers_dawn batch" in said[0]
    assert "cores" not in said[1]


def test_equal_jobs_are_equal_files_whatever_came_before(inputs, tmp_path):
    other = {"steps": 2, "scheduler": "unipc", "cache_interval": 2, "window_frames": 5, "window_overlap": 2}
    for number, names in enumerate(("oxa", "aox")):
        given = {"a": {}, "x": {}, "o": other | {"audio": "long.wav"}}
        jobs = [job(inputs, f"{name}.mp4", **given[name]) for name in names]
        assert main(words(inputs, jobs, tmp_path / str(number))) == 0
    contents = [(tmp_path / folder / f"{name}.mp4").read_bytes() for folder in "01" for name in "ax"]
    assert len(set(contents)) == 1
    assert (tmp_path / "0" / "o.mp4").read_bytes() == (tmp_path / "1" / "o.mp4").read_bytes() != contents[0]


def test_an_interrupted_batch_goes_on_where_it_was(inputs, tmp_path, capsys, monkeypatch):
    videos, render, calls = tmp_path / "videos", job_renderer.render, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        render(*arguments)

    monkeypatch.setattr(job_renderer, "render", interrupted)
    jobs = [job(inputs, f"{name}.mp4") for name in "abc"]
    assert main(words(inputs, jobs, videos)) == 130
    assert "dawn: interrupted, what is finished stays, and the same command goes on" in capsys.readouterr().err
    assert [row["status"] for row in report_of(videos)] == ["done", "not run", "not run"]
    assert main(words(inputs, jobs, videos)) == 0
    assert len(calls) == 4
    # what was interrupted comes last
    said = capsys.readouterr().out
    assert said.index("c.mp4") < said.index("b.mp4")


def test_a_renderer_is_the_same_for_any_program(inputs, tmp_path):
    renderer = JobRenderer(tmp_path / "videos", inputs / "tiny", device="cpu")
    row = renderer(job(inputs, "a.mp4"))
    assert (row["status"], row["output"], row["frames"], row["reason"]) == ("done", "a.mp4", 5, "")
    assert renderer(job(inputs, "a.mp4")) == row  # not rendered again
    refused = renderer(job(inputs, "b.mp4", steps=0))
    assert refused["status"] == "failed" and refused["reason"].startswith("`--steps` is 0, must be a whole number")
    assert renderer({"image": "x"})["reason"] == "`audio` is missing"
    # a path is its name; what has no place in a job, or names no place, is a reason, not an error
    assert renderer(job(inputs, "a.mp4") | {"image": inputs / "face.png"}) == row
    assert renderer(job(inputs, ["a.mp4"]))["reason"].startswith("`output` is ['a.mp4'], must be a text")
    assert renderer(job(inputs, "c.mp4", size={256}))["reason"].startswith("`size` is {256}, must be a text")
    assert renderer(job(inputs, "c.mp4", save_motion=7))["reason"].startswith(
        "`save_motion` is 7, must be a name below"
    )


def test_a_link_does_not_lead_out_of_the_folder(inputs, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "out").symlink_to(tmp_path)
    row = JobRenderer(tmp_path / "videos", inputs / "tiny", device="cpu")(job(inputs, "out/a.mp4"))
    assert row["reason"] == "`output` is out/a.mp4, which a link leads out of the batch's folder"
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "./none"}, "`--checkpoint` is ./none, must be a folder or an id on the Hub"),
        ({"dtype": "int8"}, "`--dtype` is 'int8', must be one of float32, bfloat16, float16"),
        ({"output": __file__}, "`output` is not a folder"),
    ],
)
def test_a_renderer_refuses_what_it_cannot_use(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        JobRenderer(**{"output": tmp_path} | arguments)


def test_jobs_that_are_no_file_are_refused(tmp_path, capsys):
    assert main(["batch", str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "videos")]) == 1
    assert capsys.readouterr().err.startswith("dawn: `jobs` does not exist")
    assert os.listdir(tmp_path) == []


def test_a_job_whose_process_was_killed_comes_last(inputs, tmp_path, capsys):
    videos = tmp_path / "videos"
    jobs = [job(inputs, f"{name}.mp4") for name in "ab"]
    renderer = JobRenderer(videos, inputs / "tiny", device="cpu")
    videos.mkdir()
    JobLog(videos).add(renderer.key_of(tidy_fields(jobs[0])), STARTED)
    assert main(words(inputs, jobs, videos)) == 0
    said = capsys.readouterr().out
    assert said.index("b.mp4") < said.index("a.mp4")


@pytest.mark.slow
def test_two_processes_share_the_jobs_survive_a_kill_and_write_the_same_bytes(inputs, tmp_path):
    jobs = [job(inputs, f"{name}.mp4", seed=seed) for seed, name in enumerate("abcdef")]
    jobs[4] = job(inputs, "e.mp4", image="blank.png")
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert main(words(inputs, jobs, alone)) == 1
    given = words(inputs, jobs, together)
    killed = begin_two(main, given)
    while killed[0].is_alive() and not list(together.glob("*.mp4")):
        time.sleep(0.1)
    for process in killed:
        process.kill()
    assert exit_codes(killed) == [-signal.SIGKILL] * 2
    assert exit_codes(begin_two(main, given)) == [0, 0]
    names = sorted(f"{name}.mp4" for name in "abcdf")
    assert sorted(path.name for path in together.iterdir()) == [".dawn-batch", *names, "report.csv"]
    assert [row["status"] for row in report_of(together)] == ["done"] * 4 + ["failed", "done"]
    for name in names:
        assert (together / name).read_bytes() == (alone / name).read_bytes()
