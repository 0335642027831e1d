"""What the scripts of examples/ make."""

import csv
import importlib.util
import json
import subprocess
import sys

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from example_runs import EXAMPLES, NUM_FRAMES, copy_examples, write_short_speech


@pytest.fixture(scope="module")
def make_preview():
    spec = importlib.util.spec_from_file_location("make_preview", EXAMPLES / "make_preview.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_recordings_are_whole_seconds_of_sound():
    for path in EXAMPLES.glob("speech_*.wav"):
        waveform = read_waveform(path)
        assert waveform.sample_rate_hz == SAMPLE_RATE_HZ and len(waveform.samples) % SAMPLE_RATE_HZ == 0
        assert 0.1 < abs(waveform.samples).max() < 1


def test_preview_shows_every_portrait_for_as_long_as_the_recording(make_preview, tmp_path, detector):
    portraits, short = [EXAMPLES / f"portrait_{number}.png" for number in (1, 2)], tmp_path / "short.wav"
    write_short_speech(short, 10)
    words = ["--portraits", *portraits, "--speech", short, "--preset", "fast", "--output", tmp_path / "preview.webp"]
    assert make_preview(list(map(str, words))) == 0
    with Image.open(tmp_path / "preview.webp") as preview:
        assert preview.size == (512, 256)
        assert preview.n_frames == 10


def test_preview_of_a_missing_portrait_is_refused(make_preview, tmp_path, capsys):
    assert make_preview(["--portraits", "nobody.png", "--output", str(tmp_path / "preview.webp")]) == 2
    error = capsys.readouterr().err
    assert "make_preview:" in error and "nobody.png" in error
    assert not list(tmp_path.iterdir())


def write_half(picture, file, name):
    file.write(b"half")
    raise KeyboardInterrupt


def test_preview_stays_what_it_was_where_writing_another_is_interrupted(make_preview, tmp_path, monkeypatch):
    preview = tmp_path / "preview.webp"
    preview.write_bytes(b"earlier")
    monkeypatch.setitem(make_preview.__globals__, "render_row", lambda *_: np.zeros((2, 8, 8, 3), np.uint8))
    Image.init()
    monkeypatch.setitem(Image.SAVE_ALL, "WEBP", write_half)
    with pytest.raises(KeyboardInterrupt):
        make_preview(["--output", str(preview)])
    assert preview.read_bytes() == b"earlier" and list(tmp_path.iterdir()) == [preview]


def test_preview_without_a_place_is_refused_before_the_work(make_preview, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(make_preview.__globals__, "DAWNPipeline")
    assert make_preview(["--output", str(tmp_path / "nowhere" / "preview.webp")]) == 2
    assert "`output` lies in a folder that does not exist" in capsys.readouterr().err


def test_preview_of_another_format_is_refused(make_preview, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_preview(["--output", str(tmp_path / "preview.bmp")])
    assert "must end in .webp" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_preview_in_the_readme_is_animated():
    with Image.open(EXAMPLES / "preview.webp") as preview:
        assert preview.n_frames == 4 * FPS
    assert EXAMPLES.joinpath("preview.webp").stat().st_size < 1_000_000


@pytest.mark.slow
def test_two_ray_workers_render_jobs_and_go_on_where_they_were(tmp_path, detector):
    pytest.importorskip("ray")
    write_short_speech(tmp_path / "short.wav", 5)
    given = {"audio": str(tmp_path / "short.wav"), "preset": "fast"}
    jobs = [given | {"image": str(EXAMPLES / f"portrait_{i}.png"), "output": f"{i}.mp4"} for i in (1, 2, 3)]
    jobs.append(given | {"image": "nobody.png", "output": "4.mp4"})
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    words = [
        EXAMPLES / "batch_with_ray.py",
        tmp_path / "jobs.jsonl",
        "--output",
        tmp_path / "videos",
        "--workers",
        "2",
    ]
    times = []
    for _ in range(2):
        subprocess.run([sys.executable, *map(str, words)], check=True)
        with (tmp_path / "videos" / "report.csv").open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["output"])
        assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
        assert rows[3]["reason"] == "`image` does not exist: nobody.png"
        times.append([(tmp_path / "videos" / f"{number}.mp4").stat().st_mtime_ns for number in (1, 2, 3)])
    assert times[0] == times[1]


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path, detector):
    copy_examples(tmp_path)
    notebook = nbformat.read(EXAMPLES / "animate.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs do not belong into the repository"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    for name in ("talking", "fast", "nodding", "both"):
        assert count_video_frames(tmp_path / f"{name}.mp4", FPS) == NUM_FRAMES
