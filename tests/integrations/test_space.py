"""The Space, with and without the package of ZeroGPU."""

import functools
import importlib.util
import sys
import types
from pathlib import Path

import gradio
import pytest
import yaml
from gradio_client import Client, handle_file

from diffusers_dawn import launch_page
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.options import LABEL
from synthetic_media import tone, write_audio

SPACE = Path(__file__).parents[2] / "integrations" / "space"
PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait_1.png"


@pytest.fixture
def load(tmp_path, monkeypatch, detector):
    """Load app.py as on a Space, with a tiny checkpoint, and `spaces` as given."""
    assert main(["init", "--size", "tiny", "-o", str(tmp_path / "tiny")]) == 0
    monkeypatch.setenv("DAWN_CHECKPOINT", str(tmp_path / "tiny"))
    monkeypatch.setenv("SPACE_ID", "someone/dawn")
    write_audio(tmp_path / "speech.wav", tone(duration_s=0.2)[None], 16_000, "pcm_s16le")
    loaded = []

    def load(spaces):
        monkeypatch.setitem(sys.modules, "spaces", spaces)
        spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
        app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(app)
        loaded.append(app)
        return app

    yield load
    for app in loaded:
        app.page.close()
        app.studio.close()


def animated(app, folder):
    # gradio's own look at its page gives up too soon on a busy machine
    _, url, _ = launch_page(app.page, app.studio, prevent_thread_lock=True, quiet=True, _frontend=False)
    files = handle_file(str(PORTRAIT)), handle_file(str(folder / "speech.wav"))
    return Client(url, verbose=False, download_files=folder, httpx_kwargs={"timeout": 120}).predict(
        *files, preset="fast", api_name="/animate"
    )


def test_it_renders_without_zerogpu_and_labels_the_video(load, tmp_path):
    _, settings, _, report, _ = animated(load(None), tmp_path)
    assert settings["label"] == LABEL and "5 frames at" in report


def test_zerogpu_lends_a_gpu_for_as_long_as_the_recording_needs(load, tmp_path):
    asked = []

    def gpu(duration):
        def wrap(function):
            @functools.wraps(function)
            def wrapped(*arguments):
                asked.append(duration(*arguments[:-1]))
                return function(*arguments)

            return wrapped

        return wrap

    app = load(types.SimpleNamespace(GPU=gpu))
    functions = {function.api_name: function.fn for function in app.page.fns.values()}
    settings = 0, "fast", 1, "", None, 1, "", 0, False, 0, 0, 100
    session = types.SimpleNamespace(session_hash="somebody")
    made = functions["animate"](str(PORTRAIT), str(tmp_path / "speech.wav"), *settings, session)
    assert "5 frames at" in made[3]
    assert asked == [16] and app.gpu_seconds(None, str(PORTRAIT)) == 15
    write_audio(tmp_path / "long.wav", tone(duration_s=30)[None], 16_000, "pcm_s16le")
    assert app.gpu_seconds(None, str(tmp_path / "long.wav")) == 75


def test_its_front_matter_is_what_spaces_need():
    _, front, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["sdk"] == "gradio" and (SPACE / facts["app_file"]).is_file()
    assert facts["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert len(facts["short_description"]) <= 60
