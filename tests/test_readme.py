"""The README's Python, run as it is printed."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.cli import main
from diffusers_dawn.media import read_image, read_video
from real_inputs import REAL, needs_real

README = Path(__file__).parents[1] / "README.md"


@needs_real
@pytest.mark.slow
def test_python_blocks_run_in_order(tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--size", "tiny", "-o", "my-dawn"]) == 0
    shutil.copy(REAL / "portrait_1.jpeg", "portrait.png")
    shutil.copy(REAL / "speech_8s.wav", "speech.wav")
    portraits = [Image.fromarray(read_image(REAL / f"portrait_{index}.jpeg")).resize((400, 400)) for index in (1, 2)]
    Image.fromarray(np.concatenate([np.asarray(portrait) for portrait in portraits], axis=1)).save("group.jpg")
    portraits[0].resize((128, 128)).save("square.png")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    frames, fps = read_video("talking.mp4")
    assert (len(frames), fps) == (200, 25)
    assert len(names["out"].frames[0]) == 200
