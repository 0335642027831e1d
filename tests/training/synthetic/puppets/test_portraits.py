import numpy as np
import pytest
from PIL import Image

from training.synthetic.puppets.portraits import ListedPortrait, draw_portrait, list_portraits, make_worse


def test_dark_and_light_skins_are_drawn_alike():
    portraits = [ListedPortrait(f"light_{index}", "", 200 + 0.01 * index) for index in range(50)]
    portraits.append(ListedPortrait("dark", "", 40))
    rng = np.random.default_rng(0)
    drawn = [draw_portrait(portraits, rng).path for _ in range(200)]
    assert 70 < drawn.count("dark") < 130


def test_pictures_without_a_face_are_listed_with_a_reason(tmp_path, portrait, detector):
    Image.fromarray(portrait).save(tmp_path / "somebody.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "nobody.png")
    (tmp_path / "notes.txt").write_text("no picture")
    found, refused = list_portraits(tmp_path, detector, None)
    assert [(entry.path, entry.identity) for entry in found] == [("somebody.png", "somebody")]
    assert list(refused) == ["nobody.png"] and "face" in refused["nobody.png"]


def test_a_folder_without_faces_is_refused(tmp_path, detector):
    with pytest.raises(ValueError, match="`portraits` .* holds no picture with a face"):
        list_portraits(tmp_path, detector, None)


def test_pictures_become_worse_by_their_seed_alone(portrait):
    versions = [make_worse(portrait, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4)]
    np.testing.assert_array_equal(versions[0], versions[1])
    assert any((version != portrait).any() for version in versions)
    assert all(version.shape == portrait.shape and version.dtype == np.uint8 for version in versions)
