"""Run the Python of READMEs and model cards in a process of its own, where only some packages are installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
# speech_1.wav lasts 4 s
NUM_FRAMES = 100
# not among what diffusers[torch] and transformers need
OPTIONAL = ("av", "cv2", "einops", "imageio", "librosa", "mediapipe", "scipy", "soundfile")


def python_blocks(markdown: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", markdown, flags=re.DOTALL)


def copy_inputs(folder: Path) -> None:
    """Put a portrait and a recording where examples look for them."""
    shutil.copy(EXAMPLES / "portrait_1.png", folder / "portrait.png")
    shutil.copy(EXAMPLES / "speech_1.wav", folder / "speech.wav")


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
