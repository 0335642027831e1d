import warnings
from dataclasses import replace

import numpy as np
import pytest

from diffusers_dawn import FaceState, Portrait, SquareCrop
from diffusers_dawn.face.crop import portrait_crop, prepare_portrait
from diffusers_dawn.face.upright import find_upright


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def face(height: int, width: int, share: float = 0.55) -> FaceState:
    """A face in the middle that takes this share of the height."""
    half_px = share * height / 2
    box_px = (width / 2 - half_px, width / 2 + half_px, height / 2 - half_px, height / 2 + half_px)
    return FaceState(np.array([0, 0, 0, 4.8e-4, 60, 70]), np.full(2, 0.3), box_px, (height, width))


def changed(**fields) -> FaceState:
    return replace(face(90, 90), **fields)


def no_detector(_: np.ndarray) -> list[FaceState]:
    raise AssertionError("the face is known")


def test_known_face_needs_no_detector_and_a_square_picture_stays_whole():
    portrait = prepare_portrait(picture(90, 90), face(90, 90), None, None, no_detector)
    assert np.array_equal(portrait.image, picture(90, 90))
    assert portrait.crop is None


@pytest.mark.parametrize("yes", [True, np.True_])
def test_a_known_face_is_cropped_if_told_so(yes):
    portrait = prepare_portrait(picture(90, 120), face(90, 120, 0.3), None, yes, no_detector)
    assert portrait.crop == portrait_crop(face(90, 120, 0.3))


def test_small_face_that_was_found_is_cropped_and_a_framed_one_is_not():
    for share, cropped in ((0.2, True), (0.55, False)):
        found = face(200, 200, share)
        portrait = prepare_portrait(picture(200, 200), None, None, None, lambda _, found=found: [found])
        assert (portrait.crop is not None) == cropped


def test_face_is_chosen_by_its_index():
    faces = [face(200, 200), face(200, 200, 0.3)]
    portrait = prepare_portrait(picture(200, 200), None, 1, False, lambda _: faces)
    assert portrait.face.box_px == faces[1].box_px


def test_a_given_square_is_cut_out_even_where_it_sticks_out():
    shown, square = picture(90, 60), SquareCrop(-10, 20, 60)
    portrait = prepare_portrait(shown, face(90, 60, 0.3), None, square, no_detector)
    assert portrait.crop == square and portrait.face.box_px == (26.5, 53.5, 11.5, 38.5)
    assert np.array_equal(portrait.image[:, 10:], shown[20:80, :50])
    assert np.array_equal(portrait.image[:, :10], np.repeat(shown[20:80, :1], 10, axis=1))


@pytest.mark.parametrize("square", [(0, 0, 20), (46, 0, 60), (0, 0, 181), (0, 0, 0), (20, 20, -5)])
def test_a_given_square_holds_the_face_and_is_no_larger_than_twice_the_picture(square):
    with pytest.raises(ValueError, match=r"`crop` is .*, must be a square of at most 180 px .* face, at 45, 45"):
        prepare_portrait(picture(90, 90), face(90, 90), None, SquareCrop(*square), no_detector)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"face_index": "largest"}, "`face_index` is 'largest', must be a whole number from 0"),
        ({"face_index": 1.5}, "`face_index` is 1.5, must be a whole number"),
        ({"face_index": True}, "`face_index` is True, must be a whole number"),
        ({"crop": 5}, "`crop` is 5, must be True, False, None or a SquareCrop"),
        ({"crop": "no"}, "`crop` is 'no', must be True, False, None or a SquareCrop"),
        ({"crop": (1, 2, 3)}, r"`crop` is \(1, 2, 3\), must be"),
        ({"crop": SquareCrop(0.5, 0, 60)}, r"`crop` is SquareCrop\(left=0.5, .* must hold whole numbers \[px\]"),
    ],
)
def test_what_chooses_no_face_or_square_is_an_error_that_names_the_argument(choice, message):
    choice = {"face_index": None, "crop": None} | choice
    with pytest.raises(ValueError, match=message):
        prepare_portrait(picture(90, 90), None, **choice, detect_faces=no_detector)


def test_finished_portrait_is_taken_as_it_is():
    portrait = Portrait(picture(90, 90), face(90, 90))
    assert prepare_portrait(portrait, None, None, None, no_detector) is portrait
    with pytest.raises(ValueError, match="cannot be given with a `Portrait`"):
        prepare_portrait(portrait, face(90, 90), None, None, no_detector)


@pytest.mark.parametrize(
    ("size", "face_state", "face_index", "message"),
    [
        ((80, 90), face(80, 90), None, "`image` is 90x80, must be square"),
        ((90, 90), face(90, 90), 0, "only one of `face` and `face_index`"),
        ((90, 90), replace(face(90, 90), image_size=(80, 80)), None, "`face.image_size`"),
        ((90, 90), changed(image_size=90), None, "`face.image_size` is 90, but"),
        ((90, 90), changed(pose="front"), None, "`face.pose` is front, must be 6 finite numbers"),
        ((90, 90), changed(blink=[[1], [1, 2]]), None, "`face.blink` is .*, must be 2 finite numbers"),
        ((90, 90), changed(pose=np.zeros(5)), None, "`face.pose` is .*, must be 6 finite numbers"),
        ((90, 90), changed(blink=[0.3, np.nan]), None, "`face.blink` is .*, must be 2 finite numbers"),
        ((90, 90), changed(mouth_px=np.zeros((19, 2))), None, "(?s)`face.mouth_px` is .*, must be 20 times 2 finite"),
        ((90, 90), changed(mouth_px=np.zeros(40)), None, "(?s)`face.mouth_px` is .*, must be 20 times 2 finite"),
        ((90, 90), changed(box_px=(20, 20, 30, 60)), None, "`face.box_px` is .* which is 90 high and 90 wide"),
        ((90, 90), changed(box_px=(60, 20, 30, 60)), None, "`face.box_px` is .*, must be .x_min, x_max, y_min, y_max"),
        ((90, 90), changed(box_px=(20, 60, 60, 30)), None, "`face.box_px` is "),
        ((90, 90), changed(box_px=(90, 120, 30, 60)), None, "`face.box_px` is "),
        ((90, 90), changed(box_px=(20, 60, -30, 0)), None, "`face.box_px` is "),
    ],
)
def test_what_does_not_fit_together_is_named(size, face_state, face_index, message):
    with pytest.raises(ValueError, match=message):
        prepare_portrait(picture(*size), face_state, face_index, None, no_detector)


def test_box_may_stick_out_of_the_picture_and_a_mouth_come_as_lists():
    state = changed(box_px=(-5, 95, 20, 60), mouth_px=np.full((20, 2), 45.0).tolist())
    assert prepare_portrait(picture(90, 90), state, None, None, no_detector).face is state
    assert prepare_portrait(picture(90, 90), state, None, True, no_detector).face.mouth_px.shape == (20, 2)


def turned_faces(rolls_deg: dict[int, float], scores: dict[int, float]):
    """A detector that tells by the place of the white corner how many quarters `marked` was turned."""

    def detect(image: np.ndarray) -> list[FaceState]:
        corner = {0: image[0, 0], 1: image[-1, 0], 2: image[-1, -1], 3: image[0, -1]}
        turns = next(turns for turns, pixel in corner.items() if pixel[0] == 255)
        if turns not in rolls_deg:
            return []
        height, width = image.shape[:2]
        found = face(height, width)
        return [replace(found, pose=np.array([0, 0, rolls_deg[turns], 4.8e-4, 60, 70]), score=scores.get(turns))]

    return detect


def marked() -> np.ndarray:
    image = np.zeros((60, 60, 3), np.uint8)
    image[0, 0] = 255
    return image


@pytest.mark.parametrize(
    ("rolls_deg", "scores", "quarter_turns", "message"),
    [
        ({0: 0}, {0: 0.9}, 0, None),
        ({0: 0, 2: 0}, {0: 0.92, 2: 0.95}, 0, None),
        ({0: 0, 2: 0}, {0: 0.85, 2: 0.7}, 0, None),
        ({0: 25, 2: 0}, {0: 0.83, 2: 0.95}, 0, "may not be upright: turned by 180 degrees, a face is found with more"),
        ({0: 0, 2: 0}, {0: 0.7, 2: 0.93}, 2, "turned by 180 degrees"),
        ({0: 0, 2: 0}, {0: 0.75, 2: 0.82}, 0, r"with more certainty (0.82 instead of 0.75)"),
        ({0: 0}, {}, 0, None),  # a detector that does not say how sure it is
        ({0: 90, 3: 0}, {0: 0.4, 3: 0.9}, 3, "turned by 270 degrees"),
        ({0: -90, 1: 0}, {0: 0.4, 1: 0.9}, 1, "turned by 90 degrees"),
        # as certain as before, but no longer lying
        ({0: -86, 1: 0}, {0: 0.8, 1: 0.82}, 1, "turned by 90 degrees"),
        # read wrongly while it lies: the turn that shows it best counts, whatever its roll seemed to be
        ({0: 46, 1: 0, 3: 0}, {0: 0.37, 1: 0.87, 3: 0.69}, 1, "turned by 90 degrees"),
        ({0: 81, 1: 0, 3: 0}, {0: 0.33, 1: 0.88, 3: 0.85}, 1, "turned by 90 degrees"),
        ({0: 90, 3: 0}, {}, 0, "shows a head with a roll of 90 degrees: turn it upright"),
        ({0: 80, 3: 75}, {0: 0.4, 3: 0.9}, 0, "shows a head with a roll of 80 degrees"),
        ({1: 0}, {1: 0.9}, 1, "turned by 90 degrees"),
        ({2: 0}, {2: 0.6}, 0, None),
        ({}, {}, 0, None),
    ],
)
def test_a_head_is_turned_upright_where_that_is_sure_and_else_warned_about(rolls_deg, scores, quarter_turns, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        turns, faces = find_upright(marked(), turned_faces(rolls_deg, scores))
    assert turns == quarter_turns and len(faces) == (quarter_turns in rolls_deg)
    assert [message in str(warning.message) for warning in caught] == ([True] if message else [])


def test_a_portrait_says_how_its_picture_was_turned():
    detector = turned_faces({0: 0, 2: 0}, {0: 0.5, 2: 0.95})
    with pytest.warns(UserWarning, match="turned by 180"):
        portrait = prepare_portrait(marked(), None, None, None, detector)
    assert portrait.quarter_turns == 2 and np.array_equal(portrait.image, np.rot90(marked(), 2))
