"""The README's Python, run as it is printed."""

import re
import shlex
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.cli import main
from diffusers_dawn.pictures import read_image
from diffusers_dawn.videos import read_video
from real_inputs import REAL, needs_real

README = Path(__file__).parents[1] / "README.md"
NUM_SECONDS = 3


@pytest.mark.slow
def test_first_command_makes_a_portrait_talk(tmp_path, monkeypatch, detector):
    monkeypatch.chdir(README.parent)
    first = re.search(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)[1]
    (command,) = (line for line in first.splitlines() if line.startswith("dawn "))
    words = shlex.split(command)[1:]
    words[words.index("-o") + 1] = str(tmp_path / "talking.mp4")
    assert main(words) == 0
    frames, fps = read_video(tmp_path / "talking.mp4")
    assert (len(frames), fps) == (100, 25)


@needs_real
@pytest.mark.slow
def test_python_blocks_run_in_order(tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    shutil.copy(REAL / "portrait_1.jpeg", "portrait.png")
    with wave.open(str(REAL / "speech_8s.wav")) as recording, wave.open("speech.wav", "wb") as beginning:
        beginning.setparams(recording.getparams())
        beginning.writeframes(recording.readframes(NUM_SECONDS * recording.getframerate()))
    portraits = [Image.fromarray(read_image(REAL / f"portrait_{index}.jpeg")).resize((400, 400)) for index in (1, 2)]
    Image.fromarray(np.concatenate([np.asarray(portrait) for portrait in portraits], axis=1)).save("group.jpg")
    portraits[0].resize((128, 128)).save("square.png")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    frames, fps = read_video("talking.mp4")
    assert (len(frames), fps) == (NUM_SECONDS * 25, 25)
    assert len(names["out"].frames[0]) == NUM_SECONDS * 25
