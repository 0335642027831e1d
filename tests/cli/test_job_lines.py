"""Lines of jobs files: what they may say, and that whatever they say is a job or a reason."""

import argparse
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffusers_dawn.cli.job_lines import (
    Job,
    check_fields,
    job_options,
    key_of,
    options_of,
    read_jobs,
    read_line,
    refuse_doubles,
    tidy_fields,
)
from diffusers_dawn.cli.options import COMMANDS, MODEL_OPTIONS, SWITCHES, command_parser
from diffusers_dawn.records import SquareCrop

MODEL = argparse.Namespace(checkpoint="tiny", lora=None, device="cpu", dtype="float32")
FIELDS = {"image": "a.png", "audio": "a.wav", "output": "a.mp4"}
FOLDER = Path("/videos")

values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values |= st.sampled_from(["../a.mp4", "/a.mp4", "a/../../b", ".", "~", "a\0.mp4", "-x", "--output=/b", "\ud800"])
nested = st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=2), values, max_size=2)
fields = st.dictionaries(st.sampled_from(job_options()), values | nested)


@given(st.binary(max_size=40) | fields.map(lambda given: json.dumps(FIELDS | given).encode()))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_every_line_is_a_job_that_stays_in_its_folder_or_a_reason(line):
    job = read_line(line, 7)
    assert job.number == 7 and len(key_of(job, [])) == 32
    if job.problem is not None:
        assert job.problem == " ".join(job.problem.split("\n")) and job.problem
        return
    for name in ("output", "save_motion"):
        if name in job.fields:
            place = os.path.normpath(FOLDER / job.fields[name])
            assert place.startswith(f"{FOLDER}/")
    try:
        options = options_of(job, FOLDER, MODEL)
    except ValueError:
        return
    assert options.checkpoint == "tiny" and Path(options.output) == FOLDER / job.fields["output"]


def test_a_job_is_read_as_the_command_reads_its_options():
    job = tidy_fields(
        FIELDS
        | {"audio-track": 1, "head_motion": 0.5, "guidance_scale": "speech=2,blink=1.5", "seed": 7}
        | {"label": True, "crop": False, "full_image": True, "audio_channel": "mix", "motion": "nod at 1 s, then -- x"}
        | {"steps": None, "save_motion": "tracks/a.npz", "enhance": "detail"}
    )
    words = ["--image=a.png", "--audio=a.wav", "--output=/videos/a.mp4", "--audio-track=1", "--head-motion=0.5"]
    words += ["--guidance-scale=speech=2,blink=1.5", "--seed=7", "--label", "--no-crop", "--full-image"]
    words += ["--audio-channel=mix", "--motion=nod at 1 s, then -- x", "--save-motion=/videos/tracks/a.npz"]
    words += ["--enhance=detail", "--checkpoint=tiny", "--device=cpu"]
    assert job.problem is None
    expected = command_parser(dict.fromkeys(COMMANDS)).parse_args(["animate", *words])
    assert vars(options_of(job, FOLDER, MODEL)) == vars(expected)


def test_a_square_is_left_top_and_side():
    job = tidy_fields(FIELDS | {"crop": "-10,20,300"})
    assert options_of(job, FOLDER, MODEL).crop == SquareCrop(-10, 20, 300)
    for words in ("10,20", "10,20,x", "10,20,30,40", "0.5,1,2"):
        with pytest.raises(ValueError, match=f"`--crop` is '{words}', must be left, top and side as 120,40,300"):
            options_of(tidy_fields(FIELDS | {"crop": words}), FOLDER, MODEL)
    assert options_of(tidy_fields(FIELDS | {"crop": True}), FOLDER, MODEL).crop is True


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 3 cannot be read as JSON: Expecting property name"),
        (b"\xff", "line 3 cannot be read as JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "line 3 cannot be read as JSON: "),
        (b'{"seed": 1, "seed": 2}', "line 3 cannot be read as JSON: 'seed' is given twice"),
        (b'{"seed": NaN}', "line 3 cannot be read as JSON: NaN is no number of JSON"),
        (b"[1, 2]", 'line 3 is [1, 2], must be an object such as {"image":'),
    ],
)
def test_a_line_that_is_no_object_is_named(line, problem):
    assert read_line(line, 3).problem.startswith(problem)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"output": None}, "`output` is missing"),
        ({"image": None}, "`image` is missing"),
        ({"audio": None}, "`audio` is missing"),
        ({"colour": "red"}, "`colour` is no option of a job, must be one of image, audio"),
        ({"checkpoint": "x"}, "`checkpoint` holds for all jobs: give `--checkpoint` to `dawn batch`"),
        ({"device": "cuda"}, "`device` holds for all jobs"),
        ({"run": "x"}, "`run` is no option of a job"),
        ({"debug": True}, "`debug` is no option of a job"),
        ({"head_motion": 1, "head-motion": 1}, "`head-motion` is given twice"),
        (
            {"guidance_scale": {"speech": 2}},
            "`guidance_scale` is {'speech': 2}, must be a text, a number, true or false",
        ),
        ({"steps": True}, "`steps` is true, must be a text or a number"),
        ({"enhance": "os:abort"}, "`enhance` is 'os:abort', must be detail: no job may name a function to import"),
        ({"enhance": 1}, "`enhance` is 1, must be detail"),
        ({"seed": False}, "`seed` is false, must be a text or a number"),
        ({"output": "../a.mp4"}, "`output` is '../a.mp4', must be a name below the batch's folder"),
        ({"output": "/tmp/a.mp4"}, "`output` is '/tmp/a.mp4', must be a name below"),
        ({"output": "."}, "`output` is '.', must be a name below"),
        ({"output": 5}, "`output` is 5, must be a name below"),
        ({"save_motion": "../a.npz"}, "`save_motion` is '../a.npz', must be a name below"),
        ({"output": ".dawn-batch/a.mp4"}, "`output` is '.dawn-batch/a.mp4', a name that the batch itself uses"),
    ],
)
def test_fields_that_are_no_job_are_named(given, problem):
    assert tidy_fields(FIELDS | given).problem.startswith(problem)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": "x"}, "argument --steps: invalid int value: 'x'"),
        ({"steps": 1.5}, "argument --steps: invalid int value: '1.5'"),
        ({"preset": "best"}, "argument --preset: invalid choice: 'best'"),
        ({"full_image": "yes"}, "argument --full-image: ignored explicit argument 'yes'"),
        ({"guidance_scale": "speech=2,speech=3"}, "argument --guidance-scale: 'speech=2,speech=3' must be a number"),
        ({"guidance_scale": "x"}, "argument --guidance-scale: 'x' must be a number"),
        (
            {"guidance_scale": "speech="},
            "argument --guidance-scale: 'speech=' must be a number, or numbers by name, each once",
        ),
    ],
)
def test_values_are_refused_as_by_the_command(given, message):
    with pytest.raises(ValueError, match=message):
        options_of(tidy_fields(FIELDS | given), FOLDER, MODEL)


def test_jobs_that_write_the_same_are_refused_but_for_the_first():
    outputs = ["a.mp4", "b", "./a.mp4", "b/c.mp4", "d.mp4", "e.mp4", "f.mp4", "g"]
    jobs = [Job(number, FIELDS | {"output": output}) for number, output in enumerate(outputs, 1)]
    jobs[4] = Job(5, jobs[4].fields | {"save_motion": "t.npz"})
    jobs[5] = Job(6, jobs[5].fields | {"save_motion": "t.npz"})
    jobs[6] = Job(7, jobs[6].fields | {"save_motion": "b/t.npz"})
    jobs[7] = Job(8, jobs[7].fields | {"save_motion": "g/t.npz"})
    assert [job.problem for job in refuse_doubles(jobs)] == [
        None,
        None,
        "`output` is a.mp4, which line 1 writes",
        "`output` is b/c.mp4, in the folder that line 2 writes",
        None,
        "`save_motion` is t.npz, which line 5 writes",
        "`save_motion` is b/t.npz, in the folder that line 2 writes",
        "`save_motion` is g/t.npz, in the folder that line 8 writes",
    ]


def test_a_key_tells_jobs_apart_by_what_their_video_depends_on(tmp_path):
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"1")
    given = FIELDS | {"audio": str(sound)}
    key = key_of(tidy_fields(given, 1), "model")
    assert key == key_of(tidy_fields(dict(reversed(given.items())), 9), "model")
    others = [given | {"seed": 1}, given | {"image": "b.png"}, given | {"output": "b.mp4"}]
    assert key not in [key_of(tidy_fields(other), "model") for other in others]
    assert key != key_of(tidy_fields(given), "another model")
    sound.write_bytes(b"12")
    assert key != key_of(tidy_fields(given), "model")


def test_a_key_depends_on_the_files_that_a_text_about_motion_names(tmp_path):
    for name, statement in (("a.npz", "head from"), ("b.mp4", "begin after"), ("c.txt", "nod on word 1; transcript")):
        file = tmp_path / name
        file.write_bytes(b"1")
        job = tidy_fields(FIELDS | {"motion": f'{statement} "{file}"'})
        key = key_of(job, "model")
        file.write_bytes(b"12")
        assert key != key_of(job, "model"), statement


def test_switches_are_the_options_that_need_no_value():
    for name in job_options():
        word = f"--{name.replace('_', '-')}"
        try:
            options_of(Job(1, FIELDS | {name: True}), FOLDER, MODEL)
        except (ValueError, TypeError) as error:
            assert name not in SWITCHES, error
        else:
            assert name in SWITCHES, word
    assert set(MODEL_OPTIONS).isdisjoint(job_options())
    check_fields(FIELDS)


def test_a_jobs_file_is_read_line_by_line(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"\r\n" + json.dumps(FIELDS).encode() + b"\r\n\nnonsense\n")
    jobs = read_jobs(path)
    assert [(job.number, job.problem is None) for job in jobs] == [(2, True), (4, False)]
    path.write_text(" \n\n")
    with pytest.raises(ValueError, match=f"`jobs` holds no line: {path}"):
        read_jobs(path)
    with pytest.raises(ValueError, match="`jobs` is a URL, must be a file: https://h/jobs.jsonl"):
        read_jobs("https://h/jobs.jsonl")
    with pytest.raises(FileNotFoundError, match="`jobs` does not exist"):
        read_jobs(tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["image", "audio", "motion", "background"])
@pytest.mark.parametrize("place", ["", "."])
def test_what_the_batch_writes_does_not_make_a_job_another_one(tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(tmp_path)
    job = tidy_fields(FIELDS | {name: place})
    key = key_of(job, "model")
    (tmp_path / "a.mp4").write_text("video")
    assert key_of(job, "model") == key
