import numpy as np
from PIL import Image

from diffusers_dawn import FaceState, Portrait
from diffusers_dawn.face.person import MASK_SIZE_PX, with_person


def portrait(size: int = 128) -> Portrait:
    box = (0.35 * size, 0.65 * size, 0.3 * size, 0.7 * size)
    face = FaceState(np.array([0, 0, 0, 5e-4, 60, 65.0]), np.array([0.3, 0.3]), box, (size, size))
    return Portrait(np.full((size, size, 3), 90, np.uint8), face)


def test_a_head_counts_as_the_person_where_segmentation_sees_nobody():
    person = with_person(portrait(), lambda picture: np.zeros(picture.shape[:2], np.float32)).person
    middle = MASK_SIZE_PX // 2
    assert person.shape == (MASK_SIZE_PX, MASK_SIZE_PX) and person.dtype == np.uint8
    # the whole box, hair above it, and nothing at the border
    assert (person[int(0.3 * MASK_SIZE_PX) : int(0.7 * MASK_SIZE_PX), middle] == 255).all()
    assert person[int(0.17 * MASK_SIZE_PX), middle] == 255
    assert not person[[0, -1]].any() and not person[:, [0, -1]].any()


def test_the_mask_is_that_of_the_whole_picture():
    whole = portrait(512)
    seen = []

    def segment(picture: np.ndarray) -> np.ndarray:
        seen.append(picture)
        return np.linspace(0, 1, MASK_SIZE_PX, dtype=np.float32)[:, None].repeat(MASK_SIZE_PX, 1)

    person = with_person(whole, segment).person
    expected = np.asarray(Image.fromarray(whole.image).resize((MASK_SIZE_PX, MASK_SIZE_PX), Image.Resampling.BOX))
    np.testing.assert_array_equal(seen[0], expected)
    assert person[0, 0] == 0 and person[-1, 0] == 255
