"""Drawn portraits are people who do not exist, each another one."""

import numpy as np
from PIL import Image

from training.draw_portraits import main


def test_every_portrait_shows_somebody_else_and_stays_when_the_command_goes_on(tmp_path):
    assert main(["--output", str(tmp_path), "--num_portraits", "1"]) == 0
    first = (tmp_path / "drawn_0000.png").read_bytes()
    assert main(["--output", str(tmp_path), "--num_portraits", "2"]) == 0
    assert (tmp_path / "drawn_0000.png").read_bytes() == first
    pictures = [np.asarray(Image.open(path), np.int16) for path in sorted(tmp_path.iterdir())]
    assert len(pictures) == 2 and np.abs(pictures[0] - pictures[1]).mean() > 5


def write_half(picture, file, name):
    file.write(b"half")
    raise KeyboardInterrupt


def test_a_portrait_whose_writing_is_interrupted_is_drawn_by_the_next_run(tmp_path, monkeypatch):
    given = ["--output", str(tmp_path), "--num_portraits", "1"]
    Image.init()
    with monkeypatch.context() as patch:
        patch.setitem(Image.SAVE, "PNG", write_half)
        assert main(given) == 130
    assert main(given) == 0
    with Image.open(tmp_path / "drawn_0000.png") as portrait:
        assert portrait.size == (256, 256)


def test_no_portraits_are_refused(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "out"), "--num_portraits", "0"]) == 2
    assert "`num_portraits` is 0, must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
