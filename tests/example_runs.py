"""Run the Python of READMEs and model cards in a process of its own, where only some packages are installed."""

import os
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

from diffusers_dawn.records import FPS

EXAMPLES = Path(__file__).parents[1] / "examples"
# of what examples say, so that none takes long: more than one piece of frames
NUM_FRAMES = 12
# not among what diffusers[torch] and transformers need
OPTIONAL = ("av", "cv2", "einops", "imageio", "librosa", "mediapipe", "peft", "scipy", "soundfile")


def python_blocks(markdown: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", markdown, flags=re.DOTALL)


def write_short_speech(path: Path, num_frames: int = NUM_FRAMES) -> None:
    """Write the beginning of an example's recording, as long as that many frames."""
    with wave.open(str(EXAMPLES / "speech_1.wav")) as whole, wave.open(str(path), "wb") as short:
        short.setparams(whole.getparams())
        short.writeframes(whole.readframes(num_frames * whole.getframerate() // FPS))


def copy_inputs(folder: Path) -> None:
    """Put a portrait and a short recording where examples look for them."""
    shutil.copy(EXAMPLES / "portrait_1.png", folder / "portrait.png")
    write_short_speech(folder / "speech.wav")


def copy_examples(folder: Path) -> None:
    """Copy the inputs among the examples to a folder, made if missing; the recording that is used is a short one."""
    folder.mkdir(exist_ok=True)
    for path in EXAMPLES.glob("*_[0-9].*"):
        shutil.copy(path, folder)
    write_short_speech(folder / "speech_1.wav")


def run_without(missing: tuple[str, ...], source: str, folder: Path, **variables: str) -> str:
    """Run source in a folder where packages are missing, without a network unless told so; return what it printed."""
    # what None stands for counts as not installed
    setup = f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
    environment = (
        os.environ | {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | variables
    )
    command = [sys.executable, "-c", setup + source]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
