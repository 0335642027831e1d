import numpy as np
from PIL import Image

from training.evaluation.opening_plot import FILMED_COLOUR, MADE_COLOUR, draw_openings

OPENING = np.sin(np.linspace(0, 9, 40)) ** 2 / 10


def colour_of(name: str) -> np.ndarray:
    grey = round(255 * float(name)) if not name.startswith("#") else None
    return np.array([grey] * 3 if grey is not None else [int(name[at : at + 2], 16) for at in (1, 3, 5)])


def pixels_of(picture: np.ndarray, name: str) -> int:
    return int((np.abs(picture.astype(int) - colour_of(name)).max(axis=-1) < 8).sum())


def test_each_clip_has_its_two_curves_below_the_other(tmp_path):
    clips = [(name, OPENING, OPENING[::-1], 0.5) for name in ("a", "b")]
    notes = draw_openings(tmp_path / "report" / "mouths.png", clips)
    assert notes == ["Curves of the mouth's opening: mouths.png."]
    picture = np.asarray(Image.open(tmp_path / "report" / "mouths.png").convert("RGB"))
    halves = np.array_split(picture, 2)
    for half in halves:
        assert min(pixels_of(half, FILMED_COLOUR), pixels_of(half, MADE_COLOUR)) > 100


def test_frames_without_a_face_leave_a_gap(tmp_path):
    for name, made in (("whole", OPENING), ("gap", np.where(np.arange(40) < 20, np.nan, OPENING))):
        draw_openings(tmp_path / f"{name}.png", [("a", np.zeros(40), made, 0.5)])
    whole, gap = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("whole", "gap"))
    assert pixels_of(gap, MADE_COLOUR) < 0.8 * pixels_of(whole, MADE_COLOUR)


def test_nothing_is_drawn_of_no_clip(tmp_path):
    assert draw_openings(tmp_path / "mouths.png", []) == [] and list(tmp_path.iterdir()) == []
