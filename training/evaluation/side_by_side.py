"""What was made beside what was filmed, to look at: a video of each clip, and one picture of all."""

from pathlib import Path

import numpy as np
from PIL import Image

from diffusers_dawn.media.video_writer import VideoWriter
from diffusers_dawn.records import SAMPLE_RATE_HZ, Waveform
from training.evaluation.figures import spread_evenly

# of the contact sheet
FRAMES_PER_ROW, CELL_PX = 8, 128
SHEET_NAME = "contact_sheet.png"
COMMENT = "left: filmed; right: synthetic, made by diffusers_dawn"


class SideBySide:
    """Write videos and a contact sheet.

    Args:
        folder: Where; made when there is something to write.
        num_clips: Of how many clips, the first that come.
    """

    def __init__(self, folder: Path, num_clips: int) -> None:
        self._folder, self._num_clips = folder, num_clips
        self._rows: list[np.ndarray] = []

    def add(self, name: str, filmed: np.ndarray, made: np.ndarray, samples: np.ndarray) -> None:
        """Show a clip, or leave it out if there are enough.

        Args:
            name: Its name.
            filmed: uint8 frames (F, S, S, 3).
            made: uint8 frames (F, S, S, 3).
            samples: Its sound at 16 kHz.
        """
        if len(self._rows) == self._num_clips:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        sound = Waveform(np.asarray(samples, np.float32), SAMPLE_RATE_HZ)
        with VideoWriter(self._folder / f"{name}.mp4", waveform=sound, metadata={"comment": COMMENT}) as writer:
            writer.write(np.concatenate([filmed, made], axis=2))
        chosen = spread_evenly(len(filmed), FRAMES_PER_ROW)
        self._rows.append(np.concatenate([_row(video[chosen]) for video in (filmed, made)]))

    def write_sheet(self) -> None:
        """Write the contact sheet: for each clip a row of what was filmed, and below it one of what was made."""
        if self._rows:
            Image.fromarray(np.concatenate(self._rows)).save(self._folder / SHEET_NAME)


def _row(frames: np.ndarray) -> np.ndarray:
    cells = [Image.fromarray(frame).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS) for frame in frames]
    # of a short clip, the row ends early
    row = np.zeros((CELL_PX, FRAMES_PER_ROW * CELL_PX, 3), np.uint8)
    row[:, : len(cells) * CELL_PX] = np.concatenate([np.asarray(cell) for cell in cells], axis=1)
    return row
