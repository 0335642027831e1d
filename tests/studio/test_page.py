"""The studio's page, served on a free port and used by gradio's client, by HTTP, and by the command."""

import itertools
import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from diffusers_dawn import launch_page, make_page
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.options import LABEL
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.studio import jobs, page, server
from diffusers_dawn.studio.controls import Controls
from diffusers_dawn.studio.settings import Settings
from synthetic_media import tone, write_audio

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# gradio looks at its page once it is served, and gives up after 3 s, which is too soon on a busy machine
BUSY, PATIENT = {"_frontend": False}, {"timeout": 120}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    folder = tmp_path_factory.mktemp("page")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    Image.open(EXAMPLES / "portrait_1.png").convert("RGB").save(folder / "portrait.png")
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "blank.png")
    write_audio(folder / "speech.wav", tone(duration_s=0.2)[None], 16_000, "pcm_s16le")
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def url(studio):
    served = make_page(studio, EXAMPLES)
    _, address, _ = launch_page(served, studio, prevent_thread_lock=True, quiet=True, **BUSY)
    yield address
    served.close()


@pytest.fixture
def client(url, tmp_path):
    return Client(url, verbose=False, download_files=tmp_path, httpx_kwargs=PATIENT)


def given(inputs, image="portrait.png", audio="speech.wav"):
    return handle_file(str(inputs / image)), handle_file(str(inputs / audio))


def videos_of(studio):
    return [path for path in studio.folder.rglob("*") if path.suffix == ".mp4" or path.name.startswith(".dawn-")]


def test_the_documented_client_gets_the_studios_video(studio, url, inputs, tmp_path, monkeypatch):
    block = re.search(r"```py\n(.*?)```", (ROOT / "docs" / "studio.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    monkeypatch.chdir(inputs)
    names = {}
    exec(block.replace("http://127.0.0.1:7860/", url).replace("http://127.0.0.1:7860", url), names)
    files = str(inputs / "portrait.png"), str(inputs / "speech.wav")
    usual = {"head_motion": 1, "size": studio.pipe.default_size, "speech_guidance": 1}
    made = studio.animate(*files, Settings(seed=7, preset="fast", **usual))
    assert Path(names["video"]).read_bytes() == made.video.read_bytes()
    assert (names["settings"], names["command"]) == (made.fields, made.command)
    assert "5 frames at" in names["report"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documented_lines_of_curl_get_a_video(url, inputs, tmp_path, studio):
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "studio.md").read_text(encoding="utf-8"), re.DOTALL)
    (lines,) = (block for block in blocks if "curl" in block)
    lines = lines.replace("http://127.0.0.1:7860/", url).replace(", 256, 4,", f", {studio.pipe.default_size}, 4,")
    done = subprocess.run(["bash", "-c", lines], cwd=inputs, capture_output=True, text=True, timeout=120, check=True)
    assert "event: complete" in done.stdout, done
    video_url = re.search(r'"url": ?"([^"]+\.mp4)"', done.stdout)[1]
    (tmp_path / "got.mp4").write_bytes(httpx.get(video_url, **PATIENT).content)
    assert len(read_video(tmp_path / "got.mp4")[0]) == 5


def test_the_api_has_the_named_functions_and_no_others(client):
    functions = client.view_api(return_format="dict")["named_endpoints"]
    assert set(functions) == {"/animate", "/preview", "/cancel"}
    names = [parameter["parameter_name"] for parameter in functions["/animate"]["parameters"]]
    assert names == list(Controls._fields)


@pytest.mark.parametrize(
    ("image", "audio", "sentence"),
    [
        ("blank.png", "speech.wav", "no face found in `Portrait`"),
        ("speech.wav", "speech.wav", "`Portrait`"),
        ("portrait.png", "secret.txt", "`Speech`"),
    ],
)
def test_wrong_files_are_said_and_the_page_goes_on(studio, client, inputs, image, audio, sentence):
    before = videos_of(studio)
    with pytest.raises(AppError, match="^" + sentence) as raised:
        client.predict(*given(inputs, image, audio), api_name="/animate")
    assert str(studio.folder) not in str(raised.value)
    assert videos_of(studio) == before
    assert client.predict(*given(inputs), preset="fast", api_name="/preview")[1]["preset"] == "fast"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed": "abc"}, "`Seed` is 'abc', must be a number"),
        ({"head_motion": -1}, "`Head motion`: Value -1 is less than minimum value 0"),
        ({"preset": "best"}, "`Preset`: .*best"),
        ({"image": 1}, "1 validation error for ImageData"),
    ],
)
def test_settings_that_the_page_cannot_send_are_named(client, inputs, settings, sentence):
    asked = dict(zip(("image", "audio"), given(inputs), strict=True)) | settings
    with pytest.raises(AppError, match="^" + sentence):
        client.predict(**asked, api_name="/animate")


def test_nothing_outside_of_the_page_can_be_read(studio, url, inputs):
    api = url.rstrip("/") + "/gradio_api"
    secret, portrait = inputs / "secret.txt", EXAMPLES / "portrait_1.png"
    assert httpx.get(f"{api}/file={secret}", **PATIENT).status_code == 403
    assert httpx.get(f"{api}/file={portrait}", **PATIENT).status_code == 200
    before = videos_of(studio)
    # a client of our own: gradio's would upload the file
    files = [
        {"path": str(inputs / name), "meta": {"_type": "gradio.FileData"}} for name in ("portrait.png", "speech.wav")
    ]
    values = [*files, 0, "fast", 1, "", studio.pipe.default_size, 1, "", 0, False, 0, 0, 100]
    event = httpx.post(f"{api}/call/animate", json={"data": values}, **PATIENT).json()["event_id"]
    assert "event: error" in httpx.get(f"{api}/call/animate/{event}", **PATIENT).text
    assert videos_of(studio) == before


def seed_of(video):
    with av.open(str(video)) as container:
        return int(re.search(r"seed (\d+)$", container.metadata["comment"])[1])


def test_ten_sessions_at_once_each_get_their_own_video(url, inputs, tmp_path):
    def animate(seed):
        # a session and a folder of its own
        session = Client(url, verbose=False, download_files=tmp_path / str(seed), httpx_kwargs=PATIENT)
        return session.predict(*given(inputs), seed=seed, preset="fast", api_name="/animate")

    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(animate, range(10)))
    assert [fields["seed"] for _, fields, *_ in made] == list(range(10))
    assert [seed_of(video) for video, *_ in made] == list(range(10))


def test_who_comes_when_too_many_wait_is_told(url, inputs, monkeypatch):
    started, enough = threading.Event(), threading.Event()

    def waiting(*_, **__):
        started.set()
        assert enough.wait(120)
        raise ValueError("enough")

    monkeypatch.setattr(jobs, "render", waiting)
    api = url.rstrip("/") + "/gradio_api"
    client = Client(url, verbose=False, httpx_kwargs=PATIENT)
    running = client.submit(*given(inputs), api_name="/animate")
    assert started.wait(120)
    try:
        call = {"data": [None, None, 0, "fast", 1, "", 64, 1, "", 0, False, 0, 0, 100]}
        answers = [httpx.post(f"{api}/call/animate", json=call, **PATIENT) for _ in range(page.MOST_WAITING + 1)]
        assert [answer.status_code for answer in answers[:-1]] == [200] * page.MOST_WAITING
        assert answers[-1].status_code == 503 and "queue is full" in answers[-1].text.lower()
    finally:
        enough.set()
    with pytest.raises(AppError, match="enough"):
        running.result(timeout=120)


def test_a_running_job_is_cancelled_by_its_session_only(studio, url, client, inputs, monkeypatch):
    started, steps = threading.Event(), []

    def endless(*_, follow):
        for step in itertools.count(1):
            started.set()
            steps.append(step)
            follow("denoising", step, 1000)
            threading.Event().wait(0.01)

    monkeypatch.setattr(jobs, "render", endless)
    before = videos_of(studio)
    running = client.submit(*given(inputs), api_name="/animate")
    assert started.wait(120)
    assert Client(url, verbose=False, httpx_kwargs=PATIENT).predict(api_name="/cancel") == ""
    assert not running.done()
    assert client.predict(api_name="/cancel") == "cancelled, nothing was kept"
    # which is said only once it is true
    assert videos_of(studio) == before and studio._running == set()
    with pytest.raises(AppError, match="cancelled, nothing was kept"):
        running.result(timeout=120)


def test_the_label_is_on_where_strangers_come(studio, monkeypatch):
    assert label_of(make_page(studio, EXAMPLES)) == ""
    monkeypatch.setenv("SPACE_ID", "someone/dawn")
    assert label_of(make_page(studio, EXAMPLES)) == LABEL


def label_of(made):
    (value,) = (
        block.value for block in made.blocks.values() if getattr(block, "label", None) == "Label in the picture"
    )
    return value


def test_the_page_loads_nothing_from_elsewhere(url):
    text = httpx.get(url, **PATIENT).text
    text += "".join(httpx.get(url + name, **PATIENT).text for name in ("theme.css", "config"))
    fetched = re.findall(r"""(?:src|href)=["'](https?://[^"']+)|url\(["']?(https?://[^)"']+)""", text)
    assert [place for pair in fetched for place in pair if place and not place.startswith(url)] == []


def test_the_command_serves_the_page_as_told(inputs, monkeypatch, capsys):
    calls = []
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # which is that of the other page again afterwards
    monkeypatch.setattr(page, "launch_page", lambda *told: calls.append(told))
    words = ["studio", "--checkpoint", str(inputs / "tiny"), "--device", "cpu", "--port", "7999", "--mcp"]
    assert main([*words, "--max-seconds", "3", "--max-size", "64"]) == 0
    ((_, studio, *told),) = calls
    assert told == [None, 7999, True] and (studio.max_seconds, studio.max_size) == (3, 64)
    assert not studio.folder.exists()
    assert main(["studio", "--port", "0"]) == 1
    assert "`--port` is 0, must be from 1 to 65535" in capsys.readouterr().err
    assert server.EXAMPLES == EXAMPLES
