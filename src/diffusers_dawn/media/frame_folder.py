"""Write the frames of a video as pictures in a folder, with its sound beside them."""

import os
import re
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..records import Waveform

SOUND_NAME = "sound.wav"
_NAMES = re.compile(rf"frame_\d{{6,}}\.png|{re.escape(SOUND_NAME)}")
_PNG_KEY = re.compile(r"[A-Za-z0-9_-]{1,79}")


def check_folder_of_frames(path: str | os.PathLike, name: str = "output") -> None:
    """Refuse a path that is neither free nor a folder of frames, which would be replaced.

    Args:
        path: The folder.
        name: Argument name for error messages.

    Raises:
        ValueError: There is a file, or a folder with other things in it.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"`{name}` has no suffix, so it is a folder of pictures, but there is a file: {path}")
    if not path.is_dir():
        return
    try:
        others = sorted(entry.name for entry in path.iterdir() if not _NAMES.fullmatch(entry.name))
    except OSError as error:
        raise ValueError(f"`{name}` is a folder that cannot be read ({error.strerror}): {path}") from error
    if others:
        raise ValueError(
            f"`{name}` is a directory: {path}; it holds other things than frames ({others[0]}), so the name of a file"
            " or of a new folder is needed"
        )


class FrameFolder:
    """Write pictures `frame_000000.png`, `frame_000001.png`, ..., and `sound.wav`, into a new folder.

    Args:
        folder: The folder.
        metadata: Texts that every picture holds, by their keys.

    Raises:
        ValueError: A key is none of PNG's.
        OSError: The folder cannot be made; of the methods: writing fails.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, str]) -> None:
        self._folder = folder
        self._texts = PngInfo()
        for key, text in metadata.items():
            if not _PNG_KEY.fullmatch(key):
                raise ValueError(f"`metadata` has the key {key!r}, must be 1 to 79 English letters or digits for PNG")
            self._texts.add_itxt(key.capitalize(), text)
        folder.mkdir()

    def write(self, index: int, frame: np.ndarray) -> None:
        """Write a frame.

        Args:
            index: Its number, from 0.
            frame: uint8 array (H, W, 3) or (H, W, 4).
        """
        # of little-changing pictures, the fastest level gives files nearly as small as the best
        Image.fromarray(frame).save(self._folder / f"frame_{index:06}.png", pnginfo=self._texts, compress_level=1)

    def write_sound(self, waveform: Waveform) -> None:
        """Write the sound, in 16 bits."""
        values = np.rint(waveform.samples.clip(-1, 1) * 32767).astype("<i2")
        with wave.open(str(self._folder / SOUND_NAME), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(waveform.sample_rate_hz)
            file.writeframes(values.tobytes())
