import copy
import os
import pickle
import subprocess
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_dawn.face.crop import (
    choose_face,
    crop_face_state,
    crop_square,
    is_framed,
    portrait_crop,
    prepare_portrait,
)
from diffusers_dawn.face.detector import INSTALLATION, MediaPipeFaceDetector
from diffusers_dawn.face.upright import find_upright
from diffusers_dawn.media.pictures import read_image
from real_inputs import REAL, needs_real
from shared_cases import CASES, needs_cases

EXAMPLES = Path(__file__).parents[2] / "examples"
PORTRAITS = ("portrait_1.jpeg", "portrait_2.jpeg", "portrait_anime.jpeg")


def test_missing_mediapipe_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match=r"needs mediapipe: pip install mediapipe==0\.10\.14 .*or pass `face`"):
        MediaPipeFaceDetector()


def test_a_mediapipe_without_face_models_is_an_error_that_says_what_to_install(monkeypatch):
    without_models = types.ModuleType("mediapipe")
    without_models.__version__ = "99.0"
    monkeypatch.setitem(sys.modules, "mediapipe", without_models)
    with pytest.raises(ImportError, match=r"mediapipe 99.0 .*pip install mediapipe==0\.10\.14"):
        MediaPipeFaceDetector()


def test_the_version_to_install_is_that_of_the_extra():
    settings = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    assert f"\n    {INSTALLATION.removeprefix('pip install ')};" in settings


def test_a_copy_of_a_detector_is_a_new_one(detector):
    picture = read_image(EXAMPLES / "portrait_1.png")
    assert len(detector(picture)) == 1
    for copied in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        with copied:
            assert copied is not detector and len(copied(picture)) == 1


FORK = """
import os
from pathlib import Path
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.media.pictures import read_image

picture = read_image(Path("examples/portrait_1.png"))
detector = MediaPipeFaceDetector()
assert len(detector(picture)) == 1
for find in (lambda: MediaPipeFaceDetector()(picture), lambda: detector(picture)):
    child = os.fork()
    if not child:
        try:
            find()
        except RuntimeError as error:
            os._exit(7 if "get_context('spawn')" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_after_a_search_is_refused_in_a_sentence_instead_of_hanging(detector):
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", FORK], cwd=root, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["7", "7"], done.stderr


@needs_cases
@pytest.mark.parametrize(("name", "degrees"), [("sideways.png", 270), ("upside_down.png", 180)])
def test_a_lying_portrait_is_turned_upright(detector, name, degrees):
    with pytest.warns(UserWarning, match=f"`image` was turned by {degrees} degrees counter-clockwise"):
        portrait = prepare_portrait(CASES / "sideways_photo" / name, None, None, None, detector)
    assert portrait.quarter_turns == degrees // 90 and abs(portrait.face.pose[2]) < 10


@pytest.mark.parametrize("number", [1, 2])
def test_an_upright_portrait_is_not_turned_and_its_copy_on_the_head_is(detector, number):
    picture = read_image(EXAMPLES / f"portrait_{number}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_upright(picture, detector)[0] == 0
    with pytest.warns(UserWarning, match="turned by"):
        assert find_upright(picture[::-1, ::-1], detector)[0] == 2


def test_a_picture_without_a_face_shows_none(detector):
    assert detector(np.full((240, 320, 3), 128, np.uint8)) == []
    assert detector(np.zeros((1, 1, 3), np.uint8)) == []


@pytest.mark.parametrize(("side", "num_quarters"), [(64, 0), (127, 9)])
def test_quarters_of_a_picture_without_a_face_are_looked_at_unless_they_are_tiny(
    detector, monkeypatch, side, num_quarters
):
    looked_at, look = [], MediaPipeFaceDetector._detect_in
    monkeypatch.setattr(
        MediaPipeFaceDetector, "_detect_in", lambda self, image: looked_at.append(image.shape) or look(self, image)
    )
    assert detector(np.full((side, side, 3), 128, np.uint8)) == []
    assert len(looked_at) == 1 + num_quarters


def test_the_detector_refuses_other_arrays(detector):
    with pytest.raises(ValueError, match="`image` is float64"):
        detector(np.zeros((240, 320, 3)))


def test_threads_that_share_a_detector_find_what_one_alone_finds(detector):
    images = [read_image(EXAMPLES / f"portrait_{index}.png") for index in (1, 2)] * 6
    alone = [detector(image) for image in images[:2]] * 6
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector, images))
    for found, expected in zip(together, alone, strict=True):
        assert len(found) == len(expected) == 1
        np.testing.assert_array_equal(found[0].pose, expected[0].pose)


@needs_real
@pytest.mark.parametrize("name", [*PORTRAITS, "full_body.png"])
def test_one_face_is_found_in_each_real_picture_with_usual_numbers(detector, name):
    image = read_image(REAL / name)
    (face,) = detector(image)
    assert face.num_faces == 1 and face.image_size == image.shape[:2]
    # all four look at the camera, the head tilted a little; see the pose numbers of 3DDFA in the module's method
    assert np.abs(face.pose[:3]).max() < 15
    assert 4.7e-4 < face.pose[3] < 5.4e-4 and 56 < face.pose[4] < 66 and 65 < face.pose[5] < 78
    assert (face.blink > 0.25).all() and (face.blink < 0.45).all()
    x_min, x_max, y_min, y_max = face.box_px
    corner_left, corner_right = face.mouth_px[0], face.mouth_px[6]
    assert x_min < corner_left[0] < corner_right[0] < x_max
    upper, lower = face.mouth_px[3], face.mouth_px[9]
    assert (y_min + y_max) / 2 < upper[1] < lower[1] < y_max


@needs_real
def test_mirroring_a_portrait_negates_yaw_and_roll_and_swaps_the_eyes(detector):
    image = read_image(REAL / "portrait_1.jpeg")
    (face,), (mirrored,) = detector(image), detector(image[:, ::-1])
    np.testing.assert_allclose(mirrored.pose[:3] * (-1, 1, -1), face.pose[:3], atol=2)
    np.testing.assert_allclose(mirrored.blink[::-1], face.blink, atol=0.03)


@needs_real
@pytest.mark.parametrize("name", PORTRAITS)
def test_turning_a_picture_turns_the_roll(detector, name):
    picture = Image.fromarray(read_image(REAL / name))
    (face,) = detector(np.array(picture))
    (turned,) = detector(np.array(picture.rotate(15, Image.Resampling.BICUBIC)))  # counter-clockwise
    assert turned.pose[2] - face.pose[2] == pytest.approx(15, abs=2)


@needs_real
def test_two_portraits_side_by_side_are_two_faces_the_larger_first(detector):
    left, right = (read_image(REAL / name) for name in ("portrait_1.jpeg", "portrait_2.jpeg"))
    faces = detector(np.concatenate([left, right], axis=1))
    assert [face.num_faces for face in faces] == [2, 2]
    assert faces[0].box_px[0] > 450 > faces[1].box_px[1]


@needs_real
@pytest.mark.parametrize("side", [300, 150, 80])
def test_a_small_face_in_a_large_picture_is_found_with_the_same_pose(detector, side):
    portrait = Image.fromarray(read_image(REAL / "portrait_2.jpeg"))
    image = np.full((1200, 1600, 3), 120, np.uint8)
    image[500 : 500 + side, 700 : 700 + side] = np.array(portrait.resize((side, side), Image.Resampling.BICUBIC))
    (face,), (alone,) = detector(image), detector(np.array(portrait))
    box_alone = np.array(alone.box_px) * side / 450 + (700, 700, 500, 500)
    np.testing.assert_allclose(face.box_px, box_alone, atol=max(0.02 * side, 2))
    np.testing.assert_allclose(face.pose[:3], alone.pose[:3], atol=3)
    np.testing.assert_allclose(face.pose[3:], alone.pose[3:], rtol=0.03)


@needs_real
@pytest.mark.parametrize("name", [*PORTRAITS, "full_body.png"])
def test_analysing_the_portrait_crop_agrees_with_the_cropped_state(detector, name):
    image = read_image(REAL / name)
    face = choose_face(detector(image))
    crop = portrait_crop(face)
    moved = crop_face_state(face, crop)
    (again,) = detector(crop_square(image, crop))
    assert is_framed(moved)
    np.testing.assert_allclose(again.box_px, moved.box_px, atol=0.03 * crop.side)
    np.testing.assert_allclose(again.pose[:3], moved.pose[:3], atol=3)


@needs_real
def test_the_detector_is_quiet_and_works_again_after_closing(capfd):
    image = read_image(REAL / "portrait_1.jpeg")
    try:
        fresh = MediaPipeFaceDetector(max_num_faces=1)
    except ImportError as error:
        pytest.skip(str(error))
    first = fresh(image)
    fresh.close()
    np.testing.assert_array_equal(fresh(image)[0].pose, first[0].pose)
    fresh.close()
    assert capfd.readouterr().err == ""
