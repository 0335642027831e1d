"""What was made beside what was filmed, to look at: a video of each clip, and one picture of all."""

from collections.abc import Sequence
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


def write_pair(folder: Path, name: str, filmed: np.ndarray, made: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Write the video of a clip.

    Args:
        folder: Where; made if it is not there.
        name: The clip's name.
        filmed: uint8 frames (F, S, S, 3).
        made: uint8 frames (F, S, S, 3).
        samples: Its sound at 16 kHz.

    Returns:
        The clip's part of the contact sheet, uint8 (2 * `CELL_PX`, W, 3): a row of what was filmed, and below it one
        of what was made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sound = Waveform(np.asarray(samples, np.float32), SAMPLE_RATE_HZ)
    with VideoWriter(folder / f"{name}.mp4", waveform=sound, metadata={"comment": COMMENT}) as writer:
        writer.write(np.concatenate([filmed, made], axis=2))
    chosen = spread_evenly(len(filmed), FRAMES_PER_ROW)
    return np.concatenate([_row(video[chosen]) for video in (filmed, made)])


def write_sheet(folder: Path, parts: Sequence[np.ndarray]) -> None:
    """Write the contact sheet.

    Args:
        folder: Where; there already if there is something to write.
        parts: A part per clip, see `write_pair`.
    """
    if parts:
        Image.fromarray(np.concatenate(parts)).save(folder / SHEET_NAME)


def _row(frames: np.ndarray) -> np.ndarray:
    cells = [Image.fromarray(frame).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS) for frame in frames]
    # of a short clip, the row ends early
    row = np.zeros((CELL_PX, FRAMES_PER_ROW * CELL_PX, 3), np.uint8)
    row[:, : len(cells) * CELL_PX] = np.concatenate([np.asarray(cell) for cell in cells], axis=1)
    return row
