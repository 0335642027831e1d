"""How commands of training end."""

import re
from itertools import chain
from pathlib import Path

import pytest

from training.add_denoised_motion import main as add_denoised_motion
from training.add_speech_features import main as add_speech_features
from training.align_speech import main as align_speech
from training.draw_portraits import main as draw_portraits
from training.engine.commands import run
from training.make_examples import main as make_examples
from training.make_open import main as make_open
from training.make_photo_clips import main as make_photo_clips
from training.measure_audio_encoder import main as measure_audio_encoder
from training.pack_morphable_head import main as pack_morphable_head

TRAINING = Path(__file__).parents[3] / "training"
MATERIAL = ("portraits", "films", "speech", "morphable_head")
ALONE = {
    "add_denoised_motion": (add_denoised_motion, ["--dataset", "none", "--pipeline", "none"]),
    "add_speech_features": (add_speech_features, ["--dataset", "none", "--audio_encoder", "none"]),
    "align_speech": (align_speech, ["--recordings", "none", "--grid_names", "--output"]),
    "draw_portraits": (draw_portraits, ["--output"]),
    "make_examples": (make_examples, ["--output"]),
    "make_open": (make_open, [*chain(*((f"--{name}", "none") for name in MATERIAL)), "--work", "none"]),
    "make_photo_clips": (make_photo_clips, ["--portraits", "none", "--morphable_head", "none", "--output"]),
    "measure_audio_encoder": (
        measure_audio_encoder,
        ["--audio_encoder", "none", "--aligned_speech", "none", "--held_out_speakers", "none"],
    ),
    "pack_morphable_head": (pack_morphable_head, ["--face_model", "none", "--output"]),
}


@pytest.fixture
def launched(monkeypatch):
    """The variables that accelerate gives the first of two processes."""
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ALONE)
def test_a_command_that_shares_no_work_refuses_several_processes_before_it_writes(name, launched, tmp_path, capsys):
    main, words = ALONE[name]
    given = [*words, str(tmp_path / "made")] if words[-1] == "--output" else words
    assert main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"{name}: accelerate launched 2 processes, must be one: they would all do the same work; run"
        f" `python training/{name}.py`"
    )
    assert list(tmp_path.iterdir()) == []


def test_only_commands_that_ask_which_process_they_are_share_their_work():
    for path in TRAINING.glob("*.py"):
        source = path.read_text()
        if "commands.run(" in source:
            assert ("shares_work=True" in source) == ("PartialState(" in source), path.name
            assert path.stem in ALONE or "shares_work=True" in source
            assert re.search(rf'commands\.run\(\s*"{path.stem}"', source)


def test_the_first_process_alone_says_it(launched, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert run("draw", lambda: pytest.fail("nothing is done")) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("launched_alone", ["1", "", "many"])
def test_one_process_works_and_so_do_several_that_share_the_work(launched_alone, launched, monkeypatch):
    done = []
    assert run("evaluate", lambda: done.append(1), shares_work=True) == 0
    monkeypatch.setenv("WORLD_SIZE", launched_alone)
    assert run("draw", lambda: done.append(2)) == 0
    assert done == [1, 2]
