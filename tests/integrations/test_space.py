"""The Space, with and without the package of ZeroGPU."""

import functools
import importlib.util
import multiprocessing
import sys
import types
from pathlib import Path

import gradio
import pytest
import torch
import yaml
from gradio_client import Client, handle_file

from diffusers_dawn import launch_page
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.options import LABEL
from synthetic_media import tone, write_audio

SPACE = Path(__file__).parents[2] / "integrations" / "space"
FORK = multiprocessing.get_context("fork")
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


class ForkingGPU:
    """`spaces.GPU` of spaces 0.51: the first call forks a process, which gets the arguments of all calls, pickled."""

    PATIENCE_S = 300

    def __init__(self):
        self.asked_s, self.processes = [], []

    def __call__(self, duration):
        def wrap(function):
            ours = None

            @functools.wraps(function)
            def wrapped(*arguments):
                nonlocal ours
                self.asked_s.append(duration(*arguments))
                if ours is None:
                    ours, theirs = FORK.Pipe()
                    self.processes.append(FORK.Process(target=serve, args=(theirs, function), daemon=True))
                    self.processes[-1].start()
                ours.send(arguments)
                assert ours.poll(self.PATIENCE_S), "no answer"
                result = ours.recv()
                if isinstance(result, gradio.Error):
                    raise result
                return result

            return wrapped

        return wrap


def serve(connection, function):
    torch.set_num_threads(1)  # threads of OpenMP were not forked
    while True:
        arguments = connection.recv()
        try:
            connection.send(function(*arguments))
        except gradio.Error as error:
            connection.send(error)


def test_zerogpu_lends_a_gpu_for_as_long_as_the_recording_needs(load, tmp_path):
    lent = ForkingGPU()
    app = load(types.SimpleNamespace(GPU=lent))
    animate = {function.api_name: function.fn for function in app.page.fns.values()}["animate"]
    settings = 0, "fast", 1, "", None, 1, "", 0, False, 0, 0, 100
    session = types.SimpleNamespace(session_hash="somebody")
    speech = str(tmp_path / "speech.wav")
    # the second face was not known when the process was forked, in which mediapipe cannot look for it
    for portrait in (PORTRAIT, PORTRAIT.with_name("portrait_2.png")):
        assert "5 frames at" in animate(str(portrait), speech, *settings, session)[3]
    assert lent.asked_s == [16, 16] and len(lent.processes) == 1
    with pytest.raises(gradio.Error, match="must be 256 at most"):
        animate(str(PORTRAIT), speech, *settings[:4], 512, *settings[5:], session)
    # nobody waits for a GPU that is of no use
    with pytest.raises(gradio.Error, match="cannot be read as a picture"):
        animate(speech, speech, *settings, session)
    assert len(lent.asked_s) == 3
    lent.processes[0].kill()
    write_audio(tmp_path / "long.wav", tone(duration_s=30)[None], 16_000, "pcm_s16le")
    assert (app.gpu_seconds(None, str(PORTRAIT)), app.gpu_seconds(None, str(tmp_path / "long.wav"))) == (15, 75)


def test_its_front_matter_is_what_spaces_need():
    _, front, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["sdk"] == "gradio" and (SPACE / facts["app_file"]).is_file()
    assert facts["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert len(facts["short_description"]) <= 60
