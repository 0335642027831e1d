from dataclasses import replace

import numpy as np
import pytest

from diffusers_dawn import FaceState, Portrait
from diffusers_dawn.face.crop import prepare_portrait


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


def test_small_face_that_was_found_is_cropped_and_a_framed_one_is_not():
    for share, cropped in ((0.2, True), (0.55, False)):
        found = face(200, 200, share)
        portrait = prepare_portrait(picture(200, 200), None, None, None, lambda _, found=found: [found])
        assert (portrait.crop is not None) == cropped


def test_face_is_chosen_by_its_index():
    faces = [face(200, 200), face(200, 200, 0.3)]
    portrait = prepare_portrait(picture(200, 200), None, 1, False, lambda _: faces)
    assert portrait.face.box_px == faces[1].box_px


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
