import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.media.videos import read_video
from training.evaluation.side_by_side import CELL_PX, FRAMES_PER_ROW, SHEET_NAME, write_pair, write_sheet

NUM_FRAMES, SIZE_PX = 20, 64


def grey(level: int) -> np.ndarray:
    return np.full((NUM_FRAMES, SIZE_PX, SIZE_PX, 3), level, np.uint8)


def test_film_is_left_and_above_what_was_made(tmp_path):
    folder, sound = tmp_path / "videos", np.zeros(640 * NUM_FRAMES)
    write_sheet(folder, [write_pair(folder, name, grey(40), grey(200), sound) for name in ("a", "b")])
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["a.mp4", "b.mp4", SHEET_NAME]
    frames, _ = read_video(tmp_path / "videos" / "a.mp4")
    assert frames.shape == (NUM_FRAMES, SIZE_PX, 2 * SIZE_PX, 3)
    # the codec's loss
    assert frames[0, :, :60].mean() == pytest.approx(40, abs=4) and frames[0, :, 68:].mean() == pytest.approx(
        200, abs=4
    )
    sheet = np.asarray(Image.open(tmp_path / "videos" / SHEET_NAME))
    assert sheet.shape == (4 * CELL_PX, FRAMES_PER_ROW * CELL_PX, 3)
    assert [int(sheet[row * CELL_PX + 9, 9, 0]) for row in range(4)] == [40, 200, 40, 200]


def test_nothing_is_written_of_no_clip(tmp_path):
    write_sheet(tmp_path / "videos", [])
    assert list(tmp_path.iterdir()) == []
