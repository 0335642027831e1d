"""What the scripts of examples/ make."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image

from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ
from training.data.clip_members import encode_wav

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_recordings_are_whole_seconds_of_sound():
    for path in EXAMPLES.glob("speech_*.wav"):
        waveform = read_waveform(path)
        assert waveform.sample_rate_hz == SAMPLE_RATE_HZ and len(waveform.samples) % SAMPLE_RATE_HZ == 0
        assert 0.1 < abs(waveform.samples).max() < 1


def test_preview_shows_every_portrait_for_as_long_as_the_recording(tmp_path, detector):
    script, portraits = EXAMPLES / "make_preview.py", [EXAMPLES / f"portrait_{number}.png" for number in (1, 2)]
    short = tmp_path / "short.wav"
    short.write_bytes(encode_wav(read_waveform(EXAMPLES / "speech_1.wav").samples[: round(0.4 * SAMPLE_RATE_HZ)]))
    words = ["--portraits", *portraits, "--speech", short, "--preset", "fast", "--output", tmp_path / "preview.webp"]
    subprocess.run([sys.executable, script, *map(str, words)], check=True)
    with Image.open(tmp_path / "preview.webp") as preview:
        assert preview.size == (512, 256)
        assert preview.n_frames == 0.4 * FPS


def test_preview_of_a_missing_portrait_is_refused(tmp_path):
    words = ["--portraits", "nobody.png", "--output", str(tmp_path / "preview.webp")]
    command = [sys.executable, str(EXAMPLES / "make_preview.py"), *words]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 2
    assert "make_preview:" in run.stderr and "nobody.png" in run.stderr
    assert not list(tmp_path.iterdir())


def test_preview_of_another_format_is_refused(tmp_path):
    command = [sys.executable, str(EXAMPLES / "make_preview.py"), "--output", str(tmp_path / "preview.bmp")]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 2 and "must end in .webp" in run.stderr
    assert not list(tmp_path.iterdir())


def test_preview_in_the_readme_is_animated():
    with Image.open(EXAMPLES / "preview.webp") as preview:
        assert preview.n_frames == 4 * FPS
    assert EXAMPLES.joinpath("preview.webp").stat().st_size < 1_000_000


@pytest.mark.slow
def test_two_ray_workers_render_jobs_and_go_on_where_they_were(tmp_path, detector):
    pytest.importorskip("ray")
    (tmp_path / "short.wav").write_bytes(
        encode_wav(read_waveform(EXAMPLES / "speech_1.wav").samples[: round(0.2 * SAMPLE_RATE_HZ)])
    )
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
    for path in [EXAMPLES / "animate.ipynb", *EXAMPLES.glob("*_[0-9].*")]:
        shutil.copy(path, tmp_path)
    notebook = nbformat.read(tmp_path / "animate.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs do not belong into the repository"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    for name in ("talking", "fast", "nodding", "both"):
        assert count_video_frames(tmp_path / f"{name}.mp4", FPS) == 4 * FPS
