import numpy as np
import pytest
from command_calls import EXAMPLES, write_speech
from PIL import Image

from diffusers_dawn.cli.command import main
from synthetic_media import tone


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny checkpoint, two short recordings, a picture without a face."""
    folder = tmp_path_factory.mktemp("cli")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    write_speech(folder / "speech.wav", tone(duration_s=0.52))
    write_speech(folder / "short.wav", tone(duration_s=0.12))
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "blank.png")
    return folder


@pytest.fixture(scope="session")
def drawn(folder):
    """A large picture with a small drawn face in it."""
    picture = np.full((700, 900, 3), 200, np.uint8)
    picture[200:456, 300:556] = np.asarray(Image.open(EXAMPLES / "portrait_1.png").convert("RGB"))
    Image.fromarray(picture).save(folder / "drawn.png")
    return folder / "drawn.png"
